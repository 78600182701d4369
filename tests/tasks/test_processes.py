"""Two devices, or two processes, that train together leave what one device leaves."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from iqa_jax.training import pruning, saved_model

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'benchmarks/reliability'))
import compare

ROOT = pathlib.Path(__file__).resolve().parents[2]
TWO_DEVICES = {'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
STEPS = 3
# Of float32's 6e-8, times the sums of some hundred terms and the divisions by small spreads.
TOLERANCE = 1e-5
ADAM_EPSILON = 1e-8


def shared(*arguments: str) -> subprocess.CompletedProcess:
    """The finished launcher of two processes."""
    return subprocess.run(
        ['launch/local_processes.sh', '2', *arguments], cwd=ROOT,
        env=os.environ | {'PYTHON': sys.executable}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def leaves(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """What the last checkpoint of a training holds."""
    found = compare.newest_leaves(next(workdir.glob('checkpoints/*/step_*.json')).parent)
    assert found['step'] == STEPS
    return found


def assert_close(found: dict, wanted: dict) -> tuple[int, int]:
    """Compares parameters, statistics and mean gradients; how many leaves, and noisy ones of them.

    All to TOLERANCE of the largest value of each leaf, of statistics to that of 1 at least, which
    the activations are of. A parameter whose gradient is zero in theory, as of a bias before a
    normalisation, takes the noise of sums for it, and Adam makes steps of that: there the gradient
    must be below ADAM_EPSILON.
    """
    assert found.keys() == wanted.keys()
    compared, noisy = 0, 0
    for name, value in wanted.items():
        is_statistic, is_mean = 'batch_stats' in name, '.mu' in name
        if not (is_statistic or is_mean or 'params' in name.partition('opt_state')[0]):
            continue
        largest = np.abs(value).max()
        gradient = _gradient(name, wanted)
        if gradient is not None and np.abs(gradient).max() < ADAM_EPSILON:
            assert np.abs(_gradient(name, found)).max() < ADAM_EPSILON, name
            noisy += 1
            continue
        scale = max(1.0, largest) if is_statistic else largest
        np.testing.assert_allclose(found[name], value, rtol=0, atol=TOLERANCE * scale, err_msg=name)
        compared += 1
    return compared, noisy


def _gradient(name: str, state: dict) -> np.ndarray | None:
    """Adam's mean gradient of a parameter, or the leaf itself if it is one."""
    if '.mu' in name:
        return state[name]
    own = name.removeprefix('.params').removeprefix("['params']")
    found = [n for n in state if n.endswith((f'{own}.mu', f'.mu{own}'))]
    return state[found[0]] if own != name and len(found) == 1 else None


@pytest.fixture(scope='module')
def one(main, smoke, tmp_path_factory):
    """A training with dropout on one device, on the data of the smoke run."""
    workdir = tmp_path_factory.mktemp('one')
    done = main(*training(smoke), f'--workdir={workdir}')
    assert done.returncode == 0, done.stderr
    return leaves(workdir)


def training(root: pathlib.Path) -> tuple[str, ...]:
    config = ('--config=configs/train_proxies.py:smoke', f'--config.root={root}')
    return (*config, '--config.model.dropout=0.25', f'--config.total_steps={STEPS}')


def test_two_devices_train_the_model_that_one_trains(main, smoke, one, tmp_path):
    done = main(*training(smoke), f'--workdir={tmp_path}', **TWO_DEVICES)
    assert done.returncode == 0, done.stderr
    compared, noisy = assert_close(leaves(tmp_path), one)
    assert compared > 10 * noisy


def test_two_processes_train_the_model_that_one_trains(smoke, one, tmp_path):
    stage = '--config.stages.pretrain'
    done = shared(
        '--config=configs/quickstart.py:smoke', '--config.order=("data", "pretrain")',
        f'{stage}.model.dropout=0.25', f'{stage}.total_steps={STEPS}', f'--workdir={tmp_path}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('train: 176 images') == 1  # process 0 speaks for both
    for name in ('manifest.parquet', 'scores.parquet', 'proxies.parquet'):  # of shared shards
        a, b = (folder / 'data' / name for folder in (smoke, tmp_path))
        assert a.read_bytes() == b.read_bytes(), name
    compared, noisy = assert_close(leaves(tmp_path / 'pretrain'), one)
    assert compared > 10 * noisy


def test_devices_and_processes_train_the_denoiser_that_one_device_trains(main, tmp_path):
    config = ('--config=configs/train_denoiser.py:smoke', f'--config.total_steps={STEPS}')
    for name, run in (
        ('one', main),
        ('devices', lambda *arguments: main(*arguments, **TWO_DEVICES)),
        ('processes', shared),
    ):
        done = run(*config, f'--workdir={tmp_path}/{name}')
        assert done.returncode == 0, done.stderr
    wanted = leaves(tmp_path / 'one')
    for name in ('devices', 'processes'):
        compared, noisy = assert_close(leaves(tmp_path / name), wanted)
        assert compared > 10 > noisy


def test_the_twin_is_pruned_anew_at_the_end_of_an_epoch(smoke):
    # 32 images in batches of 8: the last of 8 steps ends an epoch, so the mask is the latest one.
    saved = saved_model.load(smoke / 'finetune/model')
    variables, ohem = saved.variables, saved.meta['config']['ohem']
    mask = pruning.make_mask(variables['params'], ohem, jax.random.key(0), 4)
    twin = pruning.apply_mask(variables['params'], mask)
    for a, b in zip(jax.tree.leaves(twin), jax.tree.leaves(variables['twin_params']), strict=True):
        np.testing.assert_array_equal(a, b)
    assert pruning.sparsity(variables['params'], mask)[0] > 0
