// The example strip: one button an example; the server opens the file and fills in the question.
// The strip lies at the foot of the page, what it opens at the top: so the page goes there.

const grid = element.querySelector('.up-examples');

function card(item, index) {
  const button = document.createElement('button');
  button.type = 'button';
  button.dataset.index = index;
  const picture = document.createElement('img');
  picture.src = item.thumb;
  picture.alt = '';
  const text = document.createElement('span');
  text.textContent = item.title; // text, never markup
  button.append(picture, text);
  return button;
}

grid.replaceChildren(...(props.items || []).map(card));
grid.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  trigger('picked', { index: Number(button.dataset.index) });
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.querySelector('#prompter').scrollIntoView({ block: 'start', behavior: calm ? 'instant' : 'smooth' });
});
