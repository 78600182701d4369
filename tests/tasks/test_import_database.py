"""import_database: its tables, exit codes, what makes it run again, and the tripwire."""

from pathlib import Path

import database_layouts as layouts
import numpy as np
import pytest

from configs import import_database as config_file
from configs import train_ranking
from iqa_jax import fr_metrics
from iqa_jax.data import manifest, pairs, records, tables
from iqa_jax.images import io
from iqa_jax.tasks import import_database, opening, score_pairs, train_setup

OPTIONS = {'table': '', 'allow_partial': True, 'array_record': False, 'split_shares': (1, 1, 2, 0)}


@pytest.fixture
def run(tmp_path):
    """Runs the stage on tmp_path/name with changes of its config: (summary, workdir)."""

    def run(name: str, /, **changes) -> tuple[dict, Path]:
        config = config_file.get_config('smoke').to_dict() | OPTIONS
        config |= {'name': name, 'folder': str(tmp_path / name), 'database': name}
        workdir = tmp_path / 'out'
        return import_database.run(config | changes, workdir), workdir

    return run


def test_kadid10k_trains_by_its_name_alone(run, tmp_path):
    layouts.kadid10k(tmp_path / 'kadid10k', references=6)
    summary, workdir = run('kadid10k')
    assert (summary['images'], summary['references'], summary['quarantined']) == (30, 6, 0)
    columns = manifest.read(workdir / 'manifest.parquet')
    assert all(Path(file).is_file() for file in columns['file'])
    assert not Path(tables.read(workdir / 'manifest.parquet')[0]['file'][0]).is_absolute()
    config = train_ranking.get_config().to_dict()
    where = {'manifest': str(workdir / 'manifest.parquet'), 'scores': '', 'weight': 1.0}
    train, val, simulated = train_setup.load_databases(config | {'databases': {'kadid10k': where}})
    assert len(train[0].targets) == 10 and len(val[0].targets) == 5 and not simulated
    meta = tables.read(workdir / 'manifest.parquet')[1]
    assert (
        meta['database'] == 'kadid10k' and meta['scale'] == [1, 5] and 'QoMEX' in meta['citation']
    )
    assert meta['sources'] == {'dmos.csv': io.sha256((tmp_path / 'kadid10k/dmos.csv').read_bytes())}


def test_its_pairs_are_those_that_score_pairs_reads(run, tmp_path):
    layouts.kadid10k(tmp_path / 'kadid10k')
    _, workdir = run('kadid10k')
    table = pairs.read_table(workdir / 'pairs.csv')
    assert all(Path(f).is_file() for role in ('reference', 'distorted') for f in table[role])
    config = {'task': '', 'root': '', 'pairs': str(workdir / 'pairs.csv'), 'references': ''}
    config |= {'distorted': '', 'metrics': ('gmsd',), 'policy': 'safe', 'batch_size': 8}
    config |= {'waiting_mib': 1, 'threads': 1, 'shard_size': 32, 'shard': ''}
    config |= {'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048}}
    assert score_pairs.run(config, tmp_path / 'scored')['pairs'] == 20
    scores = tables.read(tmp_path / 'scored/scores.parquet')[0]
    row = table['image_id'].tolist().index('kadid10k__I02_11_04')
    images = [io.decode(table[role][row]) for role in ('reference', 'distorted')]
    want = np.asarray(fr_metrics.metric('gmsd')(*images))
    np.testing.assert_allclose(scores['gmsd'][row], want[0], rtol=1e-6)


def test_the_tripwire_sees_opinions_the_wrong_way_round(run, tmp_path, caplog):
    layouts.folder(tmp_path / 'folder')
    summary, _ = run('folder', scale=(1, 5))
    assert summary['direction_srcc'] > 0.8 and 'LOOK FLIPPED' not in caplog.text
    assert summary['direction'] in summary['headline']
    summary, _ = run('folder', scale=(5, 1))
    assert summary['direction_srcc'] < -0.8
    assert 'OPINIONS LOOK FLIPPED' in summary['direction'] and 'LOOK FLIPPED' in caplog.text


@pytest.mark.parametrize(
    ('name', 'changes', 'said'),
    [
        ('folder', {'tripwire_pairs': 0, 'scale': (1, 5)}, 'config.tripwire_pairs is 0'),
        ('folder', {'tripwire_pairs': 5, 'scale': (1, 5)}, 'only 5 pairs could be scored'),
        ('koniq10k', {}, 'no rated image has a reference'),
        ('waterloo', {}, 'no rated image has a reference'),
    ],
)
def test_a_direction_that_is_not_checked_is_said(run, tmp_path, name, changes, said):
    getattr(layouts, name)(tmp_path / name)
    summary, _ = run(name, **changes)
    assert (
        summary['direction'].startswith('direction not checked: ') and said in summary['direction']
    )
    assert summary['direction_srcc'] is None


def test_pairs_of_equal_pictures_say_nothing_about_direction(run, tmp_path):
    layouts.folder(tmp_path / 'folder')
    for path in (tmp_path / 'folder').rglob('*.png'):
        layouts.picture(path)
    with pytest.warns(UserWarning, match='SRCC is nan'):
        summary, _ = run('folder', scale=(1, 5))
    assert summary['direction'].endswith('opinions or GMSD on 16 pairs are all equal')


def test_kadis700k_gives_scores_and_proxies_that_training_reads(run, tmp_path):
    layouts.kadis700k(tmp_path / 'kadis700k')
    summary, workdir = run('kadis700k')
    assert summary['images'] == 20 and summary['direction_srcc'] > 0.8
    scores, meta = tables.read(workdir / 'scores.parquet')
    assert not meta['columns']['gmsd']['higher_is_better'] and len(scores['image_id']) == 20
    found, meta = tables.read(workdir / 'proxies.parquet')
    assert all(column['higher_is_better'] for column in meta['columns'].values())
    columns = manifest.read(workdir / 'manifest.parquet')
    train = columns['split'][:20] == 'train'
    assert 0 < found['gmsd'][train].min() < found['gmsd'][train].max() < 1
    order = [np.argsort(found[name][train]).tolist() for name in ('gmsd', 'ssim')]
    assert order[0] == order[1], 'a lower GMSD is a higher proxy'
    where = {'manifest': str(workdir / 'manifest.parquet'), 'weight': 1.0}
    where['scores'] = str(workdir / 'proxies.parquet')
    config = {'databases': {'kadis': where}, 'targets': ('ssim', 'scqi'), 'loss': 'mse'}
    (source,), _, _ = train_setup.load_databases(config)
    assert source.targets.shape == (5, 2)


def test_a_score_column_the_wrong_way_round_is_named(run, tmp_path, caplog):
    path = layouts.kadis700k(tmp_path / 'kadis700k') / 'kadis700k_friqa.csv'
    path.write_text(path.read_text().replace(',scqi,', ',x,').replace(',gmsd,', ',scqi,'))
    summary, _ = run('kadis700k')
    assert 'COLUMN scqi LOOKS FLIPPED' in summary['direction'] and 'COLUMN scqi' in caplog.text
    assert summary['direction_srcc'] < -0.8


def test_proxies_without_a_training_image_are_refused(run, tmp_path):
    layouts.kadis700k(tmp_path / 'kadis700k')
    with pytest.raises(ValueError, match='No image is in split train'):
        run('kadis700k', split_shares=(0, 0, 0, 1))


def test_it_does_nothing_again_until_a_file_changes(run, tmp_path, capfd):
    layouts.kadid10k(tmp_path / 'kadid10k')
    first, workdir = run('kadid10k')
    assert run('kadid10k')[0] == first and 'up to date' in capfd.readouterr().err
    moved = (tmp_path / 'kadid10k').rename(tmp_path / 'kadid')
    with pytest.raises(
        ValueError, match='is not a folder; give the one that holds KADID-10k: dmos'
    ):
        run('kadid10k')
    (tmp_path / 'kadid10k').symlink_to(moved)
    layouts.picture(moved / 'images/I01_11_01.png', 9)
    run('kadid10k')
    assert 'up to date' not in capfd.readouterr().err
    digest = manifest.read(workdir / 'manifest.parquet')['sha256'][0]
    assert digest == io.sha256((moved / 'images/I01_11_01.png').read_bytes())


def test_a_changed_record_of_an_array_record_file_is_seen(run, tmp_path):
    folder, pictures = tmp_path / 'folder', []
    for content in range(2):
        layouts.picture(folder / 'a.png', content)
        pictures.append((folder / 'a.png').read_bytes())
    (folder / 'x.csv').write_text('image_id,file,mos\na,x.array_record#0,10\n')
    for picture in pictures:
        with records.writer(folder / 'x.array_record') as append:
            append(picture)
        _, workdir = run('folder', scale=(0, 100), split_shares=(1, 0, 0, 0))
        columns = manifest.read(workdir / 'manifest.parquet')
        assert columns['sha256'].tolist() == [io.sha256(picture)]
    found = []
    for picture in pictures:
        with records.writer(folder / 'x.array_record') as append:
            append(picture)
        found.append(opening.unsigned_files(str(folder / 'x.csv')))
    assert found[0][0][:1] == ['a'] and found[0] != found[1]


def test_array_record_is_written_and_made_again_when_it_is_gone(run, tmp_path):
    layouts.koniq10k(tmp_path / 'koniq10k')
    _, workdir = run('koniq10k', array_record=True)
    record = workdir / 'tfds/koniq10k/1.0.0/dataset_info.json'
    record.unlink()
    run('koniq10k', array_record=True)
    assert record.is_file()


def test_simulated_opinions_stay_simulated(run, tmp_path):
    layouts.picture(tmp_path / 'folder/a.png')
    table = {'image_id': np.array(['a'], object), 'file': np.array(['a.png'], object)}
    table['mos'] = np.array([50.0])
    tables.write(tmp_path / 'folder/rated.parquet', table, {'simulated': True})
    _, workdir = run('folder', table='rated.parquet', split_shares=(1, 0, 0, 0))
    assert tables.read(workdir / 'manifest.parquet')[1]['simulated'] is True


def test_a_folder_without_ids_needs_a_name(run, tmp_path):
    layouts.folder(tmp_path / 'folder')
    with pytest.raises(ValueError, match=r'has no image_id.*give one in config.database'):
        run('folder', scale=(1, 5), database='')
    _, workdir = run('folder', scale=(1, 5), database='mine')
    columns = manifest.read(workdir / 'manifest.parquet')
    assert columns['image_id'][0] == 'mine__0_1' and set(columns['database']) == {'mine'}
    changes = {'folder': str(workdir), 'table': 'manifest.parquet', 'database': ''}
    ids = manifest.read(run('folder', **changes)[1] / 'manifest.parquet')['image_id']
    assert ids.tolist() == columns['image_id'].tolist()


def test_the_scale_of_a_folder_is_the_manifests_or_must_be_said(run, tmp_path):
    layouts.picture(tmp_path / 'folder/a.png')
    (tmp_path / 'folder/x.csv').write_text('file,dmos,var\na.png,4,0.25\n')
    with pytest.raises(ValueError, match=r'config.scale=\(worst, best\) which .* \(DMOS\)'):
        run('folder', split_shares=(1, 0, 0, 0))
    _, workdir = run('folder', split_shares=(1, 0, 0, 0), scale=(5, 1))
    table, meta = tables.read(workdir / 'manifest.parquet')
    assert (table['mos'][0], table['mos_std'][0]) == (25, 12.5)
    assert (meta['scale'], meta['spread']) == ([5, 1], 'variance')
    _, workdir = run('folder', split_shares=(1, 0, 0, 0), scale=(5, 1), spread='std')
    assert manifest.read(workdir / 'manifest.parquet')['mos_std'][0] == 6.25
    config = {'folder': str(workdir), 'table': 'manifest.parquet', 'split_shares': (1, 0, 0, 0)}
    _, workdir = run('folder', **config)
    table, meta = tables.read(workdir / 'manifest.parquet')
    assert (table['mos'][0], table['mos_std'][0], meta['scale']) == (25, 6.25, [0, 100])


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'name': 'kadid'}, "config.name='kadid' is no database"),
        ({'spread': 'var'}, "config.spread='var'; use one of"),
        ({'check': 'no'}, "config.check='no'; use one of decode"),
        ({'splits': 'own'}, "config.splits='own'; use one of official"),
        ({'threads': 0}, 'config.threads=0 is too small'),
        ({'scale': (1,)}, 'needs two numbers'),
        ({'folder': ''}, 'config.folder= is not a folder'),
        ({'split_shares': (1, 1, 1, 0)}, 'split test would get'),
        ({'foldr': ''}, 'did you mean folder'),
        ({'database': 'a/b'}, "config.database='a/b' begins ids"),
        ({'array_record': True, 'database': 'A-b'}, "'A-b' cannot name a data set"),
    ],
)
def test_wrong_configs(run, tmp_path, changes, said):
    layouts.kadid10k(tmp_path / 'kadid10k', references=2, levels=1)
    with pytest.raises(ValueError, match=said):
        run('kadid10k', **{'split_shares': (1, 0, 0, 0)} | changes)


def test_exit_codes(main, tmp_path):
    layouts.live(tmp_path / 'live')
    arguments = ['--config', 'configs/import_database.py', '--workdir', str(tmp_path / 'out')]
    arguments += ['--config.name=live', f'--config.folder={tmp_path / "live"}']
    arguments += ['--config.split_shares=(1,0,0,0)']
    done = main(*arguments)
    assert done.returncode == 1 and 'set config.allow_partial=True' in done.stderr
    (tmp_path / 'live/jp2k/img2.bmp').unlink()
    done = main(*arguments, '--config.allow_partial=True')
    assert done.returncode == 3, done.stderr
    assert '4 images, 1 quarantined, 2 references' in done.stderr
    assert 'jp2k__img2' in (tmp_path / 'out/quarantine.csv').read_text()
