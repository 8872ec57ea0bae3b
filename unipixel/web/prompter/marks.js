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
  // What is marked on a frame is there.
  const kept = state.marks.filter((m) => !(m.type === 'absent' && isHere(m)));
  setMarks([...kept, { ...mark, object: state.active, frame: state.frame }]);
}

// Marks of the selected object on the shown frame.
const isHere = (mark) => mark.object === state.active && mark.frame === state.frame;

const addPoint = ({ x, y }, label) => addMark({ type: 'point', x: round(x), y: round(y), label });

// The server refuses "not here" for an object that is marked nowhere else.
function canBeAbsent() {
  if (!media() || media().frames.length < 2 || state.active === null) return false;
  const elsewhere = (m) => m.object === state.active && m.frame !== state.frame && m.type !== 'absent' && m.label !== 0;
  return state.known.includes(state.active) || state.marks.some(elsewhere);
}

const isAbsent = () => state.marks.some((m) => m.type === 'absent' && isHere(m));

// Say that the selected object is not on the shown frame, or take that back.
function toggleAbsent() {
  if (!canBeAbsent()) return;
  const others = state.marks.filter((m) => !isHere(m));
  stopPlaying();
  setMarks(isAbsent() ? others : [...others, { type: 'absent', object: state.active, frame: state.frame }]);
}

function showAbsent() {
  const button = $('[data-act="absent"]');
  button.hidden = !canBeAbsent();
  button.setAttribute('aria-pressed', isAbsent());
  const gone = state.marks.filter((m) => m.type === 'absent' && m.frame === state.frame);
  $('.up-badges').replaceChildren(...gone.map(badge));
}

function badge({ object }) {
  const label = document.createElement('span');
  label.className = 'up-badge';
  label.style.setProperty('--c', colorOf(object));
  label.textContent = `@${object} not here`;
  return label;
}

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
  showFollow();
  showTimeline();
  document.dispatchEvent(new CustomEvent('unipixel:selected', { detail: { id: state.active, ids: objectIds() } }));
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

// ------------------------------------------------------------------------------------------- following marks

// A preview stands until the server has put its marks into the bank: while there is one, there is something to follow.
function showFollow() {
  const button = $('[data-act="follow"]');
  const known = state.known.includes(state.active);
  const still = media() && media().frames.length < 2;
  button.textContent = known ? 'Correct' : still ? 'Keep mask' : 'Track';
  button.hidden = ![...state.previews.values()].some((masks) => Object.keys(masks).length);
  $('[data-act="revert"]').hidden = !props.revertible;
  const readings = activeReadings();
  const other = $('[data-act="other"]');
  other.hidden = readings.length < 2;
  other.textContent = `Other mask ${((loneClick() || {}).pick || 0) + 1}/${readings.length}`;
  showAbsent();
}

function follow() {
  say('');
  trigger('followed', {});
}

const revert = () => trigger('reverted', {});

// The active object's only mark on this frame, if it is one including click: the one that can be read in several ways.
function loneClick() {
  const own = state.marks.filter(isHere);
  return own.length === 1 && own[0].type === 'point' && own[0].label ? own[0] : null;
}

const activeReadings = () =>
  (!state.known.includes(state.active) && loneClick() && (state.readings.get(state.frame) || {})[state.active]) || [];

function otherReading() {
  const readings = activeReadings();
  if (readings.length < 2) return;
  const click = loneClick();
  const pick = ((click.pick || 0) + 1) % readings.length;
  state.past.push(state.marks);
  state.future = [];
  state.marks = state.marks.map((m) => (m === click ? { ...m, pick } : m));
  state.previews.get(state.frame)[state.active] = readings[pick];
  publish();
  showObjects();
  draw();
}
