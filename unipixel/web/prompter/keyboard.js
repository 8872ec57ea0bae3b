// ------------------------------------------------------------------------------------------- keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  Enter: () => (state.pen ? liftPen() : press()),
  r: () => (state.pen ? liftPen() : lowerPen('box')),
  n: () => addPoint(crosshair(), 0),
  o: () => newObject(),
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
  v: () => setTool('select'),
  s: () => state.cursor && select(objectAt(state.cursor)),
  a: () => otherReading(),
  h: () => toggleAbsent(),
  c: () => !$('[data-act="follow"]').hidden && follow(),
  C: () => props.revertible && revert(),
  u: () => nextDip(state.active),
  '+': () => zoomBy(1.25),
  '=': () => zoomBy(1.25),
  '-': () => zoomBy(0.8),
  0: () => resetZoom(),
  '?': () => $('.up-keys').togglePopover(),
};

const KEEP_DRAWING = ['Enter', 'r', 'R', '+', '=', '-', '0', '?'];

// What a click at the crosshair would do with the chosen tool.
function press() {
  if (state.tool === 'select') select(objectAt(crosshair()));
  else if (isPainting()) lowerPen('stroke');
  else addPoint(crosshair(), state.tool === 'negative' ? 0 : 1);
}

// The arrows draw from here on, until the pen is lifted.
function lowerPen(type) {
  const from = { ...crosshair() };
  stopPlaying();
  state.pen = { from, mark: type === 'box' ? boxBetween(from, from) : strokeFrom(from, state.tool === 'eraser') };
  say('Arrows draw, Enter sets it, Escape drops it.');
  draw();
}

function movePen() {
  const { from, mark } = state.pen;
  const { x, y } = state.cursor;
  if (mark.type === 'box') state.pen.mark = boxBetween(from, state.cursor);
  else mark.points.push([round(x), round(y)]);
}

function liftPen(keep = true) {
  if (!state.pen) return undefined;
  const { mark } = state.pen;
  state.pen = null;
  if (keep && !isFlat(mark)) return addMark(mark);
  say('');
  return draw();
}

function crosshair() {
  state.cursor = state.cursor || { x: media().width / 2, y: media().height / 2 };
  return state.cursor;
}

function moveCrosshair([dx, dy], far) {
  const cursor = crosshair();
  const step = (far ? 0.05 : 0.01) * Math.max(media().width, media().height);
  cursor.x = Math.max(0, Math.min(media().width - 1, cursor.x + dx * step));
  cursor.y = Math.max(0, Math.min(media().height - 1, cursor.y + dy * step));
  state.hover = null;
  if (state.pen) movePen();
  const { scale, left, top } = view();
  const [x, y] = [left + cursor.x * scale, top + cursor.y * scale];
  const out = x < 0 || y < 0 || x > canvas.clientWidth || y > canvas.clientHeight;
  if (out) state.centre = { ...cursor }; // a zoomed picture follows the crosshair
  draw();
}

canvas.addEventListener('keydown', (event) => {
  if (!media() || event.altKey || event.metaKey) return undefined;
  const { key } = event;
  if (event.ctrlKey && key.toLowerCase() !== 'z' && key !== 'y') return undefined; // leave the browser its shortcuts
  const act = KEYS[key] || KEYS[key.toLowerCase()];
  if (key === 'Escape' ? !state.pen : !(ARROWS[key] || act || /^[1-9]$/.test(key))) return undefined;
  event.preventDefault();
  if (ARROWS[key]) return moveCrosshair(ARROWS[key], event.shiftKey);
  if (key === 'Escape') return liftPen(false);
  if (!KEEP_DRAWING.includes(key)) liftPen();
  return act ? act() : select(objectIds()[key - 1], true);
});
canvas.addEventListener('focus', draw);
canvas.addEventListener('blur', () => {
  liftPen();
  draw();
});
