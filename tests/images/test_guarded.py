"""Decoding in child processes: the same pixels, and no file harms more than itself."""

import errno
import io as streams
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from iqa_jax.images import guarded, io

LIMITS = {'processes': 1, 'seconds': 20.0, 'memory_mib': 512}
# A child whose decoder does what the bytes say.
MISBEHAVING = guarded.CODE.replace(
    '\nguarded_worker.serve',
    """
import os, time
from iqa_jax.images import io
decode = io.decode
def act(data):
    word, _, rest = data.partition(b' ')
    if word == b'kill': os.kill(os.getpid(), int(rest))
    if word == b'once' and not os.path.exists(rest):
        open(rest, 'w').close()
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b'sleep': time.sleep(float(rest))
    if word == b'exit': os._exit(int(rest))
    while word == b'spin': pass
    return decode(data) if word not in (b'once', b'sleep') else decode(open(PHOTO, 'rb').read())
io.decode = act
guarded_worker.serve""",
)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture
def misbehaving(photo, tmp_path, monkeypatch):
    """Opens decoders whose files are commands; the others decode to `photo`."""
    (tmp_path / 'photo.png').write_bytes(io.encode_png(photo))
    code = MISBEHAVING.replace('PHOTO', repr(str(tmp_path / 'photo.png')))
    monkeypatch.setattr(guarded, 'CODE', code)
    return lambda **changes: guarded.decoding(LIMITS | changes)


def alive(pid):
    """Whether a process runs; one that ended and nobody waited for does not."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def children():
    """Numbers of the processes that this one started."""
    found = pathlib.Path('/proc').glob('[0-9]*/stat')
    texts = {int(path.parent.name): path.read_text().rpartition(')')[2].split() for path in found}
    return {pid for pid, fields in texts.items() if int(fields[1]) == os.getpid()}


def test_pixels_and_sentences_are_those_of_this_process(photo, tmp_path):
    files = {'empty.png': b'', 'page.png': b'<html>', 'line\n\udcff.png': io.encode_png(photo)}
    for form in ('PNG', 'JPEG', 'JPEG2000', 'WEBP', 'BMP', 'TIFF', 'GIF'):
        buffer = streams.BytesIO()
        Image.fromarray(photo).save(buffer, form)
        files |= {f'{form}.x': buffer.getvalue(), f'{form}_cut.x': buffer.getvalue()[:-30]}
    with guarded.decoding(LIMITS | {'processes': 2}) as decode:

        def both(source):
            found = []
            for function in (io.decode, decode):
                try:
                    found.append(function(source).tolist())
                except io.ImageError as error:
                    found.append(str(error))
            return found

        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        sources = [*files.values(), *(tmp_path / name for name in files), tmp_path / 'gone.png']
        with ThreadPoolExecutor(4) as pool:
            for ours, theirs in pool.map(both, sources):
                assert ours == theirs
        made = decode(files['PNG.x'])
        assert made.dtype == np.uint8 and made.flags.writeable


@pytest.mark.parametrize('number', [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_file_that_crashes_the_decoder_is_refused_and_the_next_is_decoded(
    misbehaving, photo, number
):
    with misbehaving() as decode:
        for _ in range(2):
            with pytest.raises(io.ImageError, match=f'image data crashed .*{number.name}'):
                decode(b'kill %d' % number)
            np.testing.assert_array_equal(decode(io.encode_png(photo)), photo)
        with pytest.raises(io.ImageError, match='crashed the decoder .exit code 7'):
            decode(b'exit 7')


def test_a_child_that_was_killed_for_other_reasons_costs_no_picture(misbehaving, photo, tmp_path):
    with misbehaving() as decode:
        np.testing.assert_array_equal(decode(b'once ' + os.fsencode(tmp_path / 'flag')), photo)
    assert (tmp_path / 'flag').exists()


@pytest.mark.parametrize('word', [b'sleep 60', b'spin x'])
def test_a_file_that_hangs_is_refused_in_time(misbehaving, photo, tmp_path, word):
    (tmp_path / 'slow.png').write_bytes(word)
    with misbehaving(seconds=0.5) as decode:
        decode(io.encode_png(photo))
        start = time.monotonic()
        with pytest.raises(io.ImageError, match=r'slow.png took longer than 0.5 s to decode'):
            decode(tmp_path / 'slow.png')
        assert time.monotonic() - start < 5
        np.testing.assert_array_equal(decode(io.encode_png(photo)), photo)


def test_a_picture_that_needs_more_memory_than_the_limit_is_refused():
    buffer = streams.BytesIO()
    Image.new('RGB', (6000, 6000)).save(buffer, 'PNG')
    with guarded.decoding(LIMITS | {'memory_mib': 64}) as decode:
        with pytest.raises(io.ImageError, match='needs more than 64 MiB'):
            decode(buffer.getvalue())
        assert decode(io.encode_png(np.zeros((8, 8, 3), np.uint8))).shape == (8, 8, 3)
    with guarded.decoding(LIMITS) as decode:
        assert decode(buffer.getvalue()).shape == (6000, 6000, 3)


def test_where_a_process_may_take_less_the_children_take_less_and_say_so(tmp_path):
    buffer = streams.BytesIO()
    Image.new('RGB', (8000, 8000)).save(tmp_path / 'large.png', 'PNG')
    Image.new('RGB', (48, 32)).save(buffer, 'PNG')
    (tmp_path / 'small.png').write_bytes(buffer.getvalue())
    program = f"""
import pathlib, resource, sys
from iqa_jax.images import guarded
taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, taken + 2**28))
with guarded.decoding({LIMITS | {'memory_mib': 2048}!r}) as decode:
    for name in ('small.png', 'large.png'):
        try:
            print(decode(pathlib.Path({str(tmp_path)!r}, name).read_bytes()).shape)
        except guarded.io.ImageError as error:
            print(error)
"""
    alone = {'OPENBLAS_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, '-c', program],
        capture_output=True, text=True, check=False, env=os.environ | alone,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    small, large = done.stdout.splitlines()
    assert small == '(32, 48, 3)' and not done.stderr
    said = re.fullmatch(r'image data needs more than (\d+)(\.\d+)? MiB to be decoded', large)
    assert 50 < int(said[1]) < 400


def test_children_ignore_signals_and_end_with_the_block(misbehaving, photo):
    def refused(decode):
        with pytest.raises(io.ImageError):
            decode(b'spin x')

    before = children()
    with misbehaving(processes=2) as decode:
        decode(io.encode_png(photo))
        mine = children() - before
        assert len(mine) == 2
        for pid in mine:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        for _ in range(4):
            decode(io.encode_png(photo))
        assert children() - before == mine
        waiting = threading.Thread(target=refused, args=(decode,))
        waiting.start()
        time.sleep(0.3)
    waiting.join(10)
    assert not waiting.is_alive() and not children() & mine


def test_children_end_when_the_parent_is_killed(tmp_path):
    program = f"""
import contextlib, os, signal, threading, time
from iqa_jax.images import guarded
guarded.CODE = {MISBEHAVING!r}
with guarded.decoding({LIMITS | {'processes': 2}!r}) as decode:
    for word in (b'spin x', b'sleep 60'):
        threading.Thread(target=lambda word=word: decode(word), daemon=True).start()
    mine = set()
    while len(mine) < 2:
        time.sleep(0.1)
        for found in filter(str.isdecimal, os.listdir('/proc')):
            with contextlib.suppress(OSError):  # others end meanwhile
                parent = open(f'/proc/{{found}}/stat').read().rpartition(')')[2].split()[1]
                if parent == str(os.getpid()):
                    mine.add(found)
    time.sleep(1)
    print(*mine, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=60
    )
    pids = done.stdout.split()
    assert done.returncode == -signal.SIGKILL and len(pids) == 2, done.stderr
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, pids))


def test_a_child_that_cannot_start_is_a_sentence(monkeypatch):
    monkeypatch.setattr(guarded, 'CODE', 'raise SystemExit(5)')
    sentence = 'could not be started .it ended with exit code 5.*, for pictures that you trust, set'
    with guarded.decoding(LIMITS) as decode, pytest.raises(OSError, match=sentence):
        decode(io.encode_png(np.zeros((8, 8, 3), np.uint8)))


def refusal(decode, data):
    """A thread that decodes; the function waits and gives what the OSError said."""
    said = []

    def call():
        try:
            decode(data)
        except OSError as error:
            said.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def wait():
        thread.join(10)
        return ''.join(said)

    return wait


def test_no_thread_waits_for_a_child_that_could_not_be_started(misbehaving, photo, monkeypatch):
    def refuse(*args, **options):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with misbehaving() as decode:
        decode(io.encode_png(photo))
        monkeypatch.setattr(guarded.subprocess, 'Popen', refuse)
        said = [wait() for wait in [refusal(decode, b'kill 9') for _ in range(4)]]
    assert all('could not be started' in text for text in said)
    assert all('set config.decode.processes=0' in text for text in said)
    assert sum('Resource temporarily unavailable' in text for text in said) == 1
    with pytest.raises(OSError, match='could not be started .*Resource temporarily'):
        guarded.decoding(LIMITS).__enter__()


def test_threads_that_wait_end_with_the_block_when_no_child_comes_back(photo):
    with guarded.decoding(LIMITS) as decode:
        decode.__self__._idle.get()
        waiting = [refusal(decode, io.encode_png(photo)) for _ in range(3)]
    assert all('have been ended' in wait() for wait in waiting)


def test_children_import_neither_jax_nor_our_other_rooms():
    code = 'import sys; from iqa_jax.images import guarded_worker; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert not {'jax', 'flax', 'pyarrow', 'scipy', 'absl'} & {*names}
    rooms = {name.split('.')[1] for name in names if name.startswith('iqa_jax.')}
    assert rooms == {'version', 'images'}


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'processes': -1}, 'config.decode.processes=-1 must be a number of at least 0'),
        ({'processes': 1.5}, 'config.decode.processes=1.5 must be'),
        ({'processes': True}, 'config.decode.processes=True must be'),
        ({'seconds': 0}, 'config.decode.seconds=0 must be'),
        ({'seconds': float('nan')}, 'config.decode.seconds=nan must be'),
        ({'memory_mib': '1'}, "config.decode.memory_mib='1' must be"),
        ({'threads': 2}, 'config.decode needs the keys memory_mib, processes, seconds'),
    ],
)
def test_settings_that_cannot_be_are_sentences(changes, sentence):
    with pytest.raises(ValueError, match=sentence), guarded.decoding(LIMITS | changes):
        pass
