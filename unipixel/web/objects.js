// The object list: shows props.items, sends renames and deletions, and shares the selection with the canvas.

const list = element.querySelector('.up-list');
let selected = null;

function make(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text; // text, never markup
  return node;
}

function row(item) {
  const node = make('li', 'up-item');
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
  text.append(name, make('span', 'up-seen', item.seen));
  const show = make('button', 'up-id', `@${item.id}`);
  show.type = 'button';
  show.dataset.act = 'show';
  show.setAttribute('aria-label', `Select object ${item.id}`);
  const remove = make('button', 'up-delete', '✕');
  remove.type = 'button';
  remove.dataset.act = 'delete';
  remove.title = 'Delete';
  remove.setAttribute('aria-label', `Delete object ${item.id}`);
  node.append(thumb, show, text, remove);
  return node;
}

function render() {
  const items = props.items || [];
  list.replaceChildren(...items.map(row));
  element.querySelector('.up-total').textContent = items.length;
  element.classList.toggle('up-blank', !items.length);
  mark();
}

function mark() {
  for (const node of list.children) node.setAttribute('aria-current', Number(node.dataset.id) === selected);
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
  else if (act === 'clear') trigger('cleared', {});
  else if (node) document.dispatchEvent(new CustomEvent('unipixel:select', { detail: { id: Number(node.dataset.id) } }));
});

document.addEventListener('unipixel:selected', (event) => {
  selected = event.detail.id;
  mark();
});

watch(Object.keys({ items: 1 }), render); // prop names may not be quoted
render();
