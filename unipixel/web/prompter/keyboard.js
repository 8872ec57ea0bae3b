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
  const { scale, left, top } = view();
  const [x, y] = [left + cursor.x * scale, top + cursor.y * scale];
  const out = x < 0 || y < 0 || x > canvas.clientWidth || y > canvas.clientHeight;
  if (out) state.centre = { ...cursor }; // a zoomed picture follows the crosshair
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
