"""Names in any script and of any bytes go through every stage that reads pictures."""

import logging
import os

import numpy as np
import pytest
import test_bad_input

from configs import score_pairs as pairs_file
from iqa_jax.data import manifest, pairs, sources, tables
from iqa_jax.images import io
from iqa_jax.tasks import make_data, score, score_pairs

BYTES = os.fsdecode(b'bytes\xff\xfe')  # no Unicode text
NAMES = [
    '日本語', 'e\u0301', 'مرحبا', '🙂', '\u202egnp', 'line\nbreak', 'return\rhere', 'tab\there',
    'quote"\'`', 'comma,semi;', '--config', '-rf *', ' space ', '=1+1', '<img src=x onerror=alert>',
    '%s {} $HOME', 'back\\slash', '\x1b[31mred', 'x.array_record#7', 'n' * 240, '.hidden', 'ﬁ',
]  # fmt: skip


@pytest.fixture(autouse=True)
def _silent(request, monkeypatch):
    """Captured logs go to another process, which takes no name that is not text."""
    if 'caplog' not in request.fixturenames:
        monkeypatch.setattr(logging.getLogger('absl'), 'disabled', True)


@pytest.fixture
def folder(tmp_path):
    """Pictures [64, 64, 3] of all names, and one whose name is no text."""
    (tmp_path / 'photos').mkdir()
    rng = np.random.default_rng(0)
    for name in [*NAMES, BYTES]:
        image = io.encode_png(rng.integers(0, 256, (64, 64, 3), np.uint8))
        (tmp_path / 'photos' / f'{name}.png').write_bytes(image)
    return tmp_path / 'photos'


def quarantined(workdir):
    table = tables.read(workdir / 'quarantine.csv')[0]
    return dict(zip(table['file'].tolist(), table['reason'].tolist(), strict=True))


def test_make_data_takes_every_name_that_is_text_and_names_the_other(folder, tmp_path):
    changes = {'photos': str(folder), 'size': (64, 64), 'types': ('mean_shift',), 'levels': (1,)}
    summary = make_data.run(test_bad_input.DATA | changes, tmp_path / 'data')
    assert summary['photos'] == len(NAMES) and summary['quarantined'] == 1
    assert quarantined(tmp_path / 'data') == {
        f'{folder}/bytes\\udcff\\udcfe.png': 'its name is not Unicode text; rename it'
    }
    made = manifest.read(tmp_path / 'data/manifest.parquet')
    assert all(os.path.isfile(file) for file in made['file'])


def test_score_pairs_takes_every_name_that_is_text_and_names_the_other(folder, tmp_path):
    (tmp_path / 'distorted').mkdir()
    for name in [*NAMES, BYTES]:
        made = io.encode_png(io.decode(folder / f'{name}.png') // 2)
        (tmp_path / 'distorted' / f'{name}_1.png').write_bytes(made)
    config = pairs_file.get_config('smoke').to_dict() | {'metrics': ('psnr',)}
    config |= {'references': str(folder), 'distorted': str(tmp_path / 'distorted')}
    summary = score_pairs.run(config, tmp_path / 'out')
    assert summary['pairs'] == len(NAMES) and summary['quarantined'] == 1
    for form in ('parquet', 'csv'):
        found = tables.read(tmp_path / f'out/scores.{form}')[0]['image_id'].tolist()
        assert sorted(found) == sorted(f'{name}_1' for name in NAMES)
    assert quarantined(tmp_path / 'out') == {
        'bytes\\udcff\\udcfe_1.png': 'its name is not Unicode text; rename it'
    }


def test_a_table_of_pairs_may_hold_every_name(folder, tmp_path):
    rows = {key: np.array(NAMES, object) for key in ('image_id', 'reference', 'distorted')}
    rows['distorted'] = rows['reference'] = np.array([f'{folder}/{x}.png' for x in NAMES], object)
    for form in ('csv', 'parquet'):
        tables.write(tmp_path / f'pairs.{form}', rows)
        read = pairs.read_table(tmp_path / f'pairs.{form}')
        assert read['image_id'].tolist() == NAMES
        bad: dict[int, str] = {}
        assert sum(len(at) for at, _, _ in pairs.batches(read, 4, 2, 64, bad)) == len(NAMES)
        assert not bad


def test_score_takes_every_name_from_a_csv(smoke, folder, tmp_path):
    ids = np.array([*NAMES, 'gone\n"'], object)
    files = np.array([f'{folder}/{name}.png' for name in ids], object)
    tables.write(tmp_path / 'all.csv', {'image_id': ids, 'file': files})
    (tmp_path / 'all.csv.meta.json').unlink()  # as from another program
    changes = {'manifest': str(tmp_path / 'all.csv'), 'splits': ('pool',)}
    config = test_bad_input.score_config(smoke, **changes)
    summary = score.run(config, tmp_path / 'out')
    assert summary['images'] == len(NAMES) and summary['quarantined'] == 1
    found = tables.read(tmp_path / 'out/scores.parquet')[0]
    assert found['image_id'].tolist() == NAMES
    assert quarantined(tmp_path / 'out') == {'gone\n"': f'{folder}/gone\n".png is not a file'}


def test_links_to_pictures_are_followed_and_links_to_folders_named(folder, tmp_path, caplog):
    before = sources.photo_files(folder)
    (folder / 'deep').mkdir()
    (folder / 'deep' / 'up').symlink_to(folder)
    (folder / 'self').symlink_to(folder / 'self')
    (folder / 'deep' / 'linked.png').symlink_to(folder / '🙂.png')
    (folder / 'deep' / 'dangling.png').symlink_to(folder / 'nowhere')
    found = sources.photo_files(folder)
    assert {*found} - {*before} == {folder / 'deep/linked.png', folder / 'deep/dangling.png'}
    assert f'{folder}/deep/up is a link to a folder and is not entered' in caplog.text


def test_a_folder_that_may_not_be_read_is_a_sentence(folder, monkeypatch):
    (folder / 'secret').mkdir()
    listed = type(folder).iterdir

    def refuse(path):
        if path.name == 'secret':  # root may read every folder
            raise PermissionError(13, 'Permission denied', str(path))
        return listed(path)

    monkeypatch.setattr(type(folder), 'iterdir', refuse)
    with pytest.raises(OSError, match='secret cannot be read: Permission denied; allow it'):
        sources.photo_files(folder)
