// ------------------------------------------------------------------------------------------- frames

function setFrame(frame) {
  if (!media()) return;
  state.frame = Math.max(0, Math.min(media().frames.length - 1, Math.round(frame)));
  slider.value = state.frame;
  const text = `${state.frame + 1} / ${media().frames.length}`;
  $('.up-count').textContent = text;
  slider.setAttribute('aria-valuetext', `Frame ${text}`);
  element.style.setProperty('--at', (state.frame + 0.5) / media().frames.length);
  publish();
  showFollow();
  draw();
  clearTimeout(state.look);
  state.look = setTimeout(() => state.timer || trigger('viewed', {}), 250);
}

function stopPlaying() {
  clearInterval(state.timer);
  state.timer = null;
  element.classList.remove('up-playing');
  $('[data-act="play"]').setAttribute('aria-label', 'Play');
}

function togglePlaying() {
  if (state.timer) return stopPlaying();
  if (!media() || media().frames.length < 2) return undefined;
  state.timer = setInterval(() => setFrame((state.frame + 1) % media().frames.length), 1000 / (media().fps || 8));
  element.classList.add('up-playing');
  $('[data-act="play"]').setAttribute('aria-label', 'Pause');
  return undefined;
}

slider.addEventListener('input', () => {
  stopPlaying();
  setFrame(Number(slider.value));
});

// ------------------------------------------------------------------------------------------- timeline

const CELLS = { 0: 'up-absent', 1: 'up-visible', 2: 'up-unsure' };

function showTimeline() {
  const shown = (props.objects || []).filter((o) => !state.hidden.has(o.id) && o.strip.length > 1);
  $('.up-timeline').replaceChildren(...shown.map(timelineRow));
  element.classList.toggle('up-tracked', shown.length > 0);
}

function timelineRow(object) {
  const row = document.createElement('div');
  row.className = 'up-track';
  row.style.setProperty('--c', object.color);
  const name = document.createElement('button');
  name.type = 'button';
  name.dataset.object = object.id;
  name.textContent = `@${object.id}`;
  name.setAttribute('aria-pressed', object.id === state.active);
  const strip = document.createElement('div');
  strip.className = 'up-strip';
  strip.dataset.strip = object.id;
  strip.setAttribute('role', 'img');
  const unsure = [...object.strip].filter((sign) => sign === '2').length;
  const seen = [...object.strip].filter((sign) => sign !== '0').length;
  strip.setAttribute('aria-label', `@${object.id}: ${seen} visible, ${unsure} uncertain, ${object.anchors.length} marked`);
  for (const [t, sign] of [...object.strip].entries()) {
    const cell = document.createElement('i');
    cell.className = `${CELLS[sign]}${object.anchors.includes(t) ? ' up-anchor' : ''}`;
    strip.append(cell);
  }
  const dip = document.createElement('button');
  dip.type = 'button';
  dip.className = 'up-dip';
  dip.dataset.dip = object.id;
  dip.textContent = unsure ? `${unsure} ?` : '';
  dip.disabled = !unsure;
  dip.title = 'Next uncertain frame (U)';
  dip.setAttribute('aria-label', 'Next uncertain frame');
  row.append(name, strip, dip);
  return row;
}

// Show the next frame on which an object's mask is uncertain.
function nextDip(id) {
  const object = (props.objects || []).find((o) => o.id === id);
  if (!object) return;
  const dips = [...object.strip].flatMap((sign, t) => (sign === '2' ? [t] : []));
  if (!dips.length) return;
  select(id);
  stopPlaying();
  setFrame(dips.find((t) => t > state.frame) ?? dips[0]);
}

$('.up-timeline').addEventListener('click', (event) => {
  const strip = event.target.closest('.up-strip');
  if (!strip) return;
  const box = strip.getBoundingClientRect();
  stopPlaying();
  select(Number(strip.dataset.strip));
  setFrame(Math.floor(((event.clientX - box.left) / box.width) * media().frames.length));
});

// ------------------------------------------------------------------------------------------- every frame

function showFilling() {
  const at = props.filling;
  element.classList.toggle('up-filling', Boolean(at));
  if (!at) return;
  const bar = $('.up-progress progress');
  bar.max = at.count || 1;
  bar.value = at.done;
  $('.up-progress span').textContent = `${at.done} / ${at.count || '…'}`;
}

function showFilm() {
  const film = $('.up-film');
  const url = props.film ? props.film.url : null;
  element.classList.toggle('up-showing', Boolean(url));
  if (url && film.getAttribute('src') !== url) {
    stopPlaying();
    film.src = url;
    film.currentTime = 0;
    film.play().catch(() => undefined); // a browser may want a click first
  }
  if (!url) {
    film.pause();
    film.removeAttribute('src');
  }
}
