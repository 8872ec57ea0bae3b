// ------------------------------------------------------------------------------------------- the media of the dialogue

const MAX_MEDIA = 8;
const album = () => props.album || [];
const openNumber = () => (album().find((item) => item.id === state.mediaId) || {}).number;

// What concerns one medium: put away when another is opened, taken up again when it comes back.
const blank = () => ({
  frame: 0,
  active: null,
  known: [],
  drafts: [],
  marks: [],
  past: [],
  future: [],
  cursor: null,
  previews: new Map(),
  readings: new Map(),
  overlays: {},
  zoom: 1,
  centre: null,
});

function putAway() {
  if (state.mediaId === null) return;
  const kept = Object.fromEntries(Object.keys(blank()).map((key) => [key, state[key]]));
  state.left.set(state.mediaId, { ...kept, json: JSON.stringify(state.marks), unseen: state.awaited > 0 });
}

// Make `id` the medium that marks belong to; gives what was left on it, if it was open before.
function takeUp(id) {
  putAway();
  const left = state.left.get(id);
  state.left.delete(id);
  Object.assign(state, blank(), { mediaId: id, awaited: 0, stamp: props.stamp });
  if (left) for (const key of Object.keys(blank())) state[key] = left[key];
  return left;
}

function showAlbum() {
  const items = album();
  const strip = $('.up-album');
  for (const id of state.left.keys()) if (!items.some((item) => item.id === id)) state.left.delete(id);
  for (const node of strip.querySelectorAll('.up-medium')) {
    if (items.some((item) => item.id === node.dataset.id)) continue;
    if (node.contains(document.activeElement)) canvas.focus({ preventScroll: true });
    node.remove();
  }
  for (const item of items) {
    const known = strip.querySelector(`[data-id="${item.id}"]`);
    const node = known || strip.insertBefore(thumbnail(item), $('.up-add'));
    node.querySelector('.up-open').setAttribute('aria-pressed', item.id === state.mediaId);
  }
  element.classList.toggle('up-several', items.length > 1);
}

function thumbnail(item) {
  const node = document.createElement('span');
  node.className = 'up-medium';
  node.dataset.id = item.id;
  const open = document.createElement('button');
  open.type = 'button';
  open.className = 'up-open';
  open.dataset.number = item.number;
  open.title = item.title;
  open.setAttribute('aria-label', `Open ${item.title}`);
  const picture = document.createElement('img');
  picture.alt = '';
  picture.src = item.thumb;
  const number = document.createElement('span');
  number.textContent = item.number;
  open.append(picture, number);
  const leave = document.createElement('button');
  leave.type = 'button';
  leave.className = 'up-leave';
  leave.dataset.leave = item.number;
  leave.textContent = '×';
  leave.title = `Remove ${item.title} from the dialogue`;
  leave.setAttribute('aria-label', leave.title);
  node.append(open, leave);
  return node;
}

$('.up-album').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.leave) trigger('removed', { number: Number(button.dataset.leave) });
  else goTo(Number(button.dataset.number), {});
});

// ------------------------------------------------------------------------------------------- going somewhere

// Show a frame or an object of a medium, which is opened first.
function goTo(number, wanted) {
  state.wanted = { number, ...wanted };
  if (number === openNumber()) arrive();
  else trigger('switched', { number });
}

function arrive() {
  if (!state.wanted || state.wanted.number !== openNumber()) return;
  const { frame, object } = state.wanted;
  state.wanted = null;
  if (frame !== undefined) setFrame(frame);
  if (object !== undefined) select(object, true);
}

function goToObject(id) {
  const marked = ({ id: mediaId }) => (state.left.get(mediaId) || blank()).drafts.includes(id);
  const home = album().find((item) => item.ids.includes(id) || marked(item));
  if (objectIds().includes(id) || !home) select(id, true);
  else goTo(home.number, { object: id });
}
