// ------------------------------------------------------------------------------------------- geometry

const MOST_ZOOM = 12;

// The picture is letterboxed in the canvas; `scale` is CSS pixels for one picture pixel.
function view() {
  const m = media();
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const scale = Math.min(width / m.width, height / m.height) * state.zoom;
  const centre = keepInside(state.centre || { x: m.width / 2, y: m.height / 2 }, width / scale, height / scale);
  return { scale, left: width / 2 - centre.x * scale, top: height / 2 - centre.y * scale, centre };
}

// No more of the canvas stays empty than at rest: `width` x `height` of the picture are in view around `centre`.
function keepInside({ x, y }, width, height) {
  const within = (at, seen, size) => (seen >= size ? size / 2 : Math.max(seen / 2, Math.min(size - seen / 2, at)));
  return { x: within(x, width, media().width), y: within(y, height, media().height) };
}

function toCanvas(event) {
  const box = canvas.getBoundingClientRect(); // may be scaled by CSS zoom: go through the client size
  const ratio = canvas.clientWidth / box.width;
  return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
}

function toPicture(event) {
  const m = media();
  const { scale, left, top } = view();
  const at = toCanvas(event);
  const x = (at.x - left) / scale;
  const y = (at.y - top) / scale;
  const clamp = (value, size) => Math.max(0, Math.min(size - 0.01, value));
  return { x: clamp(x, m.width), y: clamp(y, m.height), inside: x >= 0 && y >= 0 && x < m.width && y < m.height };
}

// Zoom by `factor`; what lies under `at` (a place on the canvas, its middle by default) stays there.
function zoomBy(factor, at = { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 }) {
  if (!media()) return;
  const before = view();
  const held = { x: (at.x - before.left) / before.scale, y: (at.y - before.top) / before.scale };
  state.zoom = Math.max(1, Math.min(MOST_ZOOM, state.zoom * factor));
  const { scale } = view();
  state.centre = { x: held.x + (canvas.clientWidth / 2 - at.x) / scale, y: held.y + (canvas.clientHeight / 2 - at.y) / scale };
  state.centre = view().centre;
  showZoom();
}

function panBy(dx, dy) {
  const { scale, centre } = view();
  state.centre = { x: centre.x - dx / scale, y: centre.y - dy / scale };
  state.centre = view().centre;
  draw();
}

function resetZoom() {
  Object.assign(state, { zoom: 1, centre: null });
  showZoom();
}

function showZoom() {
  $('[data-act="fit"]').textContent = `${Math.round(state.zoom * 100)} %`;
  element.classList.toggle('up-zoomed', state.zoom > 1);
  draw();
}

function layout() {
  const m = media();
  const width = canvas.clientWidth;
  const tallest = Math.max(240, Math.min(720, window.innerHeight * 0.62));
  const height = m ? Math.min(tallest, (width * m.height) / m.width) : Math.min(360, tallest);
  canvas.style.height = `${height}px`;
  draw();
}
