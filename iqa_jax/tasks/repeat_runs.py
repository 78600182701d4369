"""One of the repeated runs: training at every learning rate, the choice among them, the tests."""

import dataclasses
import json
import time
from pathlib import Path

from absl import logging

from iqa_jax.runtime import artifacts, parallel, paths, stages
from iqa_jax.tasks import evaluate, opening, score, train, train_setup
from iqa_jax.tasks.repeat_setup import Run

COLUMN = 'quality'


@dataclasses.dataclass(frozen=True)
class Training:
    """What came of one training.

    Attributes:
      run: it belongs to.
      rate: learning rate.
      folder: of the train stage.
      state: 'trained' or 'diverged'.
      val_srcc: None without validation images, a model, or two different scores.
      seconds: it took.
      simulated: whether SIMULATED opinions were trained on.
    """

    run: Run
    rate: float
    folder: Path
    state: str
    val_srcc: float | None
    seconds: float
    simulated: bool


def train_all(runs: list[Run], workdir: Path) -> dict[str, list[Training]]:
    """Trains every run at each of its rates; by name of the run, finished ones as they are.

    What compiles to one program follows each other: a variant and a rate, over splits and seeds.
    """
    order = list(dict.fromkeys(run.variant for run in runs))
    jobs = [(run, rate) for run in runs for rate in run.rates or (run.train['learning_rate'],)]
    jobs.sort(key=lambda job: (order.index(job[0].variant), job[1]))
    found: dict[str, list[Training]] = {run.name: [] for run in runs}
    for number, (run, rate) in enumerate(jobs, 1):
        logging.info('Training %d of %d: %s at %g.', number, len(jobs), run.name, rate)
        name = f'rate_{rate:g}' if run.rates else 'train'
        config = run.train | {'task': 'train', 'root': '', 'learning_rate': rate}
        found[run.name].append(_train(run, rate, config, workdir / run.name / name))
    return found


def _train(run: Run, rate: float, config: dict, folder: Path) -> Training:
    """One training; one that diverged before is not begun again."""
    _, given = opening.begin(config, train.KEYS)
    mark = stages.Stage('diverged', folder, given, train_setup.files(config)).fingerprint
    record = folder / 'diverged.json'
    if not parallel.agree(parallel.is_main() and artifacts.is_current(record, mark)):
        start = time.monotonic()
        try:
            summary = train.run(config, folder)
            _drop_checkpoints(folder)
            about = [summary[key] for key in ('val_srcc', 'seconds', 'simulated')]
            return Training(run, rate, folder, 'trained', *about)
        except train_setup.DivergedError as error:
            logging.warning('%s at a learning rate of %g: %s', run.name, rate, error)
            said = {'reason': str(error), 'seconds': time.monotonic() - start}
            if parallel.is_main():
                artifacts.commit(record, json.dumps(said).encode(), fingerprint=mark)
            _drop_checkpoints(folder)
    parallel.barrier(f'{run.name} diverged')
    seconds = json.loads(artifacts.read(record))['seconds']
    return Training(run, rate, folder, 'diverged', None, seconds, False)


def _drop_checkpoints(folder: Path) -> None:
    """Hundreds of runs would fill the disk with what only an unfinished one needs."""
    parallel.barrier(f'{folder} trained')  # the last reader of the best step may be a slow process
    if parallel.is_main():
        paths.remove_tree(folder / 'checkpoints')


def chosen(trainings: list[Training]) -> Training | None:
    """The training with the best validation SRCC, of equals the lowest rate; None if none ended.

    A run without a choice of rates needs no validation.
    """
    ended = [training for training in trainings if training.state != 'diverged']
    if len(trainings) == 1:
        return ended[0] if ended else None
    known = [training for training in ended if training.val_srcc is not None]
    return max(known, key=lambda t: (t.val_srcc, -t.rate), default=None)


def tested(run: Run, training: Training, config: dict, workdir: Path) -> dict[str, dict]:
    """Scores and evaluates the chosen model on every set: name -> what `results.json` says of it.

    Each is {'results': path, 'row': the model's row, 'simulated', 'seconds', 'quarantined'}.
    """
    found = {}
    for name, test in run.tests.items():
        folder = workdir / run.name
        scoring = config['score'] | test.get('score', {}) | {
            'task': 'score', 'root': '', 'manifest': test['manifest'], 'name': COLUMN,
            'model': str(training.folder / 'model'),
        }  # fmt: skip
        scored = score.run(scoring, folder / f'score_{name}')
        table = str(folder / f'score_{name}' / 'scores.parquet')
        column = {'scores': table, 'column': COLUMN, 'kind': 'blind model'}
        evaluation = config['evaluate'] | test.get('evaluate', {}) | {
            'task': 'evaluate', 'root': '', 'manifest': test['manifest'], 'name': name,
            'columns': {run.variant: column}, 'headline': run.variant,
        }  # fmt: skip
        summary = evaluate.run(evaluation, folder / f'evaluate_{name}')
        results = folder / f'evaluate_{name}' / 'results.json'
        record = json.loads(artifacts.read(results))
        found[name] = {
            'results': results,
            'row': record['rows'][0],
            'simulated': record['simulated'],
            'seconds': scored['seconds'] + summary['seconds'],
            'quarantined': summary['quarantined'],
        }
    return found
