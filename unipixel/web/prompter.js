// The canvas prompter. Runs once, as the body of a function of (element, trigger, props, server, upload, watch).
//
// Marks live here and reach Python as props.value; the server answers through props: media, objects, overlays (masks
// of the bank), preview (mask of the marks just made), next_id and palette. Gradio takes quoted words for events.

const $ = (selector) => element.querySelector(selector);
const canvas = $('canvas');
const ctx = canvas.getContext('2d');
const slider = $('.up-frame');
const statusLine = $('.up-status');

const MAX_OBJECTS = 32;
const DRAG_START = 4; // CSS pixels before a click becomes a box
const HINT = 'Click the object. Right-click excludes, dragging draws a box.';

const state = {
  mediaId: null,
  frame: 0,
  tool: 'point',
  brush: 0.025, // radius as a part of the longer side
  active: null, // object that new marks belong to
  known: [], // ids the server has
  drafts: [], // objects that only have marks so far
  marks: [], // replaced, never changed in place, so that undo can keep the old lists
  past: [],
  future: [],
  drag: null,
  cursor: null, // keyboard crosshair
  hover: null, // brush outline
  rev: 0,
  awaited: 0, // rev whose preview is still to come
  previews: new Map(), // frame -> {object id: image URI}
  overlays: {},
  timer: null,
};

// ------------------------------------------------------------------------------------------- what is known

const media = () => props.media || null;
const colorOf = (id) => {
  const object = (props.objects || []).find((o) => o.id === id);
  const palette = props.palette || [];
  return object ? object.color : palette.length ? palette[(id - 1) % palette.length] : '#4363d8';
};
const objectIds = () => [...new Set([...state.known, ...state.drafts])].sort((a, b) => a - b);
const nextId = () => Math.max(props.next_id || 1, ...objectIds().map((id) => id + 1));
const round = (value) => Math.round(value * 100) / 100;

function say(text, wrong = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle('up-wrong', wrong);
}

// ------------------------------------------------------------------------------------------- to the server

function publish() {
  props.value = {
    media_id: state.mediaId,
    frame: state.frame,
    active: state.active,
    rev: state.rev,
    marks: JSON.stringify(state.marks), // one string is ten times faster here than nested lists
  };
}

function requestPreview() {
  state.rev += 1;
  publish();
  const marked = state.marks.some((m) => m.frame === state.frame);
  if (marked) {
    state.awaited = state.rev;
    say('Finding the mask…');
  } else {
    state.awaited = 0;
    state.previews.delete(state.frame);
    say(state.marks.length ? '' : HINT);
  }
  element.classList.toggle('up-waiting', marked);
  if (marked) trigger('marked', { rev: state.rev });
}

// ------------------------------------------------------------------------------------------- marks

function setMarks(marks) {
  state.past.push(state.marks);
  state.future = [];
  applyMarks(marks);
}

function applyMarks(marks) {
  state.marks = marks;
  for (const { object } of marks) if (!objectIds().includes(object)) state.drafts.push(object);
  requestPreview();
  showObjects();
  draw();
}

function addMark(mark) {
  if (state.active === null && !newObject()) return;
  setMarks([...state.marks, { ...mark, object: state.active, frame: state.frame }]);
}

const addPoint = ({ x, y }, label) => addMark({ type: 'point', x: round(x), y: round(y), label });

function undo() {
  if (!state.past.length) return;
  state.future.push(state.marks);
  applyMarks(state.past.pop());
}

function redo() {
  if (!state.future.length) return;
  state.past.push(state.marks);
  applyMarks(state.future.pop());
}

function forgetObjects(gone) {
  // Undo must not bring back marks of an object that no longer exists.
  const keep = (marks) => marks.filter((m) => !gone.has(m.object));
  state.marks = keep(state.marks);
  state.past = state.past.map(keep);
  state.future = state.future.map(keep);
  state.drafts = state.drafts.filter((id) => !gone.has(id));
  for (const masks of state.previews.values()) for (const id of gone) delete masks[id];
  publish();
}

// ------------------------------------------------------------------------------------------- objects

function newObject() {
  if (objectIds().length >= MAX_OBJECTS) {
    say(`At most ${MAX_OBJECTS} objects at a time.`, true);
    return false;
  }
  const blank = state.drafts.find((id) => !state.marks.some((m) => m.object === id));
  const id = blank ?? nextId();
  if (blank === undefined) state.drafts.push(id);
  select(id);
  return true;
}

function select(id, jump = false) {
  if (!objectIds().includes(id)) return;
  state.active = id;
  const object = (props.objects || []).find((o) => o.id === id);
  if (jump && object && object.first !== null && !(state.overlays[state.frame] || {})[id]) setFrame(object.first);
  publish();
  showObjects();
  draw();
}

function showObjects() {
  const box = $('.up-chips');
  box.textContent = '';
  for (const id of objectIds()) {
    const chip = document.createElement('button');
    chip.type = 'button';
    chip.className = 'up-chip';
    chip.dataset.object = id;
    chip.style.setProperty('--c', colorOf(id));
    chip.setAttribute('aria-pressed', id === state.active);
    const object = (props.objects || []).find((o) => o.id === id);
    const name = document.createElement('span');
    name.textContent = `@${id}${object && object.label ? ' ' + object.label : ''}`; // text, never markup
    chip.append(name);
    box.append(state.known.includes(id) ? chip : draftChip(id, chip));
  }
  $('[data-act="undo"]').disabled = !state.past.length;
  $('[data-act="redo"]').disabled = !state.future.length;
  $('[data-act="clear"]').disabled = !state.marks.length;
  document.dispatchEvent(new CustomEvent('unipixel:selected', { detail: { id: state.active } }));
}

function draftChip(id, chip) {
  const wrap = document.createElement('span');
  wrap.className = 'up-draft';
  const drop = document.createElement('button');
  drop.type = 'button';
  drop.className = 'up-drop';
  drop.dataset.drop = id;
  drop.textContent = '×';
  drop.setAttribute('aria-label', `Remove object ${id}`);
  wrap.append(chip, drop);
  return wrap;
}

function dropDraft(id) {
  forgetObjects(new Set([id]));
  if (state.active === id) state.active = objectIds().at(-1) ?? null;
  requestPreview();
  showObjects();
  draw();
}

// ------------------------------------------------------------------------------------------- geometry

// The picture is letterboxed in the canvas; `scale` is CSS pixels for one picture pixel.
function view() {
  const m = media();
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const scale = Math.min(width / m.width, height / m.height);
  return { scale, left: (width - m.width * scale) / 2, top: (height - m.height * scale) / 2 };
}

function toPicture(event) {
  const m = media();
  const { scale, left, top } = view();
  const box = canvas.getBoundingClientRect(); // may be scaled by CSS zoom: go through the client size
  const x = ((event.clientX - box.left) * (canvas.clientWidth / box.width) - left) / scale;
  const y = ((event.clientY - box.top) * (canvas.clientHeight / box.height) - top) / scale;
  const clamp = (value, size) => Math.max(0, Math.min(size - 0.01, value));
  return { x: clamp(x, m.width), y: clamp(y, m.height), inside: x >= 0 && y >= 0 && x < m.width && y < m.height };
}

function layout() {
  const m = media();
  const width = canvas.clientWidth;
  const tallest = Math.max(240, Math.min(720, window.innerHeight * 0.62));
  const height = m ? Math.min(tallest, (width * m.height) / m.width) : Math.min(360, tallest);
  canvas.style.height = `${height}px`;
  draw();
}

// ------------------------------------------------------------------------------------------- drawing

const images = new Map(); // URL -> Image

function image(url) {
  if (!images.has(url)) {
    const loading = new Image();
    loading.onload = draw;
    loading.src = url;
    images.set(url, loading);
  }
  const found = images.get(url);
  return found.complete && found.naturalWidth ? found : null;
}

const frameUrl = (t) => {
  const file = media().frames[t];
  return file && (file.url || file);
};

let drawing = false;
function draw() {
  if (drawing) return; // many causes, one repaint
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    paint();
  });
}

function paint() {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  if (!media()) return;
  const { scale, left, top } = view();
  ctx.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
  ctx.beginPath();
  ctx.rect(0, 0, media().width, media().height);
  ctx.clip();
  const picture = image(frameUrl(state.frame));
  if (picture) ctx.drawImage(picture, 0, 0, media().width, media().height);
  paintMasks();
  for (const mark of shownMarks()) paintMark(mark, 1 / scale);
  paintCursor(1 / scale);
}

function paintMasks() {
  const masks = { ...state.overlays[state.frame], ...state.previews.get(state.frame) };
  const ids = Object.keys(masks).map(Number);
  ids.sort((a, b) => (a === state.active) - (b === state.active) || a - b); // the selected one on top
  for (const id of ids) {
    const mask = image(masks[id]);
    if (!mask) continue;
    ctx.globalAlpha = id === state.active || state.active === null ? 1 : 0.7;
    ctx.drawImage(mask, 0, 0, media().width, media().height);
    ctx.globalAlpha = 1;
  }
}

function shownMarks() {
  const drawn = state.drag && state.drag.mark ? [{ ...state.drag.mark, object: state.active, frame: state.frame }] : [];
  return [...state.marks, ...drawn].filter((m) => m.frame === state.frame);
}

// `px` is one CSS pixel in picture units: marks keep their size on every picture.
function paintMark(mark, px) {
  const color = mark.object === null ? colorOf(nextId()) : colorOf(mark.object);
  ctx.save();
  ctx.globalAlpha = mark.object === state.active ? 1 : 0.55;
  ({ point: paintPoint, box: paintBox, stroke: paintStroke })[mark.type](mark, color, px);
  ctx.restore();
}

function paintPoint(mark, color, px) {
  ctx.shadowColor = 'rgb(0 0 0 / 0.5)';
  ctx.shadowBlur = 3;
  ctx.beginPath();
  ctx.arc(mark.x, mark.y, 8 * px, 0, 2 * Math.PI);
  ctx.fillStyle = mark.label ? color : '#fff';
  ctx.fill();
  ctx.shadowBlur = 0;
  ctx.lineWidth = 2 * px;
  ctx.strokeStyle = mark.label ? '#fff' : color;
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(mark.x - 4 * px, mark.y);
  ctx.lineTo(mark.x + 4 * px, mark.y);
  if (mark.label) {
    ctx.moveTo(mark.x, mark.y - 4 * px);
    ctx.lineTo(mark.x, mark.y + 4 * px);
  }
  ctx.stroke();
}

function paintBox(mark, color, px) {
  const box = [mark.x1, mark.y1, mark.x2 - mark.x1, mark.y2 - mark.y1];
  ctx.lineJoin = 'round';
  ctx.lineWidth = 4 * px;
  ctx.strokeStyle = 'rgb(255 255 255 / 0.9)';
  ctx.strokeRect(...box);
  ctx.lineWidth = 2 * px;
  ctx.strokeStyle = color;
  ctx.strokeRect(...box);
}

function paintStroke(mark, color) {
  ctx.globalAlpha *= 0.55;
  ctx.strokeStyle = mark.erase ? '#fff' : color;
  ctx.lineWidth = 2 * mark.radius;
  ctx.lineCap = ctx.lineJoin = 'round';
  ctx.beginPath();
  const [first, ...rest] = mark.points;
  ctx.moveTo(...first);
  for (const point of rest.length ? rest : [[first[0] + 0.001, first[1]]]) ctx.lineTo(...point);
  ctx.stroke();
}

function paintCursor(px) {
  ctx.lineWidth = 1.5 * px;
  if (state.cursor && document.activeElement === canvas) {
    const { x, y } = state.cursor;
    for (const [color, dash] of [['#000', []], ['#fff', [5 * px, 4 * px]]]) {
      ctx.strokeStyle = color;
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(0, y);
      ctx.lineTo(media().width, y);
      ctx.moveTo(x, 0);
      ctx.lineTo(x, media().height);
      ctx.stroke();
    }
    ctx.setLineDash([]);
  }
  if (state.hover && isPainting()) {
    ctx.strokeStyle = '#fff';
    ctx.beginPath();
    ctx.arc(state.hover.x, state.hover.y, brushRadius(), 0, 2 * Math.PI);
    ctx.stroke();
  }
}

// ------------------------------------------------------------------------------------------- pointer

const isPainting = () => state.tool === 'brush' || state.tool === 'eraser';
const brushRadius = () => round(state.brush * Math.max(media().width, media().height));

canvas.addEventListener('pointerdown', (event) => {
  if (!media() || state.drag || event.button === 1) return;
  const start = toPicture(event);
  if (!start.inside) return;
  event.preventDefault();
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  stopPlaying();
  const excludes = state.tool === 'negative' || event.button === 2 || event.shiftKey || event.ctrlKey;
  state.cursor = null;
  state.drag = { start, excludes, pointer: event.pointerId, x: event.clientX, y: event.clientY, mark: null };
  if (isPainting()) {
    const erase = state.tool === 'eraser' || excludes;
    state.drag.mark = { type: 'stroke', radius: brushRadius(), erase, points: [[round(start.x), round(start.y)]] };
    draw();
  }
});

canvas.addEventListener('pointermove', (event) => {
  if (!media()) return;
  if (isPainting()) {
    state.hover = toPicture(event);
    draw();
  }
  const drag = state.drag;
  if (!drag || event.pointerId !== drag.pointer) return;
  if (isPainting()) extendStroke(drag.mark, event);
  else if (!drag.excludes && (drag.mark || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > DRAG_START)) {
    drag.mark = boxBetween(drag.start, toPicture(event));
  }
  draw();
});

function extendStroke(stroke, event) {
  const steps = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const step of steps.length ? steps : [event]) {
    const { x, y } = toPicture(step);
    const [lastX, lastY] = stroke.points.at(-1);
    if (Math.hypot(x - lastX, y - lastY) > Math.max(1, stroke.radius / 4)) stroke.points.push([round(x), round(y)]);
  }
}

const boxBetween = (a, b) => ({
  type: 'box',
  x1: round(Math.min(a.x, b.x)),
  y1: round(Math.min(a.y, b.y)),
  x2: round(Math.max(a.x, b.x)),
  y2: round(Math.max(a.y, b.y)),
});

canvas.addEventListener('pointerup', (event) => {
  const drag = state.drag;
  if (!drag || event.pointerId !== drag.pointer) return;
  state.drag = null;
  const flat = drag.mark && drag.mark.type === 'box' && Math.min(drag.mark.x2 - drag.mark.x1, drag.mark.y2 - drag.mark.y1) < 1;
  if (drag.mark && !flat) addMark(drag.mark);
  else addPoint(drag.start, drag.excludes ? 0 : 1);
});

canvas.addEventListener('pointercancel', () => {
  state.drag = null;
  draw();
});
canvas.addEventListener('pointerleave', () => {
  state.hover = null;
  draw();
});
canvas.addEventListener('contextmenu', (event) => event.preventDefault());

// ------------------------------------------------------------------------------------------- keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  Enter: () => addPoint(crosshair(), 1),
  n: () => addPoint(crosshair(), 0),
  z: () => undo(),
  Z: () => redo(),
  y: () => redo(),
  '[': () => setFrame(state.frame - 1),
  ']': () => setFrame(state.frame + 1),
  ' ': () => togglePlaying(),
  p: () => setTool('point'),
  x: () => setTool('negative'),
  b: () => setTool('brush'),
  e: () => setTool('eraser'),
};

function crosshair() {
  state.cursor = state.cursor || { x: media().width / 2, y: media().height / 2 };
  return state.cursor;
}

function moveCrosshair([dx, dy], far) {
  const cursor = crosshair();
  const step = (far ? 0.05 : 0.01) * Math.max(media().width, media().height);
  cursor.x = Math.max(0, Math.min(media().width - 1, cursor.x + dx * step));
  cursor.y = Math.max(0, Math.min(media().height - 1, cursor.y + dy * step));
  draw();
}

canvas.addEventListener('keydown', (event) => {
  if (!media() || event.altKey || event.metaKey) return;
  const { key } = event;
  if (event.ctrlKey && key.toLowerCase() !== 'z' && key !== 'y') return; // leave the browser its shortcuts
  const act = KEYS[key] || KEYS[key.toLowerCase()];
  if (ARROWS[key]) moveCrosshair(ARROWS[key], event.shiftKey);
  else if (/^[1-9]$/.test(key)) select(objectIds()[key - 1], true);
  else if (act) act();
  else return;
  event.preventDefault();
});
canvas.addEventListener('focus', draw);
canvas.addEventListener('blur', draw);

// ------------------------------------------------------------------------------------------- frames

function setFrame(frame) {
  if (!media()) return;
  state.frame = Math.max(0, Math.min(media().frames.length - 1, Math.round(frame)));
  slider.value = state.frame;
  const text = `${state.frame + 1} / ${media().frames.length}`;
  $('.up-count').textContent = text;
  slider.setAttribute('aria-valuetext', `Frame ${text}`);
  publish();
  draw();
}

function stopPlaying() {
  clearInterval(state.timer);
  state.timer = null;
  element.classList.remove('up-playing');
  $('[data-act="play"]').setAttribute('aria-label', 'Play');
}

function togglePlaying() {
  if (state.timer) return stopPlaying();
  if (!media() || media().frames.length < 2) return undefined;
  state.timer = setInterval(() => setFrame((state.frame + 1) % media().frames.length), 1000 / (media().fps || 8));
  element.classList.add('up-playing');
  $('[data-act="play"]').setAttribute('aria-label', 'Pause');
  return undefined;
}

slider.addEventListener('input', () => {
  stopPlaying();
  setFrame(Number(slider.value));
});

// ------------------------------------------------------------------------------------------- buttons

function setTool(tool) {
  state.tool = tool;
  for (const button of element.querySelectorAll('[data-tool]')) {
    button.setAttribute('aria-pressed', button.dataset.tool === tool);
  }
  element.classList.toggle('up-painting', isPainting());
  draw();
}

const ACTIONS = {
  undo,
  redo,
  clear: () => state.marks.length && setMarks([]),
  new: newObject,
  play: togglePlaying,
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const { tool, act, object, drop } = button.dataset;
  if (tool) setTool(tool);
  else if (act) ACTIONS[act]();
  else if (object) select(Number(object), true);
  else if (drop) dropDraft(Number(drop));
});
$('.up-size input').addEventListener('input', (event) => {
  state.brush = event.target.value / 100;
});

// Objects are also chosen in the object list and by their names in the chat.
document.addEventListener('unipixel:select', (event) => select(event.detail.id, true));
document.addEventListener('click', (event) => {
  const name = event.target.closest && event.target.closest('.up-ref');
  const match = name && /up-ref-(\d+)/.exec(name.className);
  if (match) select(Number(match[1]), true);
});

// ------------------------------------------------------------------------------------------- upload

async function take(file) {
  if (!file) return;
  element.classList.add('up-waiting');
  say('Uploading…');
  try {
    const { path } = await upload(file);
    trigger('opened', { path });
    say('Reading…');
  } catch (error) {
    element.classList.remove('up-waiting');
    say('The upload failed; the file may be too large.', true);
  }
}

for (const input of element.querySelectorAll('input[type="file"]')) {
  input.addEventListener('change', () => {
    take(input.files[0]);
    input.value = ''; // so that the same file can be chosen again
  });
}
element.addEventListener('dragover', (event) => {
  event.preventDefault();
  element.classList.add('up-dragging');
});
element.addEventListener('dragleave', () => element.classList.remove('up-dragging'));
element.addEventListener('drop', (event) => {
  event.preventDefault();
  element.classList.remove('up-dragging');
  take(event.dataTransfer.files[0]);
});
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files].find((f) => /^(image|video)\//.test(f.type));
  if (!file) return;
  event.preventDefault();
  take(file);
});

// ------------------------------------------------------------------------------------------- from the server

function takeMedia() {
  const m = media();
  if ((m ? m.id : null) === state.mediaId) return;
  stopPlaying();
  images.clear();
  Object.assign(state, { mediaId: m ? m.id : null, frame: 0, active: null, known: [], drafts: [], marks: [] });
  Object.assign(state, { past: [], future: [], cursor: null, awaited: 0, overlays: {} });
  state.previews.clear();
  element.classList.remove('up-waiting');
  element.classList.toggle('up-no-media', !m);
  element.classList.toggle('up-still', !m || m.frames.length < 2);
  say(m ? HINT : '');
  if (!m) return publish();
  m.frames.forEach((_, t) => image(frameUrl(t))); // load ahead, so that playing does not flicker
  slider.max = m.frames.length - 1;
  setFrame(m.marks.length ? m.marks[0].frame : 0);
  if (m.marks.length) {
    applyMarks(m.marks);
    select(m.marks[0].object);
  }
  return undefined;
}

function takeObjects() {
  const ids = (props.objects || []).map((o) => o.id);
  const gone = new Set(state.known.filter((id) => !ids.includes(id)));
  state.known = ids;
  state.drafts = state.drafts.filter((id) => !ids.includes(id));
  if (gone.size) forgetObjects(gone);
  if (!objectIds().includes(state.active)) state.active = objectIds().at(-1) ?? null;
}

function takeOverlays() {
  const fresh = props.overlays || {};
  for (const [frame, masks] of state.previews) {
    // A mask of the answer replaces the preview it came from.
    for (const id of Object.keys(masks)) {
      if ((fresh[frame] || {})[id] !== (state.overlays[frame] || {})[id]) delete masks[id];
    }
  }
  state.overlays = fresh;
  const used = new Set(Object.values(fresh).flatMap((masks) => Object.values(masks)));
  for (const url of images.keys()) if (url.startsWith('data:') && !used.has(url)) images.delete(url);
}

function takePreview() {
  const preview = props.preview;
  if (!preview || !state.awaited || preview.rev < state.awaited) return;
  state.awaited = 0;
  element.classList.remove('up-waiting');
  state.previews.set(preview.frame, { ...preview.masks });
  say(preview.note, Boolean(preview.note));
}

function sync() {
  takeMedia();
  takeObjects();
  takeOverlays();
  takePreview();
  showObjects();
  layout();
}

watch(Object.keys({ media: 1, objects: 1, overlays: 1, preview: 1 }), sync); // prop names may not be quoted
watch(Object.keys({ refused: 1 }), () => {
  element.classList.remove('up-waiting');
  say(props.refused.reason, true);
});
new ResizeObserver(layout).observe(element);
window.addEventListener('resize', layout);
element.classList.add('up-no-media', 'up-still');
setTool('point');
sync();
