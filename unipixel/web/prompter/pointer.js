// ------------------------------------------------------------------------------------------- pointer

const isPainting = () => state.tool === 'brush' || state.tool === 'eraser';
const brushRadius = () => round(state.brush * Math.max(media().width, media().height));

const strokeFrom = ({ x, y }, erase) => ({ type: 'stroke', radius: brushRadius(), erase, points: [[round(x), round(y)]] });
const isFlat = (mark) => mark.type === 'box' && Math.min(mark.x2 - mark.x1, mark.y2 - mark.y1) < 1;

const fingers = new Map(); // pointer id -> its last place on the canvas; two of them pinch

canvas.addEventListener('pointerdown', (event) => {
  if (!media()) return;
  if (event.pointerType === 'touch') {
    fingers.set(event.pointerId, toCanvas(event));
    if (fingers.size === 2) state.drag = null; // the first finger made no mark after all
    if (fingers.size > 1) return draw();
  }
  if (state.drag) return undefined;
  const start = toPicture(event);
  if (!start.inside) return undefined;
  event.preventDefault();
  if (event.button === 1 || state.tool === 'select' || event.altKey) return startPan(event, start);
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  stopPlaying();
  liftPen();
  const excludes = state.tool === 'negative' || event.button === 2 || event.shiftKey || event.ctrlKey;
  state.cursor = null;
  state.drag = { start, excludes, pointer: event.pointerId, x: event.clientX, y: event.clientY, mark: null };
  if (isPainting()) {
    state.drag.mark = strokeFrom(start, state.tool === 'eraser' || excludes);
    draw();
  }
  return undefined;
});

function startPan(event, start) {
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  state.drag = { pan: true, start, pointer: event.pointerId, x: event.clientX, y: event.clientY, moved: false };
}

function movePan(drag, event) {
  drag.moved = drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > DRAG_START;
  if (!drag.moved) return;
  panBy(event.clientX - drag.x, event.clientY - drag.y);
  Object.assign(drag, { x: event.clientX, y: event.clientY });
}

function pinch(event) {
  const [a, b] = [...fingers.values()];
  const spread = Math.hypot(a.x - b.x, a.y - b.y);
  const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  fingers.set(event.pointerId, toCanvas(event));
  const [c, d] = [...fingers.values()];
  panBy((c.x + d.x) / 2 - middle.x, (c.y + d.y) / 2 - middle.y);
  zoomBy(Math.hypot(c.x - d.x, c.y - d.y) / Math.max(spread, 1), { x: (c.x + d.x) / 2, y: (c.y + d.y) / 2 });
}

// While it has the focus the picture takes the wheel; otherwise the page scrolls, unless Ctrl asks for a zoom.
canvas.addEventListener(
  'wheel',
  (event) => {
    if (!media() || !(event.ctrlKey || event.metaKey || document.activeElement === canvas)) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), toCanvas(event));
  },
  { passive: false },
);

canvas.addEventListener('pointermove', (event) => {
  if (!media()) return undefined;
  if (isPainting()) {
    state.hover = toPicture(event);
    draw();
  }
  if (fingers.size === 2 && fingers.has(event.pointerId)) return pinch(event);
  const drag = state.drag;
  if (!drag || event.pointerId !== drag.pointer) return undefined;
  if (drag.pan) return movePan(drag, event);
  if (isPainting()) extendStroke(drag.mark, event);
  else if (!drag.excludes && (drag.mark || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > DRAG_START)) {
    drag.mark = boxBetween(drag.start, toPicture(event));
  }
  return draw();
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
  fingers.delete(event.pointerId);
  const drag = state.drag;
  if (!drag || event.pointerId !== drag.pointer) return;
  state.drag = null;
  if (drag.pan) {
    if (!drag.moved) select(objectAt(drag.start));
    return;
  }
  if (drag.mark && !isFlat(drag.mark)) addMark(drag.mark);
  else addPoint(drag.start, drag.excludes ? 0 : 1);
});

canvas.addEventListener('pointercancel', (event) => {
  fingers.delete(event.pointerId);
  state.drag = null;
  draw();
});
canvas.addEventListener('pointerleave', () => {
  state.hover = null;
  draw();
});
canvas.addEventListener('contextmenu', (event) => event.preventDefault());
