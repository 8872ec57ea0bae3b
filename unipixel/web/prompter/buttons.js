// ------------------------------------------------------------------------------------------- buttons

function setTool(tool) {
  state.tool = tool;
  for (const button of element.querySelectorAll('[data-tool]')) {
    button.setAttribute('aria-pressed', button.dataset.tool === tool);
  }
  element.classList.toggle('up-painting', isPainting());
  element.classList.toggle('up-selecting', tool === 'select');
  draw();
}

const ACTIONS = {
  undo,
  redo,
  clear: () => state.marks.length && setMarks([]),
  new: newObject,
  play: togglePlaying,
  follow,
  other: otherReading,
  absent: toggleAbsent,
  zoomIn: () => zoomBy(1.4),
  zoomOut: () => zoomBy(1 / 1.4),
  fit: resetZoom,
  revert,
  every: () => trigger('filled', {}),
  halt: () => trigger('halted', {}),
  back: () => {
    props.film = null;
    showFilm();
  },
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const { tool, act, object, drop, dip } = button.dataset;
  if (tool) setTool(tool);
  else if (act) ACTIONS[act]();
  else if (object) select(Number(object), true);
  else if (drop) dropDraft(Number(drop));
  else if (dip) nextDip(Number(dip));
});
$('.up-size input').addEventListener('input', (event) => {
  state.brush = event.target.value / 100;
});

// Objects are also chosen in the object list and by their names in the chat.
document.addEventListener('unipixel:select', (event) => goToObject(event.detail.id));
document.addEventListener('click', (event) => {
  const link = event.target.closest && event.target.closest('.up-ref, .up-at, .up-go');
  if (!link) return;
  const { ref, at, of } = Object.fromEntries([...link.className.matchAll(/up-(ref|at|of)-(\d+)/g)].map((m) => [m[1], Number(m[2])]));
  if (ref !== undefined) goToObject(ref);
  else goTo(of, { frame: at });
});

// Which objects are shown is decided in the object list.
document.addEventListener('unipixel:hidden', (event) => {
  state.hidden = new Set(event.detail.ids);
  publish();
  showTimeline();
  draw();
});
