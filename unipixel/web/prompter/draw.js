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

// Pictures of masks on the shown frame by object id; a preview goes before what is known, also where it is empty.
function shownMasks() {
  const masks = { ...state.overlays[state.frame], ...state.previews.get(state.frame) };
  return Object.fromEntries(Object.entries(masks).filter(([id, url]) => url && !state.hidden.has(Number(id))));
}

function paintMasks() {
  const masks = shownMasks();
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
  const drawn = [state.drag, state.pen]
    .filter((from) => from && from.mark)
    .map(({ mark }) => ({ ...mark, object: state.active, frame: state.frame }));
  return [...state.marks, ...drawn].filter((m) => m.frame === state.frame && m.type !== 'absent');
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
  const cursor = document.activeElement === canvas ? state.cursor : null;
  if (cursor) {
    const { x, y } = cursor;
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
  const tip = state.hover || cursor;
  if (tip && isPainting()) {
    ctx.strokeStyle = '#fff';
    ctx.beginPath();
    ctx.arc(tip.x, tip.y, brushRadius(), 0, 2 * Math.PI);
    ctx.stroke();
  }
}

// The object whose mask covers a place of the picture, the topmost first; null if there is none.
const probe = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', {
  willReadFrequently: true,
});

function objectAt({ x, y }) {
  const masks = shownMasks();
  const ids = Object.keys(masks).map(Number);
  ids.sort((a, b) => (b === state.active) - (a === state.active) || b - a);
  const covers = (id) => {
    const mask = image(masks[id]);
    if (!mask) return false;
    probe.clearRect(0, 0, 1, 1);
    const across = mask.naturalWidth / media().width;
    const down = mask.naturalHeight / media().height;
    probe.drawImage(mask, Math.floor(x * across), Math.floor(y * down), 1, 1, 0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data[3] > 0;
  };
  return ids.find(covers) ?? null;
}
