// The header, and what concerns the whole page: its language first.
//
// The server and the widgets write English. In another language every text of the page that is in the list of words is
// exchanged where it stands, also those that arrive later; what people or the model say is left alone.

const ATTRIBUTES = ['title', 'aria-label', 'placeholder', 'alt'];
const SAID = '.up-said, textarea, script, style, [translate="no"]';
const shown = new WeakMap(); // text node or element -> {where: [English, as shown]}

const store = {
  get: () => {
    try {
      return localStorage.getItem('unipixel-language');
    } catch {
      return null; // an embedded page may not be allowed to remember
    }
  },
  set: (value) => {
    try {
      localStorage.setItem('unipixel-language', value);
    } catch {
      // it is asked again next time
    }
  },
};
let language = store.get() || (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');

const escaped = (text) => text.replace(/[.*+?^$()|[\]\\]/g, '\\$&');
const patterns = Object.entries(props.words || {})
  .filter(([english]) => english.includes('{}'))
  .map(([english, other]) => [new RegExp(`^${english.split('{}').map(escaped).join('(.+?)')}$`), other]);

function translate(text) {
  const known = (props.words || {})[text];
  if (known) return known;
  for (const [pattern, other] of patterns) {
    const match = pattern.exec(text);
    if (match) return match.slice(1).reduce((made, part) => made.replace('{}', () => translate(part)), other);
  }
  return text;
}

// Show one text, kept as `where` of `node`, in the language of the page.
function exchange(node, where, current, put) {
  const kept = shown.get(node) || {};
  const [english] = kept[where] && kept[where][1] === current ? kept[where] : [current];
  const trimmed = english.trim();
  const wanted = language === 'en' || !trimmed ? english : english.replace(trimmed, () => translate(trimmed));
  shown.set(node, { ...kept, [where]: [english, wanted] });
  if (wanted !== current) put(wanted);
}

function exchangeAll(root) {
  if (root.nodeType === Node.TEXT_NODE) {
    const parent = root.parentElement;
    if (parent && !parent.closest(SAID)) exchange(root, 'text', root.data, (text) => (root.data = text));
    return;
  }
  if (root.nodeType !== Node.ELEMENT_NODE || root.closest('.up-said, script, style')) return;
  for (const name of ATTRIBUTES) {
    const current = root.getAttribute(name);
    if (current) exchange(root, name, current, (text) => root.setAttribute(name, text));
  }
  root.childNodes.forEach(exchangeAll);
}

function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = wanted === 'zh' ? 'zh-CN' : 'en';
  const button = element.querySelector('.up-language');
  button.textContent = wanted === 'zh' ? 'English' : '中文';
  button.lang = wanted === 'zh' ? 'en' : 'zh';
  exchangeAll(document.body);
}
