// The canvas prompter. Runs once, as the body of a function of (element, trigger, props, server, upload, watch).
//
// Marks live here and reach Python as props.value; the server answers through props: album (all media of the dialogue),
// media (the open one), objects, overlays (masks
// of the bank), preview (mask of the marks just made), next_id and palette. Gradio takes quoted words for events.

const $ = (selector) => element.querySelector(selector);
const canvas = $('canvas');
const ctx = canvas.getContext('2d');
const slider = $('.up-frame');
const statusLine = $('.up-status');

const MAX_OBJECTS = 32;
const DRAG_START = 4; // CSS pixels before a click becomes a box
const HINT = 'Click the object. Right-click excludes, dragging draws a box.';

const state = {
  mediaId: null,
  frame: 0,
  tool: 'point',
  brush: 0.025, // radius as a part of the longer side
  active: null, // object that new marks belong to
  known: [], // ids the server has
  drafts: [], // objects that only have marks so far
  marks: [], // replaced, never changed in place, so that undo can keep the old lists
  past: [],
  future: [],
  drag: null,
  cursor: null, // keyboard crosshair
  pen: null, // what the arrow keys are drawing
  hover: null, // brush outline
  rev: 0,
  awaited: 0, // rev whose preview is still to come
  previews: new Map(), // frame -> {object id: image URI}
  overlays: {},
  timer: null, // of playing
  look: null, // waits until a frame has been in view for a moment
  readings: new Map(), // frame -> {object id: [image URI of the best mask, then of others]}
  hidden: new Set(), // objects that are not shown
  zoom: 1, // 1 shows the whole picture
  centre: null, // the place of the picture in the middle of the canvas, while zoomed
  stamp: null, // of the bank's last change
  left: new Map(), // media id -> what was left on it when another was opened
  wanted: null, // what to show once its medium is open
};

// ------------------------------------------------------------------------------------------- what is known

const media = () => props.media || null;
const colorOf = (id) => {
  const object = (props.objects || []).find((o) => o.id === id);
  const palette = props.palette || [];
  return object ? object.color : palette.length ? palette[(id - 1) % palette.length] : '#4363d8';
};
const objectIds = () => [...new Set([...state.known, ...state.drafts])].sort((a, b) => a - b);
const leftDrafts = () => [...state.left.values()].flatMap(({ drafts }) => drafts);
const nextId = () => Math.max(props.next_id || 1, ...[...objectIds(), ...leftDrafts()].map((id) => id + 1));
const round = (value) => Math.round(value * 100) / 100;

function say(text, wrong = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle('up-wrong', wrong);
}

// ------------------------------------------------------------------------------------------- to the server

function publish() {
  props.value = {
    media_id: state.mediaId,
    frame: state.frame,
    active: state.active,
    rev: state.rev,
    hidden: [...state.hidden],
    marks: JSON.stringify(state.marks), // one string is ten times faster here than nested lists
    elsewhere: Object.fromEntries([...state.left].map(([id, { json }]) => [id, json])),
  };
}

function requestPreview() {
  state.rev += 1;
  publish();
  const marked = state.marks.some((m) => m.frame === state.frame);
  if (marked) {
    state.awaited = state.rev;
    say('Finding the mask…');
  } else {
    state.awaited = 0;
    state.previews.delete(state.frame);
    say(state.marks.length ? '' : HINT);
    showFollow();
  }
  element.classList.toggle('up-waiting', marked);
  if (marked) trigger('marked', { rev: state.rev });
}
