// ------------------------------------------------------------------------------------------- names in the question

// Typing "@" in the question box offers the objects; arrows choose, Enter or Tab writes, Escape closes.

let marked = []; // ids of objects that have only marks so far
let choices = [];
let chosen = 0;
const menu = make('ul', 'up-mention');
menu.id = 'up-mention';
menu.setAttribute('role', 'listbox');
menu.setAttribute('aria-label', 'Objects');
menu.hidden = true;

const questionBox = () => document.querySelector('#question textarea');
const typedName = (box) => /(?:^|[^\w@])@([^\s@]{0,30})$/.exec(box.value.slice(0, box.selectionStart));

document.addEventListener('unipixel:selected', (event) => {
  marked = event.detail.ids || [];
});

function candidates(typed) {
  const known = new Map((props.items || []).map((item) => [item.id, item]));
  const all = [...new Set([...known.keys(), ...marked])].sort((a, b) => a - b);
  const named = all.map((id) => known.get(id) || { id, label: '', color: '#7c8aa5' });
  const start = typed.toLowerCase();
  return named.filter(({ id, label }) => String(id).startsWith(start) || label.toLowerCase().includes(start));
}

function offer() {
  const box = questionBox();
  const match = box && document.activeElement === box && typedName(box);
  choices = match ? candidates(match[1]).slice(0, 8) : [];
  chosen = 0;
  showMenu();
}

function showMenu() {
  const box = questionBox();
  menu.hidden = !choices.length;
  if (!box) return;
  if (!menu.isConnected) box.closest('.up-ask').append(menu);
  box.setAttribute('aria-autocomplete', 'list');
  box.setAttribute('aria-controls', menu.id);
  box.setAttribute('aria-expanded', !menu.hidden);
  if (menu.hidden) return box.removeAttribute('aria-activedescendant');
  menu.replaceChildren(
    ...choices.map((item, k) => {
      const entry = make('li', '', `@${item.id} ${item.label}`);
      entry.id = `up-mention-${k}`;
      entry.style.setProperty('--c', item.color);
      entry.setAttribute('role', 'option');
      entry.setAttribute('aria-selected', k === chosen);
      entry.addEventListener('pointerdown', (event) => {
        event.preventDefault();
        write(item);
      });
      return entry;
    }),
  );
  return box.setAttribute('aria-activedescendant', `up-mention-${chosen}`);
}

function write(item) {
  const box = questionBox();
  const match = typedName(box);
  if (!match) return;
  const end = box.selectionStart;
  const start = end - match[1].length - 1;
  box.setRangeText(`@${item.id} `, start, end, 'end');
  box.dispatchEvent(new Event('input', { bubbles: true })); // so that Gradio takes the new text
  choices = [];
  showMenu();
}

const STEPS = { ArrowDown: 1, ArrowUp: -1 };
document.addEventListener('input', (event) => event.target === questionBox() && offer());
document.addEventListener('focusout', (event) => {
  if (event.target !== questionBox()) return;
  choices = [];
  showMenu();
});
document.addEventListener(
  'keydown',
  (event) => {
    if (!choices.length || event.target !== questionBox()) return;
    const { key } = event;
    if (STEPS[key]) {
      chosen = (chosen + STEPS[key] + choices.length) % choices.length;
      showMenu();
    } else if (key === 'Enter' || key === 'Tab') write(choices[chosen]);
    else if (key === 'Escape') {
      choices = [];
      showMenu();
    } else return;
    event.preventDefault();
    event.stopPropagation(); // Enter would send the question
  },
  true,
);
