"""score_pairs: values, quarantine, what makes it run again, kills, and its sentences."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import score_pairs as config_file
from iqa_jax import fr_metrics
from iqa_jax.data import tables
from iqa_jax.images import io
from iqa_jax.runtime import endings
from iqa_jax.tasks import score_pairs

METRICS = ('gmsd', 'ssim', 'psnr')
SHAPES = {'I01': (40, 48), 'I02': (48, 40), 'I03': (40, 48)}


@pytest.fixture
def folders(tmp_path):
    """References of two shapes and four noisy pictures of each: {'references', 'distorted'}."""
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        reference = rng.integers(0, 256, (*shape, 3), np.uint8)
        save(tmp_path / f'ref/{name}.png', reference)
        for level in range(1, 5):
            noisy = reference + rng.normal(0, 6 * level, reference.shape)
            noisy = np.clip(noisy, 0, 255).astype(np.uint8)
            save(tmp_path / f'dist/{name}_{level}.png', noisy)
    return {'references': str(tmp_path / 'ref'), 'distorted': str(tmp_path / 'dist')}


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(io.encode_png(image))


@pytest.fixture
def run(folders, tmp_path):
    """Runs the stage on the folders with changes of its config; (summary, scores, reasons)."""

    def run(name: str = 'out', **changes) -> tuple[dict, tables.Table, dict[str, str]]:
        config = config_file.get_config('smoke').to_dict() | {'metrics': METRICS, 'batch_size': 3}
        summary = score_pairs.run(config | folders | changes, tmp_path / name)
        bad = tables.read(tmp_path / name / 'quarantine.csv')[0]
        reasons = dict(zip(bad['file'].tolist(), bad['reason'].tolist(), strict=True))
        return summary, tables.read(tmp_path / name / 'scores.parquet')[0], reasons

    return run


def write_table(path: Path, rows: list[tuple[str, str, str]]) -> dict[str, str]:
    """Writes a table of pairs and returns the config that names it."""
    path.write_text(
        '\n'.join(map(','.join, [('image_id', 'reference', 'distorted'), *rows])) + '\n'
    )
    return {'pairs': str(path), 'references': '', 'distorted': ''}


def test_scores_are_those_of_the_metrics_in_the_order_of_the_pairs(run, tmp_path):
    summary, table, reasons = run()
    assert summary['pairs'] == 12 and summary['quarantined'] == 0 and not reasons
    assert summary['headline'].startswith('3 metrics, ') and 'pairs/s' in summary['headline']
    assert [*table] == ['image_id', *METRICS]
    assert table['image_id'].tolist() == [f'{name}_{i}' for name in SHAPES for i in range(1, 5)]
    for i, image_id in enumerate(table['image_id']):
        images = [
            io.decode(tmp_path / f'{x}.png') for x in (f'ref/{image_id[:3]}', f'dist/{image_id}')
        ]
        for name in METRICS:
            want = np.asarray(fr_metrics.metric(name)(*images))
            assert table[name].dtype == np.float32
            np.testing.assert_allclose(table[name][i : i + 1], want, rtol=1e-6)
    text, meta = tables.read(tmp_path / 'out/scores.csv')
    for name in table:
        np.testing.assert_array_equal(text[name], table[name])
    assert meta == tables.read(tmp_path / 'out/scores.parquet')[1]
    assert [meta['columns'][name]['higher_is_better'] for name in METRICS] == [False, True, True]
    assert meta['columns']['gmsd']['origin'] == 'full-reference metric gmsd, safe policy'


def test_a_table_gives_what_the_folders_give(run, tmp_path):
    _, want, _ = run()
    ids = want['image_id'].tolist()[::-1]
    rows = [(image_id, f'ref/{image_id[:3]}.png', f'dist/{image_id}.png') for image_id in ids]
    summary, table, _ = run('table', **write_table(tmp_path / 'pairs.csv', rows), waiting_mib=0)
    assert summary['pairs'] == 12 and table['image_id'].tolist() == ids
    for name in METRICS:
        np.testing.assert_array_equal(table[name][::-1], want[name])


def test_pairs_that_cannot_be_scored_are_quarantined_with_reasons(run, tmp_path):
    _, before, _ = run()
    whole = (tmp_path / 'dist/I01_1.png').read_bytes()
    (tmp_path / 'dist/I01_1.png').write_bytes(whole[: len(whole) // 2])
    save(tmp_path / 'dist/I01_2.png', np.zeros((40, 40, 3), np.uint8))
    (tmp_path / 'dist/I02_1.png').unlink()
    (tmp_path / 'dist/I02_1.png').symlink_to('nowhere')
    save(tmp_path / 'ref/I04.png', np.zeros((8, 9, 3), np.uint8))
    save(tmp_path / 'dist/I04_1.png', np.ones((8, 9, 3), np.uint8))
    save(tmp_path / 'dist/I05_1.png', np.ones((40, 48, 3), np.uint8))
    (tmp_path / 'ref/I03.png').write_text('<html>')
    summary, table, reasons = run()
    assert summary['quarantined'] == 9 and summary['pairs'] == 5
    kept = np.isin(before['image_id'].astype(str), table['image_id'].astype(str))
    assert table['image_id'].tolist() == ['I01_3', 'I01_4', 'I02_2', 'I02_3', 'I02_4']
    for name in METRICS:
        np.testing.assert_array_equal(table[name], before[name][kept])
    damaged = [f'I03_{i}' for i in range(1, 5)]  # by their reference
    assert list(reasons) == ['I05_1.png', 'I01_1', 'I01_2', 'I02_1', *damaged, 'I04_1']
    for name, reason in {
        'I05_1.png': 'holds no reference for it',
        'I01_1': 'dist/I01_1.png is damaged or truncated',
        'I01_2': 'it is 40x40 pixels, its reference 48x40',
        'I02_1': 'dist/I02_1.png is not a file',
        'I03_2': 'ref/I03.png is not an image',
        'I04_1': 'images of 8x9 are too small for ssim: at least 11 pixels',
    }.items():
        assert reason in reasons[name]
    # Nothing at all can be scored: an empty table that later stages can read, and every reason.
    for file in (tmp_path / 'ref').glob('*.png'):
        file.write_bytes(b'')
    summary, table, reasons = run()
    assert summary['pairs'] == 0 and summary['quarantined'] == 14 == len(reasons)
    assert [*table] == ['image_id', *METRICS] and not len(table['ssim'])


@pytest.mark.parametrize('code', [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize('name', ['I02.png', 'I02_3.png'])
def test_a_picture_that_cannot_be_read_for_a_moment_ends_the_run(
    run, tmp_path, failing_read, name, code
):
    failing_read(name, code)
    with pytest.raises(OSError, match=name) as error:
        run(shard_size=4)
    exit_code, said = endings.of(error.value)
    assert exit_code == 1 and f'{name} could not be read ({os.strerror(code)})' in said
    assert not (tmp_path / 'out/shards/000000004.parquet').exists()
    assert not (tmp_path / 'out/quarantine.csv').exists()
    summary, _, reasons = run(shard_size=4)
    assert summary['pairs'] == 12 and not reasons


def test_infinite_psnr_of_equal_images_stays_and_other_infinities_do_not(
    run, tmp_path, monkeypatch
):
    rows = [('equal', 'ref/I01.png', 'ref/I01.png'), ('noisy', 'ref/I01.png', 'dist/I01_1.png')]
    pairs = write_table(tmp_path / 'pairs.csv', rows)
    _, table, reasons = run(**pairs)
    assert table['psnr'][0] == np.inf and table['ssim'][0] == 1 and table['gmsd'][0] == 0
    assert np.isfinite(table['psnr'][1]) and not reasons
    assert tables.read(tmp_path / 'out/scores.csv')[0]['psnr'][0] == np.inf

    def broken(names, policy):
        columns = {'gmsd': [np.nan, 0], 'ssim': [np.inf, 1], 'psnr': [np.inf, np.inf]}
        return lambda *images: {name: np.array(columns[name], np.float32) for name in names}

    monkeypatch.setattr(score_pairs.fr_metrics, 'metrics', broken)
    summary, table, reasons = run('broken', **pairs)
    assert reasons == {'equal': 'gmsd, ssim is not finite'} and summary['quarantined'] == 1
    assert table['image_id'].tolist() == ['noisy'] and table['psnr'].tolist() == [np.inf]


def test_the_parity_policy_keeps_what_the_originals_give(run, tmp_path):
    save(tmp_path / 'small.png', np.zeros((8, 8, 3), np.uint8))
    pairs = write_table(tmp_path / 'pairs.csv', [('small', 'small.png', 'small.png')])
    summary, table, _ = run(**pairs, metrics=('ssim', 'vif'), policy='parity')
    assert summary['pairs'] == 1 and summary['quarantined'] == 0
    assert table['ssim'].tolist() == [-np.inf] and np.isnan(table['vif'][0])
    meta = tables.read(tmp_path / 'out/scores.parquet')[1]
    assert meta['columns']['vif']['origin'] == 'full-reference metric vif, parity policy'
    summary, table, reasons = run(**pairs, metrics=('ssim', 'vif'))
    assert summary['pairs'] == 0 and 'too small for ssim, vif' in reasons['small']


def test_what_is_done_runs_again_when_a_file_or_the_config_changes(run, folders, tmp_path, capfd):
    def again(**changes) -> bool:
        capfd.readouterr()
        run(**changes)
        return 'up to date' not in capfd.readouterr().err

    assert again() and not again() and not again(threads=1)
    for name in ('ref', 'dist'):
        (tmp_path / 'moved').mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / 'moved' / name)
    for role in folders:
        folders[role] = folders[role].replace(str(tmp_path), str(tmp_path / 'moved'))
    assert not again()
    file = tmp_path / 'moved/dist/I03_4.png'
    os.utime(file, ns=(time.time_ns(), time.time_ns()))
    assert again() and not again()
    save(tmp_path / 'moved/dist/I09_1.png', np.zeros((40, 48, 3), np.uint8))
    assert again() and not again()
    file.rename(file.with_name('I03_5.png'))
    assert again() and not again() and again(metrics=('psnr',))


def test_a_table_that_swaps_two_files_of_equal_size_and_time_runs_again(run, tmp_path, capfd):
    for i in (1, 2):
        Image.fromarray(np.full((40, 48, 3), i, np.uint8)).save(tmp_path / f'{i}.bmp')
        os.utime(tmp_path / f'{i}.bmp', ns=(0, 0))
    assert (tmp_path / '1.bmp').stat().st_size == (tmp_path / '2.bmp').stat().st_size

    def scored(reference: str, distorted: str) -> bool:
        capfd.readouterr()
        run(**write_table(tmp_path / 'pairs.csv', [('a', reference, distorted)]))
        return 'up to date' not in capfd.readouterr().err

    assert scored('1.bmp', '1.bmp') and not scored('1.bmp', '1.bmp')
    assert scored('1.bmp', '2.bmp') and scored('2.bmp', '1.bmp')
    assert scored('2.bmp', '2.bmp') and scored('1.bmp', '1.bmp')


def test_a_killed_run_goes_on_at_its_shard_and_ends_with_the_same_bytes(
    run, main, folders, tmp_path, capfd
):
    (tmp_path / 'dist/I02_3.png').write_bytes(b'')
    run('whole', shard_size=4)
    arguments = ['--config', 'configs/score_pairs.py:smoke', f'--config.metrics={METRICS}']
    arguments += [f'--config.{key}={value}' for key, value in folders.items()]
    arguments += ['--config.batch_size=3', '--config.shard_size=4']
    arguments += ['--workdir', str(tmp_path / 'killed')]
    killed = main(*arguments, IQA_JAX_CRASH_AT='score_pairs.shard:2')
    assert killed.returncode == -9, killed.stderr
    shards = sorted((tmp_path / 'killed/shards').glob('*.parquet'))
    assert len(shards) == 2 and not (tmp_path / 'killed/scores.parquet').exists()
    times = [shard.stat().st_mtime_ns for shard in shards]
    done = main(*arguments)
    assert done.returncode == 3, done.stderr
    assert 'score_pairs: 11 pairs, 1 quarantined' in done.stderr
    assert [shard.stat().st_mtime_ns for shard in shards] == times
    for name in ('scores.parquet', 'scores.csv', 'quarantine.csv'):
        assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
    capfd.readouterr()
    run('killed', shard_size=4)  # the same command again
    assert 'score_pairs: up to date' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'pairs': 'x.csv'}, "Set either config.pairs.*set are distorted, pairs, references"),
        ({'references': ''}, 'set are distorted'),
        ({'references': '', 'distorted': ''}, 'set are none of them'),
        ({'distorted': 'nowhere'}, 'config.distorted=nowhere is not a folder'),
        ({'metrics': ('gmsd', 'psnrr')}, "unknown metric 'psnrr'; the known ones are ssim"),
        ({'metrics': ()}, 'config.metrics is empty'),
        ({'policy': 'lax'}, "policy must be one of safe, parity, not 'lax'"),
        ({'batch_size': 0}, 'config.batch_size=0 is too small; it is at least 1'),
        ({'waiting_mib': -1}, 'config.waiting_mib=-1 is too small'),
        ({'metric': ()}, 'config.metric is not a key of this config; did you mean metrics'),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_sentence_before_any_work(run, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(**changes)
    assert not (tmp_path / 'out').exists()


def test_pictures_with_any_names_are_found_where_the_locale_is_not_utf8(main, folders, tmp_path):
    folder = tmp_path / 'schöne fötos'
    (tmp_path / 'ref').rename(folder)
    arguments = ['--config', 'configs/score_pairs.py:smoke', "--config.metrics=('psnr',)"]
    arguments += [f'--config.references={folder}', f'--config.distorted={folders["distorted"]}']
    plain = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    done = main(*arguments, '--workdir', str(tmp_path / 'örgebnis'), **plain)
    assert done.returncode == 0, done.stderr
    assert len(tables.read(tmp_path / 'örgebnis/scores.csv')[0]['image_id']) == 12
