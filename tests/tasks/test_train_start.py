"""The step is compiled while the first weights are made, for what the first step gets."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

from configs import quickstart, train_annotators
from iqa_jax.runtime import parallel, signals
from iqa_jax.tasks import train

ROOT = pathlib.Path(__file__).parents[2]
OHEM = {
    'ratio': 0.5, 'refresh': 'fixed', 'twin_weight': 1.0, 'consistency_weight': 1.0,
    'stop_gradient': False, 'layers': 'convolutions',
}  # fmt: skip
VOTES = train_annotators.get_config('smoke').loss_options.to_dict()
RANKING = {'labels': 'binary', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
CASES = {
    'mse': {},
    'twin': {'ohem': OHEM | {'mask': 'magnitude', 'batch_stats': 'shared', 'crops': 'different'}},
    'random twin': {'ohem': OHEM | {'mask': 'random', 'batch_stats': 'dual', 'crops': 'same'}},
    'pairs': {
        'loss': 'fidelity', 'loss_options': RANKING, 'targets': ('gmsd',),
        'pairs_per_database': {'proxies': 9}, 'init_from': 'pretrain/model',
    },
    'votes': {
        'loss': 'annotators', 'loss_options': VOTES,
        'model': {'backbone': 'tiny', 'uncertainty': 'exp'},
    },
    'EM': {
        'loss': 'annotators', 'loss_options': VOTES | {'optimise': 'em'},
        'model': {'backbone': 'tiny', 'uncertainty': 'exp'},
    },
    'continued': {'init_from': 'pretrain/model', 'freeze': ('backbone',)},
    'slowed': {'rate_scales': {'backbone': 0.1}, 'decoupled_weight_decay': False},
}  # fmt: skip


class _SeenError(Exception):
    """The first step has been asked for."""


def config(smoke, **changes) -> dict:
    stage = quickstart.get_config('smoke').stages.pretrain.to_dict()
    del stage['folder']
    return stage | {'root': str(smoke)} | changes


def described(tree) -> list:
    """Path, shape, dtype and weakness of all leaves: what a compilation depends on."""
    return [
        (jax.tree_util.keystr(k), x.shape, x.dtype, getattr(x, 'weak_type', False))
        for k, x in jax.tree.leaves_with_path(tree)
    ]


@pytest.mark.parametrize('case', CASES)
def test_the_first_step_gets_what_was_compiled_for(smoke, tmp_path, monkeypatch, case):
    ahead = []

    def compiled(self, state, batch, key):
        devices = parallel.local_device_count()
        split = {
            k: jax.ShapeDtypeStruct((devices, x.shape[0] // devices, *x.shape[1:]), x.dtype)
            for k, x in batch.items()
        }
        ahead.append(described((state, split, key)))

    def called(self, state, batch, key):
        self._compiling.join()
        assert described((state, batch, key)) == ahead[0]
        raise _SeenError

    monkeypatch.setattr(parallel.TrainStep, 'compile', compiled)
    monkeypatch.setattr(parallel.TrainStep, '__call__', called)
    with pytest.raises(_SeenError):
        train.run(config(smoke, **CASES[case]), tmp_path)
    assert len(ahead) == 1


def test_the_step_is_compiled_once_and_in_its_thread(smoke, tmp_path, monkeypatch):
    threads, of_calls = [], []
    call = parallel.TrainStep.__call__

    def listen(event, seconds, **_):
        if 'backend_compile' in event:
            threads.append(threading.current_thread())

    def called(self, *arguments):
        before = threads.count(threading.main_thread())
        result = call(self, *arguments)
        of_calls.append(threads.count(threading.main_thread()) - before)
        return result

    monkeypatch.setattr(parallel.TrainStep, '__call__', called)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:  # with a rate of its own, so that no other test has compiled the same step
        train.run(config(smoke, learning_rate=0.000321, total_steps=3), tmp_path)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    compiling = [thread for thread in threads if thread is not threading.main_thread()]
    assert len(compiling) == 1
    assert of_calls == [0, 0, 0]


def test_an_error_of_the_first_weights_comes_before_anything_compiles(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel.TrainStep, 'begin', lambda self, arguments: pytest.fail('begun'))
    for changes in (
        {'freeze': ('backbones',)},
        {'init_from': 'pretrain/model', 'model': {'backbone': 'resnet18'}},
    ):
        with pytest.raises(ValueError, match='backbone'):
            train.run(config(smoke, **changes), tmp_path)


def test_a_step_that_does_not_compile_ahead_compiles_when_it_is_called(
    smoke, tmp_path, monkeypatch
):
    def fails(self, *arguments):
        raise RuntimeError('no memory')

    monkeypatch.setattr(parallel.TrainStep, 'compile', fails)
    summary = train.run(config(smoke, learning_rate=0.000123, total_steps=3), tmp_path)
    assert summary['steps'] == 3


def test_a_training_without_a_step_left_does_not_compile_one(smoke, tmp_path, monkeypatch):
    first = train.run(config(smoke, total_steps=3), tmp_path)
    shutil.rmtree(tmp_path / 'model')
    monkeypatch.setattr(parallel.TrainStep, 'begin', lambda self, arguments: pytest.fail('begun'))
    again = train.run(config(smoke, total_steps=3), tmp_path)
    assert again['val_srcc'] == first['val_srcc'] and (tmp_path / 'model').exists()


@pytest.mark.parametrize('delay', [0.05, 0.2, 1.0])
def test_a_stop_while_xla_compiles_ends_with_its_code_and_does_not_wait(smoke, tmp_path, delay):
    # The first weights compile for seconds, in a thread of XLA's for which JAX waits.
    command = [
        sys.executable, '-m', 'iqa_jax.main', '--config=configs/train_proxies.py:smoke',
        f'--config.root={smoke}', '--config.model.backbone=efficientnet_lite0',
        f'--workdir={tmp_path}',
    ]  # fmt: skip
    changes = {'JAX_LOG_COMPILES': '1', 'JAX_ENABLE_COMPILATION_CACHE': '0'}
    child = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | changes, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in child.stderr:
            if 'MLIR module conversion jit(init)' in line:
                break
        time.sleep(delay)
        child.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        said = child.communicate(timeout=60)[1]
    finally:
        child.kill()
    assert child.returncode == 143
    assert time.monotonic() - begin < signals.GRACE / 2
    assert said.rstrip().endswith('Stopped; run the same command to continue.')
