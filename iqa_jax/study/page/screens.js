// Every screen that is text: consent, questions, calibration, instructions, breaks, thanks.
import {
  study, make, show, send, say, follow, refresh, screenFacts, newKey, remembered, forget, startOver,
} from './page.js';
import { space } from './trial.js';

const paragraphs = (lines) => lines.map((line) => make('p', {}, line));
const button = (label, click, more = {}) =>
  make('button', { type: 'button', class: 'main', click, ...more }, label);
const card = (title, ...children) =>
  show(make('section', { class: 'card' }, make('h1', {}, title), ...children));

export const KEYS = {
  single_stimulus: 'Click the scale, or: ← → move by 1, Page Up and Page Down by 10, 1 to 5 jump to a word; Enter goes on.',
  acr5: '1 (bad) to 5 (excellent) choose; Enter goes on.',
  pair_choice: '← left, → right, ↓ no difference; Enter goes on.',
};
const TASKS = {
  single_stimulus: 'You will see one image at a time. Move the slider to where its quality lies '
    + 'between bad and excellent. Every place on the scale is allowed, also between the words.',
  acr5: 'You will see one image at a time. Say whether its quality is bad, poor, fair, good or excellent.',
  pair_choice: 'You will see two images side by side. Choose the one that looks better to you, or '
    + '“No difference” if you cannot tell.',
};

function field(question) {
  const id = 'q_' + question.name;
  const optional = question.required ? '' : ' (optional)';
  if (question.kind === 'choice') {
    const options = question.choices.map((choice) => make('label', { class: 'option' },
      make('input', { type: 'radio', name: question.name, value: choice, required: question.required }),
      choice));
    return make('fieldset', {}, make('legend', {}, question.question + optional), ...options);
  }
  const number = question.kind === 'number';
  const input = make('input', {
    id, name: question.name, required: question.required, autocomplete: 'off',
    type: number ? 'number' : 'text', step: 'any',
    ...(number ? { min: question.low, max: question.high } : { maxlength: 500 }),
  });
  return make('div', { class: 'field' }, make('label', { for: id }, question.question + optional), input);
}

function answersOf(form) {
  const found = {};
  for (const question of study.questionnaire) {
    const value = new FormData(form).get(question.name);
    if (value) found[question.name] = question.kind === 'number' ? Number(value) : value;
  }
  return found;
}

function consent() {
  const agree = make('input', { type: 'checkbox', required: true, id: 'agree' });
  const onward = make('button', { class: 'main' }, 'Continue');
  const form = make('form', {
    submit: async (event) => {
      event.preventDefault();
      if (onward.disabled) return;  // a second click would take a second place
      onward.disabled = true;
      const before = remembered();
      newKey();
      const { status, body } = await send('join', { consent: true, questionnaire: answersOf(form) });
      if (status === 200) await refresh();
      else {  // what was filled in stays
        forget(before);
        onward.disabled = false;
        say(body.error);
      }
    },
  },
  ...study.questionnaire.map(field),
  make('label', { class: 'option', for: 'agree' }, agree, 'I have read this and I want to take part.'),
  onward);
  card(study.title.join(' '), ...paragraphs(study.consent), form);
}

function welcome(onward, another) {
  card('Welcome back', make('p', {}, 'A session was begun in this browser.'),
    make('div', { class: 'row' }, button('Continue', onward),
      make('button', { type: 'button', click: another }, 'I am somebody else')));
}

function begin(state) {
  if (state.place > 0) sessionAgain(state);
  else calibration(state);
}

function sessionAgain(state) {
  card(`Session ${state.place + 1} of ${state.sessions}`,
    make('p', {}, 'The session before this one is over, and all your answers are stored. Rest your '
      + 'eyes before you go on; you may also close this page and come back later by the same link.'),
    make('div', { class: 'row' }, button('Begin', () => calibration(state))));
}

function calibration(state) {
  const size = make('p', { id: 'size', role: 'status' });
  const onward = button('Continue', () => { window.removeEventListener('resize', update); instructions(state); });
  function update() {
    const { fits, have, problem } = space();
    const facts = screenFacts();
    const now = `Your window: ${have[0]} × ${have[1]}, scale ${facts.device_pixel_ratio}.`;
    size.textContent = `${now} ${fits ? 'That is large enough.' : problem}`;
    size.className = fits ? '' : 'problem';
    onward.disabled = !fits;
  }
  const ramp = make('div', { class: 'ramp', role: 'img', 'aria-label': 'Eleven steps from black to white' });
  for (let step = 0; step <= 10; step++) ramp.append(make('span', { class: 'step' + step }));
  window.addEventListener('resize', update);
  card('Your screen', make('p', {}, 'Images are shown pixel by pixel and never enlarged or reduced.'),
    size, make('p', {}, 'Set the brightness of the screen so that you can tell all eleven steps apart:'),
    ramp, make('div', { class: 'row' }, onward));
  update();
}

function extent(state) {
  const count = state.practice === 1 ? '' : ` ${state.practice}`;
  const practice = state.practice ? `, the first${count} of them for practice` : '';
  const minutes = state.minutes ? ` It ends after ${state.minutes} minutes at the latest; `
    + 'what is left then waits for another session.' : '';
  return `This session has ${state.total} answers${practice}.${minutes}`;
}

function instructions(state) {
  const onward = button('Begin', async () => {
    const { status, body } = await send('begin', { screen: screenFacts() });
    if (status === 200) follow(body);
    else { say(body.error); await refresh(); }
  });
  card('What to do', make('p', {}, TASKS[study.design]), ...paragraphs(study.instructions),
    make('p', {}, make('strong', {}, 'Keys: '), KEYS[study.design]),
    make('p', {}, extent(state)), make('div', { class: 'row' }, onward));
}

function pause(state) {
  const end = Date.now() + 1000 * state.seconds;
  const left = make('p', { role: 'timer' });
  const onward = button('Go on', async () => {
    const { body } = await send('break', { session: state.session, trial: state.trial });
    if (body.step) follow(body);
    else await refresh();
  });
  card('A break', make('p', {}, 'Look away from the screen and rest your eyes.'), left,
    make('div', { class: 'row' }, onward));
  (function tick() {
    const seconds = Math.ceil((end - Date.now()) / 1000);
    onward.disabled = seconds > 0;
    left.textContent = seconds > 0 ? `You can go on in ${seconds} s.` : 'You can go on whenever you like.';
    if (seconds > 0 && left.isConnected) setTimeout(tick, 250);
  })();
}

function paused() {
  card('The study is paused', make('p', {}, 'Your answers are kept. This page goes on when the study does.'),
    make('div', { class: 'row' }, button('Try now', refresh)));
  const here = document.querySelector('.card');
  setTimeout(() => { if (here.isConnected) refresh(); }, 10000);
}

function done(state) {
  // Without a code others do what was left.
  const end = state.code
    ? [...paragraphs(study.thanks), make('p', {}, 'Your completion code: ', make('strong', { id: 'code' }, state.code))]
    : [make('p', {}, 'Your part in this study is over. The answers that you gave are kept.')];
  card('Thank you', ...end,
    make('p', {}, 'Your number: ', make('strong', {}, state.rater_id)),
    make('div', { class: 'row' },
      make('button', { type: 'button', click: () => startOver() }, 'Somebody else takes part now')));
}

export const screens = { consent, welcome, begin, break: pause, paused, done };
