"""One, four and two times two devices train the same network and score the same predictions."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.runtime import parallel, processes

PROGRAM = pathlib.Path(__file__).with_name('parallel_program.py')
LAYOUTS = {'one': (1, 1), 'four': (1, 4), 'two_by_two': (2, 2)}  # processes, devices of each


def start(folder: pathlib.Path, devices: int, *cluster: object) -> subprocess.Popen:
    environment = os.environ | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    command = [sys.executable, str(PROGRAM), str(folder), *map(str, cluster)]
    with open(folder / f'log{cluster[-1] if cluster else 0}', 'w') as log:
        return subprocess.Popen(command, env=environment, stderr=log, stdout=log)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """{layout: [(report, state) of every process]}; all processes of all layouts run at once."""
    folders, children = {}, []
    for name, (count, devices) in LAYOUTS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = f'127.0.0.1:{free.getsockname()[1]}'
        for i in range(count):
            cluster = (address, count, i) if count > 1 else ()
            children.append(start(folders[name], devices, *cluster))
    try:
        codes = [child.wait(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    logs = '\n'.join(log.read_text() for f in folders.values() for log in f.glob('log*'))
    assert codes == [0] * len(children), logs
    assert 'Warning' not in logs, logs  # donation that fails is only a warning
    return {
        name: [
            (json.loads(report.read_text()), dict(np.load(report.with_suffix('.npz'))))
            for report in sorted(folder.glob('process*.json'))
        ]
        for name, folder in folders.items()
    }


@pytest.mark.parametrize('layout', ['four', 'two_by_two'])
def test_devices_equal_one_device(runs, layout):
    (one, one_state), (many, many_state) = runs['one'][0], runs[layout][0]
    assert (one['devices'], many['devices']) == (1, 4)
    np.testing.assert_allclose(many['losses'], one['losses'], atol=1e-5)
    assert one['losses'][-1] < one['losses'][0]
    assert many_state.keys() == one_state.keys()
    assert any('batch_stats' in name for name in one_state)
    for name, value in one_state.items():
        np.testing.assert_allclose(many_state[name], value, atol=1e-5, err_msg=name)


def test_processes_agree_bit_for_bit(runs):
    (first, first_state), (second, second_state) = runs['two_by_two']
    assert first['losses'] == second['losses']
    for name, value in first_state.items():
        np.testing.assert_array_equal(second_state[name], value)
    assert (first['rows'], second['rows']) == ([0, 8], [8, 16])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_donated_and_compiled_once(runs, layout):
    report = runs[layout][0][0]
    assert report['deleted'] == [True] * 5
    assert report['compiled'][1:] == [0] * 4
    # Ahead of the first call in one process, in it in several.
    step = [report['ahead'], report['compiled'][0]]
    assert step == [0, 1] if layout == 'two_by_two' else step == [1, 0]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_placed_batch_trains_what_a_host_batch_trains_without_a_copy(runs, layout):
    count, devices = LAYOUTS[layout]
    for report, _ in runs[layout]:
        placed = report['placed']
        assert placed['shape'] == [devices, 16 // (count * devices), 12, 12, 3]
        assert placed['again']
        assert placed['equal'] and all(placed['equal'])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_gather_keeps_the_order_and_draws_belong_to_the_row(runs, layout):
    report = runs[layout][0][0]
    assert report['index'] == np.arange(80).reshape(5, 16).tolist()
    noise = np.array(report['noise'])
    assert noise.shape == (5, 16)
    assert len(np.unique(noise)) == noise.size
    np.testing.assert_array_equal(noise, runs['one'][0][0]['noise'])


@pytest.mark.parametrize('layout', LAYOUTS)
def test_evaluation_pads_and_compiles_once(runs, layout):
    for report, _ in runs[layout]:
        assert report['eval_compiled'][1:] == [0] * 4
        assert max(max(errors.values()) for errors in report['eval_error']) < 1e-5


def test_sentences(runs):
    short, check, empty, ragged = runs['four'][0][0]['sentences']
    assert short == (
        'A batch of 3 images does not divide among the 4 devices of this process; '
        'make config.batch_size a multiple of 4.'
    )
    assert check == (
        'config.batch_size=17 does not divide among 4 devices; use a multiple of 4, such as 16.'
    )
    assert 'holds no images' in empty
    assert 'different lengths: [1, 16]' in ragged


@pytest.mark.parametrize('layout', LAYOUTS)
def test_checkpoint_of_mapped_state(runs, layout):
    assert all(report['restored'] for report, _ in runs[layout])


def test_collectives_are_identities_outside():
    x, key = jnp.arange(3.0), jnp.array([0, 1], jnp.uint32)
    for fn in (parallel.mean, parallel.gather, jax.jit(parallel.mean)):
        np.testing.assert_array_equal(fn({'x': x})['x'], x)
    np.testing.assert_array_equal(
        parallel.draw(lambda shape: jax.random.normal(key, shape), (4, 3)),
        jax.random.normal(key, (4, 3)),
    )


def test_unplaced_state_is_placed_and_single_process_defaults():
    step = parallel.TrainStep(lambda state, batch, key: (state + batch.sum(), {'n': key[0] * 0}))
    state, metrics = step(np.float32(1), np.ones((parallel.device_count(), 2)), np.zeros(2, 'u4'))
    assert float(state) == 3.0
    assert parallel.fetch(metrics)['n'] == 0
    assert (parallel.process_index(), parallel.process_count()) == (0, 1)
    assert parallel.is_main()
    parallel.initialize(False)
    parallel.barrier('alone')
    parallel.check_same(3, 'nothing')
    assert parallel.local_rows(8) == slice(0, 8)


@pytest.mark.parametrize('host', ['127.0.0.1', ''])
def test_a_taken_port_is_a_sentence_before_jax_sees_it(host):
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        with pytest.raises(ValueError, match=f'cannot listen at {address}: the port is taken; '):
            parallel.initialize(True, address, 2, 0)
    for free in (address, 'localhost', 'localhost:x', 'localhost:99999999'):
        processes._require_free(free)
