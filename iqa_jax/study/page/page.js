// The flow of a rating study: what comes next is always what the server says.
import { screens } from './screens.js';
import { showTrial, leaveTrial, refit } from './trial.js';

const STORE = 'iqa_jax ' + location.pathname;
const PATIENCE = 20000;  // milliseconds until a request without an answer is sent again
const notice = document.getElementById('notice');
const main = document.getElementById('screen');
export const study = {};  // facts and words of the study, filled at the start
let key = '';
let current = null;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export function say(sentence) {
  notice.textContent = sentence;
}

// Text enters the page as text alone, so no label can carry markup.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

export function show(...children) {
  main.replaceChildren(...children);
  main.setAttribute('aria-label', main.querySelector('h1, header span')?.textContent || study.title?.join(' ') || '');
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

export function screenFacts() {
  const facts = {
    device_pixel_ratio: window.devicePixelRatio,
    window_width: Math.max(1, window.innerWidth),
    window_height: Math.max(1, window.innerHeight),
    screen_width: Math.max(1, screen.width),
    screen_height: Math.max(1, screen.height),
    zoom: Math.max(0.01, Math.round((100 * window.outerWidth) / window.innerWidth) / 100 || 1),
    touch: navigator.maxTouchPoints > 0 ? 1 : 0,
  };
  return facts;
}

// Sends until the server has answered: what it acknowledged is on its disk.
export async function send(name, body = {}, tell = say) {
  const data = JSON.stringify({ rater: key, ...body });
  const headers = { 'Content-Type': 'application/json' };
  for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
    try {
      const signal = AbortSignal.timeout?.(PATIENCE);  // a connection can hang without an error
      const response = await fetch(name, { method: 'POST', headers, body: data, signal });
      if (response.status < 500) {
        const found = await response.json();
        tell('');
        return { status: response.status, body: found };
      }
    } catch { /* no connection: the same as a server that is restarted */ }
    tell('No connection. Nothing is lost; trying again …');
    await wait(pause);
  }
}

export function report(kind) {
  if (key) send('event', { kind, screen: screenFacts() }, () => {});
}

// `stored`: what a later visit of the first page finds.
function remember(value, stored = value) {
  key = value;
  history.replaceState(null, '', value ? '#' + value : location.pathname);
  try {
    if (stored) localStorage.setItem(STORE, stored);
    else localStorage.removeItem(STORE);
  } catch { /* a browser that keeps nothing still has the address */ }
}

export function remembered() {
  try {
    return localStorage.getItem(STORE) || '';
  } catch {
    return '';
  }
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  remember([...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(''));
}

// Leaves the rater of this page; of `stored`, if there is one, the browser still knows.
export function forget(stored = '') {
  remember('', stored);
}

export function startOver(stored = '') {
  forget(stored);
  leaveTrial();
  say('');
  screens.consent();
}

export async function refresh() {
  const { status, body } = await send('state');
  if (status === 403) startOver();
  else follow(body);
}

// Shows the step that the server named.
export function follow(state) {
  current = state;
  if (state.step !== 'trial') leaveTrial();
  if (state.step === 'trial') showTrial(state);
  else screens[state.step](state);
}

async function answered(state, value, milliseconds) {
  const place = { session: state.session, trial: state.trial };
  const { status, body } = await send('answer', { ...place, value, milliseconds });
  if (body.answer === 'different') {
    follow(body);
    say('This was already answered in another window; the first answer counts.');
  } else if (status === 200) follow(body);
  else await refresh();
}
export { answered };

let resized = 0;
window.addEventListener('resize', () => {
  refit();
  clearTimeout(resized);
  resized = setTimeout(() => { if (current && current.step === 'trial') report('screen'); }, 1000);
});
// Two fingers enlarge the page without a change of the window.
window.visualViewport?.addEventListener('resize', () => window.dispatchEvent(new Event('resize')));

// Another window may have gone on meanwhile.
document.addEventListener('visibilitychange', async () => {
  if (!current || current.step !== 'trial') return;
  if (document.hidden) { report('hidden'); return; }
  const { status, body } = await send('state');
  const same = ['step', 'session', 'trial'].every((name) => body[name] === current[name]);
  if (status === 200 && !same) follow(body);
});

// The same link may be opened in another window, or on another screen.
async function resume(value) {
  remember(value);
  await refresh();
  if (current && current.step === 'trial') report('screen');
}

async function start() {
  for (let pause = 500; !study.design; pause = Math.min(2 * pause, 8000)) {
    try {
      const response = await fetch('study');
      if (response.ok) Object.assign(study, await response.json());
    } catch { /* tried again below */ }
    if (!study.design) { say('No connection to the study; trying again …'); await wait(pause); }
  }
  say('');
  document.title = study.title.join(' ');
  const given = location.hash.slice(1);
  if (/^[0-9a-f]{32}$/.test(given)) {
    await resume(given);
  } else if (remembered()) {
    screens.welcome(() => resume(remembered()), () => startOver(remembered()));
  } else screens.consent();
}

start();
