// One trial: images pixel by pixel on a grey page, and the controls of the design.
import { study, make, show, say, answered, report } from './page.js';
import { KEYS } from './screens.js';

const GAP = 16;  // CSS pixels between two images and around them
const CONTROLS = 250;  // CSS pixels in height for all that is not image
const GREY = 400;  // milliseconds of grey between trials
const loaded = new Map();  // number -> promise of a decoded image
let trial = null;  // the one on screen: {state, images, value, shown, sent, overlay}
let generation = 0;
let practised = false;  // whether the trial before was practice

// Whether the largest images of the study fit into the window, in CSS pixels.
export function space() {
  const count = study.side_by_side;
  const ratio = window.devicePixelRatio;
  const need = [
    Math.ceil((count * study.width) / ratio + (count + 1) * GAP),
    Math.ceil(study.height / ratio + CONTROLS),
  ];
  const have = [window.innerWidth, window.innerHeight];
  const enlarged = (window.visualViewport?.scale ?? 1) > 1.01;  // by two fingers
  const problem = enlarged
    ? 'The page is enlarged: please bring two fingers together on it until it has its own size.'
    : `The images need ${need[0]} × ${need[1]}: please enlarge the window, turn the tablet, or `
      + 'reduce the zoom of the browser.';
  return { fits: !enlarged && need[0] <= have[0] && need[1] <= have[1], have, problem };
}

function load(number) {
  if (!loaded.has(number)) {
    loaded.set(number, (async () => {
      for (let pause = 300; ; pause = Math.min(2 * pause, 5000)) {
        const image = new Image();
        image.src = 'image/' + number;
        try {
          await image.decode();
          if (pause > 1200) say('');
          return image;
        } catch {
          if (pause === 1200) report('image_failed');
          if (pause >= 1200) say('An image cannot be loaded; trying again …');
          await new Promise((again) => setTimeout(again, pause));
        }
      }
    })());
    if (loaded.size > 24) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(number);
}

export async function showTrial(state) {
  const mine = ++generation;
  const grey = new Promise((over) => setTimeout(over, trial ? GREY : 0));
  trial = null;
  show(make('p', { class: 'loading', role: 'status' }, ''));
  const originals = await Promise.all([...state.images.map(load), grey]);
  if (mine !== generation) return;
  // An image may be shown on both sides, or twice in a row: every place gets its own element.
  const images = state.images.map((_, i) => {
    const image = originals[i].cloneNode();
    image.alt = state.images.length === 2 ? ['Left image', 'Right image'][i] : 'Image to rate';
    image.draggable = false;
    return image;
  });
  await Promise.all(images.map((image) => image.decode().catch(() => {})));
  if (mine !== generation) return;
  trial = { state, images, value: null, shown: performance.now(), sent: false };
  draw();
  if (practised && !state.training) say('Practice is over; from now on the answers count.');
  practised = state.training;
  state.preload.forEach(load);
}

export function leaveTrial() {
  trial = null;
  generation++;
}

function draw() {
  const { state, images } = trial;
  const next = make('button', { type: 'button', class: 'main', id: 'next', disabled: true, click: submit }, 'Next');
  const count = `${state.trial + 1} of ${state.total}`;
  const bar = make('progress', { max: state.total, value: state.trial, 'aria-label': 'Answers so far' });
  const head = make('header', {}, bar, make('span', {}, count),
    ...(state.training ? [make('span', { class: 'tag' }, 'Practice')] : []));
  const stage = make('div', { class: 'stage' }, ...images);
  const panel = make('div', { class: 'panel' }, ...controls[study.design](), next,
    make('p', { class: 'keys' }, KEYS[study.design]));
  show(make('div', { class: 'trial' }, head, stage, panel),
    make('section', { class: 'card overlay', role: 'alert', hidden: true }, make('h1', {}, 'The images do not fit'), make('p')));
  refit();
  document.querySelector('#scale')?.focus({ preventScroll: true });
}

// One image pixel is one pixel of the screen, and lies on one.
export function refit() {
  if (!trial) return;
  const ratio = window.devicePixelRatio;
  for (const image of trial.images) {
    image.style.width = image.naturalWidth / ratio + 'px';
    image.style.height = image.naturalHeight / ratio + 'px';
    image.style.left = image.style.top = '0px';
  }
  for (const image of trial.images) {  // once all have their sizes, for these move the others
    const box = image.getBoundingClientRect();
    image.style.left = Math.round(box.left * ratio) / ratio - box.left + 'px';
    image.style.top = Math.round(box.top * ratio) / ratio - box.top + 'px';
  }
  const { fits, have, problem } = space();
  const overlay = document.querySelector('.overlay');
  if (!fits && overlay.hidden) report('too_small');
  overlay.hidden = fits;
  overlay.querySelector('p').textContent = `Your window: ${have[0]} × ${have[1]}. ${problem}`;
  document.querySelector('.trial').inert = !fits;
}

function choose(value) {
  trial.value = value;
  document.getElementById('next').disabled = false;
  for (const option of document.querySelectorAll('[data-value]')) {
    const chosen = option.dataset.value === String(value);
    option.setAttribute('aria-pressed', String(chosen));
    if (chosen) option.focus({ preventScroll: true });  // Enter must mean what is seen as chosen
  }
}

function submit() {
  if (!trial || trial.sent || trial.value === null || !space().fits) return;
  trial.sent = true;
  document.getElementById('next').disabled = true;
  const spent = Math.min(Math.round(performance.now() - trial.shown), 2147483647);
  answered(trial.state, trial.value, spent);
}

const option = (value, label, hint) => make('button', {
  type: 'button', 'data-value': value, 'aria-pressed': 'false', click: () => choose(value),
}, make('span', { class: 'hint', 'aria-hidden': 'true' }, hint), label);

const controls = {
  single_stimulus() {
    const scale = make('input', {
      type: 'range', id: 'scale', class: 'untouched', min: 0, max: 100, step: 0.1, value: 50,
      'aria-label': 'Quality from 0, bad, to 100, excellent', 'aria-valuetext': 'not rated yet',
    });
    const take = () => setScale(scale, Number(scale.value));
    scale.addEventListener('input', take);
    scale.addEventListener('pointerup', take);  // where the thumb already was
    const words = study.adjectives.map((word) => make('span', {}, word));
    return [make('div', { class: 'scale' }, scale, make('div', { class: 'words' }, ...words))];
  },
  acr5() {
    const options = study.adjectives.map((word, i) => option(i + 1, word, String(i + 1)));
    return [make('div', { class: 'choices', role: 'group', 'aria-label': 'Quality' }, ...options)];
  },
  pair_choice() {
    trial.images.forEach((image, i) => {
      image.classList.add('pick');
      image.addEventListener('click', () => choose(['left', 'right'][i]));
    });
    return [make('div', { class: 'choices', role: 'group', 'aria-label': 'Which looks better?' },
      option('left', 'Left is better', '←'), option('tie', 'No difference', '↓'),
      option('right', 'Right is better', '→'))];
  },
};

function setScale(scale, value) {
  scale.value = value;
  scale.classList.remove('untouched');
  const at = Number(scale.value);
  const word = study.adjectives[Math.min(Math.floor(at / 20), 4)];
  scale.setAttribute('aria-valuetext', `${at.toFixed(0)}, ${word}`);
  choose(at);
}

const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
const SIDES = { ArrowLeft: 'left', ArrowRight: 'right', ArrowDown: 'tie' };

document.addEventListener('keydown', (event) => {
  if (!trial || trial.sent || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Enter') {
    // On a choice other than the one taken, Enter takes it, as on every button.
    const focused = document.activeElement?.dataset?.value;
    if (!event.repeat && focused && focused !== String(trial.value)) return;
    event.preventDefault();
    if (!event.repeat) submit();
    return;
  }
  const number = /^[1-5]$/.test(event.key) ? Number(event.key) : 0;
  const scale = document.getElementById('scale');
  if (study.design === 'acr5' && number) choose(number);
  else if (study.design === 'pair_choice' && SIDES[event.key]) choose(SIDES[event.key]);
  else if (scale && number) setScale(scale, 20 * number - 10);
  else if (scale && STEPS[event.key]) {
    setScale(scale, Math.min(100, Math.max(0, Number(scale.value) + STEPS[event.key])));
  } else return;
  event.preventDefault();
});
