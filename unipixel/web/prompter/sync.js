// ------------------------------------------------------------------------------------------- from the server

function takeMedia() {
  const m = media();
  if ((m ? m.id : null) === state.mediaId) return;
  stopPlaying();
  images.clear();
  Object.assign(state, { drag: null, pen: null });
  const left = takeUp(m ? m.id : null);
  showZoom();
  element.classList.remove('up-waiting');
  element.classList.toggle('up-no-media', !m);
  element.classList.toggle('up-still', !m || m.frames.length < 2);
  say(m && !state.marks.length ? HINT : '');
  if (!m) return publish();
  m.frames.forEach((_, t) => image(frameUrl(t))); // load ahead, so that playing does not flicker
  slider.max = m.frames.length - 1;
  setFrame(m.marks.length ? m.marks[0].frame : state.frame);
  if (left && left.unseen) requestPreview();
  if (m.marks.length) {
    applyMarks(m.marks);
    select(m.marks[0].object);
  }
  return undefined;
}

function takeObjects() {
  const ids = (props.objects || []).map((o) => o.id);
  const gone = new Set(state.known.filter((id) => !ids.includes(id)));
  state.known = ids;
  state.drafts = state.drafts.filter((id) => !ids.includes(id));
  if (gone.size) forgetObjects(gone);
  if (!objectIds().includes(state.active)) state.active = objectIds().at(-1) ?? null;
}

function takeOverlays() {
  const fresh = props.overlays || {};
  for (const [frame, masks] of state.previews) {
    // A mask of the answer replaces the preview it came from.
    for (const id of Object.keys(masks)) {
      if ((fresh[frame] || {})[id] !== (state.overlays[frame] || {})[id]) delete masks[id];
    }
  }
  state.overlays = fresh;
  // Marks that have become anchors are in the bank's masks now, even where these stayed the same.
  if (props.stamp !== state.stamp) {
    state.stamp = props.stamp;
    for (const { id, anchors } of props.objects || []) for (const t of anchors) delete (state.previews.get(t) || {})[id];
  }
  const readings = [...state.readings.values()].flatMap((byId) => Object.values(byId).flat());
  const used = new Set([...Object.values(fresh).flatMap((masks) => Object.values(masks)), ...readings]);
  for (const url of images.keys()) if (url.startsWith('data:') && !used.has(url)) images.delete(url);
}

function takePreview() {
  const preview = props.preview;
  if (!preview || !state.awaited || preview.rev < state.awaited) return;
  state.awaited = 0;
  element.classList.remove('up-waiting');
  state.previews.set(preview.frame, { ...preview.masks });
  const readings = { ...state.readings.get(preview.frame) };
  for (const [id, others] of Object.entries(preview.others || {})) readings[id] = [preview.masks[id], ...others];
  state.readings.set(preview.frame, readings);
  say(preview.note, Boolean(preview.note));
}

function sync() {
  takeMedia();
  takeObjects();
  takeOverlays();
  takePreview();
  showObjects();
  showAlbum();
  arrive();
  layout();
}

watch(Object.keys({ album: 1, media: 1, objects: 1, overlays: 1, preview: 1 }), sync); // prop names may not be quoted
watch(Object.keys({ filling: 1 }), showFilling);
watch(Object.keys({ film: 1 }), showFilm);
watch(Object.keys({ refused: 1 }), () => {
  element.classList.remove('up-waiting');
  say(props.refused.reason, true);
});
new ResizeObserver(layout).observe(element);
window.addEventListener('resize', layout);
element.classList.add('up-no-media', 'up-still');
setTool('point');
showFollow();
sync();
