// The object list: shows props.items, sends renames and deletions, and shares the selection with the canvas.

const list = element.querySelector('.up-list');
let selected = null;
let solo = null; // the only object that is shown, if any
const hidden = new Set();
const ICONS = {
  hide: '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2.5 10s2.7-5 7.5-5 7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5Z"/><circle cx="10" cy="10" r="2.2"/><path class="up-slash" d="m4 16 12-12"/></svg>',
  solo: '<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="2.4"/><path d="M10 3v2.5M10 14.500v2.5M3 10h2.500M14.500 10H17"/></svg>',
};

function make(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text; // text, never markup
  return node;
}

function row(item) {
  const node = make('li', item.here ? 'up-item' : 'up-item up-away');
  node.dataset.id = item.id;
  node.style.setProperty('--c', item.color);
  const thumb = make('img', 'up-thumb');
  thumb.alt = '';
  if (item.thumb) thumb.src = item.thumb;
  const name = make('input', 'up-name');
  name.value = item.label;
  name.placeholder = 'Give it a name';
  name.maxLength = 60;
  name.setAttribute('aria-label', `Name of object ${item.id}`);
  const text = make('div', 'up-text');
  const facts = make('span', 'up-seen');
  for (const fact of [item.seen, item.origin]) if (fact) facts.append(make('span', '', fact));
  text.append(name, facts);
  const show = make('button', 'up-id', `@${item.id}`);
  show.type = 'button';
  show.dataset.act = 'show';
  show.setAttribute('aria-label', `Select object ${item.id}`);
  const remove = make('button', 'up-delete', '✕');
  remove.type = 'button';
  remove.dataset.act = 'delete';
  remove.title = 'Delete';
  remove.setAttribute('aria-label', `Delete object ${item.id}`);
  node.append(thumb, show, text, toggle(item, 'hide'), toggle(item, 'solo'), remove);
  return node;
}

// Which medium the objects below are on, where there are several.
const heading = (item, before) => (item.title && item.title !== (before || {}).title ? [make('li', 'up-of', item.title)] : []);

// The buttons that hide an object or show it alone.
function toggle(item, act) {
  const on = act === 'hide' ? hidden.has(item.id) : solo === item.id;
  const button = make('button', `up-toggle up-${act}`);
  button.type = 'button';
  button.dataset.act = act;
  button.innerHTML = ICONS[act];
  button.setAttribute('aria-pressed', on);
  button.title = act === 'hide' ? (on ? 'Show' : 'Hide') : 'Show only this';
  button.setAttribute('aria-label', `${button.title}: @${item.id}`);
  return button;
}

function shareHidden() {
  const alone = (props.items || []).find((item) => item.id === solo);
  const unseen = (props.items || [])
    .filter(({ id, medium }) => (alone && alone.medium === medium ? id !== solo : hidden.has(id)))
    .map(({ id }) => id);
  document.dispatchEvent(new CustomEvent('unipixel:hidden', { detail: { ids: unseen } }));
}

function switchShown(act, id) {
  if (act === 'solo') solo = solo === id ? null : id;
  else if (!hidden.delete(id)) hidden.add(id);
  render();
}

function render() {
  const items = props.items || [];
  const ids = items.map((item) => item.id);
  for (const id of hidden) if (!ids.includes(id)) hidden.delete(id);
  if (!ids.includes(solo)) solo = null;
  list.replaceChildren(...items.flatMap((item, k) => [...heading(item, items[k - 1]), row(item)]));
  shareHidden();
  element.querySelector('.up-total').textContent = items.length;
  element.classList.toggle('up-blank', !items.length);
  mark();
}

function mark() {
  for (const node of list.querySelectorAll('.up-item')) node.setAttribute('aria-current', Number(node.dataset.id) === selected);
}

list.addEventListener('change', (event) => {
  const node = event.target.closest('.up-item');
  trigger('renamed', { id: Number(node.dataset.id), label: event.target.value });
});
list.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target.matches('input')) event.target.blur();
});

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  const node = event.target.closest('.up-item');
  const act = button ? button.dataset.act : '';
  if (act === 'delete') trigger('deleted', { id: Number(node.dataset.id) });
  else if (act === 'hide' || act === 'solo') switchShown(act, Number(node.dataset.id));
  else if (act === 'clear') trigger('cleared', {});
  else if (node) document.dispatchEvent(new CustomEvent('unipixel:select', { detail: { id: Number(node.dataset.id) } }));
});

document.addEventListener('unipixel:selected', (event) => {
  selected = event.detail.id;
  mark();
});

watch(Object.keys({ items: 1 }), render); // prop names may not be quoted
render();
