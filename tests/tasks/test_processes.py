"""Two processes that train together leave what one process leaves."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from iqa_jax.training import pruning, saved_model

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_two_processes_train_the_model_that_one_trains(main, tmp_path):
    # Without dropout, whose masks belong to the devices.
    rest = ('--config.order=("data", "pretrain")', '--config.stages.pretrain.model.dropout=0.0')
    command = ('--config=configs/quickstart.py:smoke', *rest)
    done = main(*command, f'--workdir={tmp_path}/one')
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        ['launch/local_processes.sh', '2', *command, f'--workdir={tmp_path}/two'],
        cwd=ROOT, env=os.environ | {'PYTHON': sys.executable}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('train: 176 images') == 1  # process 0 speaks for both
    for name in ('manifest.parquet', 'scores.parquet', 'proxies.parquet'):  # of shared shards
        a, b = (tmp_path / folder / 'data' / name for folder in ('one', 'two'))
        assert a.read_bytes() == b.read_bytes(), name
    # Adam turns the rounding noise of vanishing gradients into steps, so the losses are compared.
    one, two = (losses(tmp_path / f / 'pretrain/metrics.jsonl') for f in ('one', 'two'))
    assert len(one) == 4
    np.testing.assert_allclose(two, one, rtol=1e-3)


def losses(path: pathlib.Path) -> list[float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row['loss'] for row in rows if 'loss' in row]


def test_the_twin_is_pruned_anew_at_the_end_of_an_epoch(smoke):
    # 32 images in batches of 8: the last of 8 steps ends an epoch, so the mask is the latest one.
    saved = saved_model.load(smoke / 'finetune/model')
    variables, ohem = saved.variables, saved.meta['config']['ohem']
    mask = pruning.make_mask(variables['params'], ohem, jax.random.key(0), 4)
    twin = pruning.apply_mask(variables['params'], mask)
    for a, b in zip(jax.tree.leaves(twin), jax.tree.leaves(variables['twin_params']), strict=True):
        np.testing.assert_array_equal(a, b)
    assert pruning.sparsity(variables['params'], mask)[0] > 0
