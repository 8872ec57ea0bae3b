// ------------------------------------------------------------------------------------------- the dialogue

const DOES = { '.up-at': 'Go to frame', '.up-ref': 'Select object', '.up-go': 'Open' };

// What is in the dialogue came as sanitised HTML: names of objects and frames get their roles here, and what a screen
// reader says of a message is its text, not its markup.
function describe(root) {
  if (root.nodeType !== Node.ELEMENT_NODE) return;
  const within = (selector) => [...(root.matches(selector) ? [root] : []), ...root.querySelectorAll(selector)];
  for (const name of within('.up-ref, .up-at, .up-go')) {
    if (name.tabIndex === 0) continue;
    name.tabIndex = 0;
    name.setAttribute('role', 'button');
    const [, does] = Object.entries(DOES).find(([kind]) => name.matches(kind));
    name.setAttribute('aria-label', `${does} ${name.textContent}`);
  }
  for (const message of within('#chat [aria-label*="<"]')) readAsText(message);
  // Whoever has scrolled back still sees why a question was not answered.
  for (const reason of within('.up-refused')) requestAnimationFrame(() => scrollToEnd(reason.closest('[role="log"]')));
}

function scrollToEnd(log) {
  if (log) log.scrollTop = log.scrollHeight;
}

function readAsText(node) {
  const label = node.getAttribute('aria-label');
  if (!label || !label.includes('<')) return;
  const text = new DOMParser().parseFromString(label, 'text/html').body.textContent;
  node.setAttribute('aria-label', text.replace(/\s+/g, ' ').trim());
}

document.addEventListener('keydown', (event) => {
  const name = event.target.closest && event.target.closest('.up-ref, .up-at, .up-go');
  if (!name || (event.key !== 'Enter' && event.key !== ' ')) return;
  event.preventDefault();
  name.click();
});

// ------------------------------------------------------------------------------------------- the page as it changes

new MutationObserver((changes) => {
  for (const { type, target, addedNodes } of changes) {
    if (type === 'childList') addedNodes.forEach((node) => [describe(node), exchangeAll(node)]);
    else if (type === 'characterData') exchangeAll(target);
    else {
      if (target.closest('#chat')) readAsText(target);
      for (const name of ATTRIBUTES) {
        const current = target.getAttribute(name);
        if (current) exchange(target, name, current, (text) => target.setAttribute(name, text));
      }
    }
  }
}).observe(document.body, { childList: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES, subtree: true });

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.act === 'theme') document.body.classList.toggle('dark');
  else {
    setLanguage(language === 'zh' ? 'en' : 'zh');
    store.set(language);
  }
});

element.querySelector('.up-model').textContent = props.model;
describe(document.body);
setLanguage(language);
