"""pipeline: stages in order, each in its own folder of the workdir, each summarised in one line."""

import importlib
import json
import sys
import time
from typing import Any

from iqa_jax.runtime import artifacts, memory, parallel
from iqa_jax.runtime.paths import Path, as_path
from iqa_jax.tasks import opening

KEYS = {'task', 'root', 'order', 'stages', 'headlines'}


def run(config: Any, workdir: str | Path) -> dict:
    """Runs `config.stages[name]` for every name of `config.order`, then writes summary.json.

    Every stage's `root` is the workdir, so its paths name the folders of earlier stages.
    A stage that waits for people ends the run; the same command goes on once they have answered.
    `config.photos`, where there, only feeds references inside `config.stages`.
    `config.headlines` maps a key of summary.json to (stage, key of that stage's summary); those of
    stages that `config.order` leaves out are left out.

    Returns:
      What summary.json holds: stages (each with seconds, counts and headline), quarantined, seconds
      and the headline figures; or the summary of a stage that waits.
    """
    config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    config.pop('photos', '')
    opening.check_keys(config, KEYS, 'config')
    unknown = sorted(set(config['order']) - set(config['stages']))
    if unknown:
        raise ValueError(f'config.order names {unknown[0]}, which config.stages does not have.')
    workdir = as_path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)  # paths may begin with ../
    start = time.monotonic()
    summaries = {}
    for name in config['order']:
        stage = dict(config['stages'][name])
        folder = workdir / stage.pop('folder')
        task = importlib.import_module(f'iqa_jax.tasks.{stage["task"]}')
        summaries[name] = task.run(stage | {'root': str(workdir)}, folder)
        memory.release()
        if summaries[name].get('missing'):
            return summaries[name]  # people have not answered; the stage has said so
    summary = {
        'stages': summaries,
        'seconds': sum(s['seconds'] for s in summaries.values()),
        'quarantined': sum(s['quarantined'] for s in summaries.values()),
        'versions': artifacts.versions(),
    }
    summary |= {
        key: summaries[stage][item]
        for key, (stage, item) in config['headlines'].items()
        if stage in summaries
    }
    text = json.dumps(summary, indent=1, sort_keys=True).encode()
    mark = artifacts.fingerprint(summary)
    if parallel.is_main() and not artifacts.is_current(workdir / 'summary.json', mark):
        artifacts.commit(workdir / 'summary.json', text, fingerprint=mark)
    if parallel.is_main():
        print(f'All stages done in {time.monotonic() - start:.0f} s.', file=sys.stderr)
        last = config['order'][-1]
        print(workdir / config['stages'][last]['folder'] / summaries[last]['artifact'])
    return summary
