"""repeat: every run once, rates chosen on validation, differences paired over splits and seeds."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import ablate_ohem, deepfl_splits
from iqa_jax.data import manifest, tables
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import repeat, repeat_results, repeat_runs, repeat_setup, train_setup

GROUPS = {'1': 'head', '2': 'mid', '3': 'tail'}


def write_splits(folder, count: int = 2, val: bool = False) -> dict:
    """Splits of eight references with three types at four levels, 32x32: config.splits."""
    cells = [(r, t, level) for r in range(8) for t in (1, 2, 3) for level in range(1, 5)]
    rng = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    for r, t, level in cells:
        image = np.clip(60 + 20 * r + rng.normal(0, 12 * level, (32, 32, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / f'images/{r}_{t}_{level}.png')
    ref, kind, level = np.array(cells).T
    ids = np.array(['_'.join(map(str, cell)) for cell in cells], object)
    rows = {'image_id': ids, 'ref_id': ref.astype(str).astype(object), 'type': kind}
    rows |= {'level': level, 'mos': 95.0 - 15 * level + rng.normal(0, 3, len(ids))}
    rows |= {'mos_std': np.full(len(ids), 8.0)}
    rows['file'] = np.array([str(folder / f'images/{i}.png') for i in ids], object)
    splits = {}
    for index in range(count):
        sides = np.random.default_rng(index).permutation(
            ['train'] * 4 + ['val' if val else 'train'] + ['test'] * 3
        )
        path = folder / f'split_{index}.parquet'
        columns = rows | {'split': sides[ref].astype(object)}
        manifest.write(path, manifest.complete(columns, path), {'groups': GROUPS})
        where = {'manifest': str(path)}
        splits[f's{index}'] = {'train': {'kadid10k': where}, 'test': {'kadid10k': where}}
    return splits


def settings(splits: dict, **changes) -> dict:
    config = ablate_ohem.get_config('smoke').to_dict() | {'root': '', 'splits': splits}
    config['evaluate'] |= {'resamples': 50}
    return config | changes


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    """The smoke ablation, trained indeed: (config, workdir)."""
    folder = tmp_path_factory.mktemp('repeat')
    config = settings(write_splits(folder / 'data'))
    repeat.run(config, folder / 'out')
    return config, folder / 'out'


def test_every_run_is_the_ordinary_stages_in_a_folder_of_its_own(real):
    _, workdir = real
    table = tables.read(workdir / 'runs.csv')[0]
    keys = list(zip(table['variant'], table['split'], table['seed'], strict=True))
    assert keys == [(v, s, 0) for v in ('plain', 'twin') for s in ('s0', 's1')]
    for row, (variant, split, _) in enumerate(keys):
        folder = workdir / variant / split / 'seed_0'
        found = json.loads((folder / 'evaluate_kadid10k/results.json').read_text())['rows'][0]
        assert table['srcc'][row] == found['srcc'][0] and table['n'][row] == 36
        assert table['plcc_tail'][row] == found['groups']['tail']['plcc'][0]
        assert (folder / 'train/hard_examples.parquet').is_file() == (variant == 'twin')
        assert not (folder / 'train/checkpoints').exists()
    lines = list(csv.DictReader((workdir / 'trainings.csv').open()))
    assert [line['chosen'] for line in lines] == ['True'] * 4
    assert not list(csv.DictReader((workdir / 'quarantine.csv').open()))


def test_the_summary_is_that_of_the_runs(real):
    _, workdir = real
    table = tables.read(workdir / 'runs.csv')[0]
    record = json.loads((workdir / 'summary.json').read_text())
    assert record['simulated'] is False and record['tested_per_trained'] == {'kadid10k': 3 / 5}
    entries = {(e['variant'], e['measure'], e['group']): e for e in record['results']}
    for column, key in (('srcc', ('srcc', 'all')), ('srcc_mid', ('srcc', 'mid'))):
        plain, twin = table[column].reshape(2, 2)
        assert entries['twin', *key]['mean'] == pytest.approx(twin.mean())
        change = entries['twin', *key]['difference']
        assert change['value'] == pytest.approx((twin - plain).mean())
        assert change['t'][0] <= change['value'] <= change['t'][1]
        assert change['corrected'][0] <= change['t'][0]
    assert entries['twin', 'rmse', 'all']['difference']['splits'] == 2
    assert ('twin', 'rmse', 'mid') not in entries
    text = (workdir / 'table.txt').read_text()
    assert text.startswith('SRCC on kadid10k, 2 splits x 1 seeds; change to plain, paired\n')
    assert (
        b'change of SRCC to plain, kadid10k' in (workdir / 'difference_kadid10k.svg').read_bytes()
    )


def test_the_same_again_changes_no_byte_and_what_is_missing_alone_is_done(
    real, tree_digest, capsys
):
    config, workdir = real
    before = tree_digest(workdir)
    capsys.readouterr()
    repeat.run(config, workdir)
    said = capsys.readouterr().err
    assert tree_digest(workdir) == before and 'repeat: up to date' in said
    assert said.count('train: up to date') == 4 and said.count('evaluate: up to date') == 4
    shutil.rmtree(workdir / 'twin/s1/seed_0/evaluate_kadid10k')
    times = {f: f.stat().st_mtime_ns for f in workdir.rglob('stage.json')}
    repeat.run(config, workdir)
    said = capsys.readouterr().err
    assert said.count('train: up to date') == 4 and said.count('evaluate: up to date') == 3
    assert {f for f, t in times.items() if f.stat().st_mtime_ns != t} <= {workdir / 'stage.json'}
    changed = {name for name, digest in tree_digest(workdir).items() if digest != before[name]}
    assert all('stage.json' in name for name in changed)  # they tell the seconds


@pytest.fixture
def stub(monkeypatch):
    """The three stages in no time: the list of trained (folder, rate), some of which diverge."""
    trained: list[tuple[str, float]] = []

    def train(config: dict, folder) -> dict:
        rate = config['learning_rate']
        trained.append(('/'.join(folder.parts[-4:-1]), rate))
        if rate >= 0.1 or (rate > 0.01 and config['seed'] == 1):
            raise train_setup.DivergedError(f'The loss is nan at {rate}.')
        about = {'seed': config['seed'], 'ohem': config['ohem'] is not None}
        artifacts.commit(folder / 'stage.json', json.dumps(about).encode())
        value = None if rate == 0.001 else 0.9 - abs(np.log10(rate) + 4) / 10
        return {'val_srcc': value, 'seconds': 1.0, 'simulated': config['ohem'] is not None}

    def score(config: dict, folder) -> dict:
        model = json.loads(artifacts.read(Path(config['model']).with_name('stage.json')))
        artifacts.commit(folder / 'scores.parquet', json.dumps(model).encode())
        return {'seconds': 1.0}

    def evaluate(config: dict, folder) -> dict:
        (column,) = config['columns'].values()
        model = json.loads(artifacts.read(column['scores']))
        split = int(Path(config['manifest']).stem[-1])
        srcc = 0.8 + 0.01 * split + 0.003 * model['seed'] + 0.002 * model['ohem'] * (1 + split)
        row = dict.fromkeys(('srcc', 'krcc', 'plcc', 'plcc_mapped', 'rmse'), [srcc] * 3)
        record = {'simulated': model['ohem'], 'rows': [row | {'n': 36, 'groups': {}}]}
        artifacts.commit(folder / 'results.json', json.dumps(record).encode())
        return {'seconds': 1.0, 'quarantined': 0}

    for stage, fake in (('train', train), ('score', score), ('evaluate', evaluate)):
        monkeypatch.setattr(getattr(repeat_runs, stage), 'run', fake)
    return trained


def test_the_rate_is_chosen_on_validation_and_one_that_diverges_is_recorded(stub, tmp_path):
    rates = (1e-1, 1e-3, 1e-4, 1e-5)
    config = settings(write_splits(tmp_path / 'data', val=True), rates=rates, seeds=(0, 1))
    summary = repeat.run(config, tmp_path / 'out')
    assert (summary['runs'], summary['trainings'], summary['diverged']) == (8, 32, 8)
    assert summary['quarantined'] == 0 and summary['simulated']
    runs = tables.read(tmp_path / 'out/runs.csv')[0]
    assert runs['rate'].tolist() == [1e-4] * 8 and runs['val_srcc'].tolist() == [0.9] * 8
    lines = tables.read(tmp_path / 'out/trainings.csv')[0]
    simulated = lines['simulated'].astype(str) == 'True'
    twin_trained = (lines['variant'] == 'twin') & (lines['state'] == 'trained')
    assert simulated.tolist() == twin_trained.tolist()
    for rate, state, val in ((1e-1, 'diverged', np.nan), (1e-3, 'trained', np.nan)):
        at = lines['rate'] == rate
        assert {*lines['state'][at]} == {state}
        np.testing.assert_array_equal(lines['val_srcc'][at], val)
    # What compiles alike follows each other, and a test belongs to the chosen model alone.
    assert [rate for _, rate in stub[:8]] == [1e-5] * 4 + [1e-4] * 4
    scored = sorted(p.parent.name for p in (tmp_path / 'out').rglob('scores.parquet'))
    assert scored == ['score_kadid10k'] * 8
    assert (runs['simulated'].astype(str) == 'True').tolist() == [
        v == 'twin' for v in runs['variant']
    ]
    assert '(SIMULATED observers)' in (tmp_path / 'out/table.txt').read_text()
    assert b'SIMULATED' in (tmp_path / 'out/difference_kadid10k.svg').read_bytes()
    # Diverged once, it is not begun again.
    del stub[:]
    repeat.run(config, tmp_path / 'out')
    assert {rate for _, rate in stub} == {1e-3, 1e-4, 1e-5}


def test_the_difference_is_that_of_pairs_and_lost_runs_are_counted(stub, tmp_path):
    config = settings(write_splits(tmp_path / 'data', 3), seeds=(0, 1))
    config['variants'] = {'plain': {'ohem': None}, 'twin': {}, 'fast': {'learning_rate': 0.05}}
    summary = repeat.run(config, tmp_path / 'out')
    assert (summary['runs'], summary['diverged'], summary['quarantined']) == (18, 3, 3)
    lost = tables.read(tmp_path / 'out/quarantine.csv')[0]['file'].tolist()
    assert lost == [f'fast/s{i}/seed_1' for i in range(3)]
    record = json.loads((tmp_path / 'out/summary.json').read_text())
    entries = {(e['variant'], e['measure'], e['group']): e for e in record['results']}
    table = tables.read(tmp_path / 'out/runs.csv')[0]
    assert table['state'].tolist().count('lost') == 3
    said = 'Without a result of 6 runs each: 3 of fast; see quarantine.csv.'
    assert said in (tmp_path / 'out/table.txt').read_text()
    change = entries['twin', 'srcc', 'all']['difference']
    assert change['value'] == pytest.approx(0.004)  # 0.002, 0.004 and 0.006 of the three splits
    assert change['t'] == pytest.approx([0.004 - 0.004968, 0.004 + 0.004968], abs=1e-6)
    assert (change['splits'], change['runs']) == (3, 6)
    assert entries['twin', 'srcc', 'all']['sd_seeds'] == pytest.approx(0.003 / np.sqrt(2))
    assert entries['fast', 'srcc', 'all']['difference']['runs'] == 3  # without seed 1


def test_runs_that_score_all_images_alike_are_set_aside(stub, tmp_path, monkeypatch):
    flat = {'row': {'n': 36, 'groups': {}} | dict.fromkeys(repeat_results.MEASURES, [np.nan] * 3)}
    real = repeat_runs.tested

    def tested(run, *args):
        found = real(run, *args)
        return {k: v | flat for k, v in found.items()} if run.variant == 'twin' else found

    monkeypatch.setattr(repeat_runs, 'tested', tested)
    summary = repeat.run(settings(write_splits(tmp_path / 'data')), tmp_path / 'out')
    assert summary['quarantined'] == 2
    lost = tables.read(tmp_path / 'out/quarantine.csv')[0]
    assert lost['file'].tolist() == [f'twin/s{i}/seed_0/evaluate_kadid10k' for i in (0, 1)]
    assert {*lost['reason']} == {'its SRCC is not a number: all scores, or all opinions, are equal'}
    assert 'runs each: 2 of twin' in (tmp_path / 'out/table.txt').read_text()


def test_a_command_whose_runs_are_all_lost_says_so(stub, tmp_path):
    config = settings(write_splits(tmp_path / 'data'), rates=())
    config['train'] |= {'learning_rate': 1.0}
    with pytest.raises(ValueError, match='No run has a result: every training diverged'):
        repeat.run(config, tmp_path / 'out')


def test_one_split_has_no_interval(stub, tmp_path):
    summary = repeat.run(settings(write_splits(tmp_path / 'data', 1)), tmp_path / 'out')
    assert summary['headline'].endswith('SRCC +0.002 (one split) (SIMULATED observers)')


def test_shards_share_the_runs_and_the_whole_command_joins_them(stub, tmp_path):
    config = settings(write_splits(tmp_path / 'data'))
    for part in range(3):
        summary = repeat.run(config | {'shard': f'{part}/3'}, tmp_path / 'out')
        assert summary['runs'] == (2, 1, 1)[part]
        assert not (tmp_path / 'out/runs.csv').exists()
    assert sorted(stub) == [(f'{v}/s{i}/seed_0', 3e-4) for v in ('plain', 'twin') for i in (0, 1)]
    assert repeat.run(config, tmp_path / 'out')['runs'] == 4


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'baseline': 'none'}, "config.baseline='none' is not one of config.variants"),
        ({'seeds': ()}, r'config\.seeds=\[\]; name each once'),
        ({'rates': (0.1, -1)}, 'learning rates are positive'),
        ({'rates': (0.1, 0.01)}, 'config.rates are chosen on validation images, and split s0 has'),
        ({'splits': {}}, r'config\.splits is empty'),
        ({'variants': {'plain': {'seed': 3}}}, r'variants\.plain\.seed would make it no pair'),
        ({'variants': {'plain': {'databases': {'kadid10k': {'manifest': ''}}}}},
         r'plain\.databases\.kadid10k\.manifest is not a key'),
        ({'variants': {'plain': {'ohm': None}}}, r'config\.variants\.plain\.ohm is not a key'),
        ({'variants': {'plain': {'ohem': {'ratio': 1}}}}, r'config\.ohem\.\w+ is missing'),
        ({'variants': {'../plain': {}}, 'baseline': '../plain'}, 'names a folder'),
        ({'shard': '3/3'}, "must be 'i/n'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_anything_trains(stub, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        repeat.run(settings(write_splits(tmp_path / 'data')) | changes, tmp_path / 'out')
    assert not stub


def test_splits_must_fit_the_training_and_each_other(stub, tmp_path):
    splits = write_splits(tmp_path / 'data')
    for part, changed, sentence in (
        ('train', {'live': {'manifest': ''}}, r's1\.train\.live is not a key'),
        ('test', {'live': splits['s1']['test']['kadid10k']}, 's1.test must name the same sets'),
        ('test', {'kadid10k': {'path': ''}}, r's1\.test\.kadid10k\.path is not a key'),
    ):
        wrong = splits | {'s1': splits['s1'] | {part: changed}}
        with pytest.raises(ValueError, match=sentence):
            repeat.run(settings(wrong), tmp_path / 'out')
    assert not stub


def test_the_grid_changes_one_option_at_a_time():
    options = {'ratio', 'mask', 'refresh', 'twin_weight', 'consistency_weight', 'stop_gradient'}
    options |= {'batch_stats', 'crops'}
    config = ablate_ohem.get_config('grid').to_dict()
    twin = config['train']['ohem']
    changed: dict[str, list] = {}
    for name in ablate_ohem.GRID:
        ohem = config['variants'][name]['ohem']
        (key,) = (k for k in ohem if ohem[k] != twin.get(k))
        changed.setdefault(key, []).append(ohem[key])
    assert set(changed) == options
    assert changed['ratio'] == [0, 0.3, 0.5, 0.65, 0.75, 0.8, 0.9] and twin['ratio'] == 0.7
    assert changed['consistency_weight'] == [0, 1, 4] and twin['consistency_weight'] == 2
    names = {'plain', 'twin', 'plain_soft', 'twin_soft', 'plain_dropout', 'twin_dropout'}
    names |= {*ablate_ohem.GRID}
    assert set(config['variants']) == names
    models = [config['variants'][f'{kind}_dropout']['model'] for kind in ('plain', 'twin')]
    assert models[0] == models[1] and models[0]['hidden'] and models[0]['dropout'] > 0
    assert config['variants']['plain_soft']['loss_options']['labels'] == 'soft'
    # Every variant is one that training knows.
    assert len(repeat_setup.plan(config)) == len(names) * 10 * 3


def test_deepfl_compares_heads_and_features_on_the_same_splits():
    config = deepfl_splits.get_config('').to_dict()
    runs = repeat_setup.plan(config)
    assert len(runs) == 4 * 10 and config['rates'] == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    of = {run.variant: run.train for run in runs if run.split == 'split_03'}
    found = {name: (t['model']['hidden'], t['init_from']) for name, t in of.items()}
    long, short = (2048, 1024, 256), (512, 256)
    first, second = 'weights/inception_resnet_v2.h5', 'deepfl/histogram/model'
    assert found == {
        'imagenet': (long, first), 'imagenet_short': (short, first),
        'proxies': (long, second), 'proxies_short': (short, second),
    }  # fmt: skip
    for name, train in of.items():
        database = train['databases']['kadid10k']
        assert database['manifest'] == 'deepfl/splits/split_03/kadid10k.parquet'
        assert f'kadid10k_{name.partition("_")[0]}' in database['features']
        assert (train['total_epochs'], train['batch_size'], train['keep']) == (30, 64, 'best')


def test_a_choice_needs_a_training_that_ended_and_tells_images_apart(tmp_path):
    def training(rate, val_srcc, state='trained'):
        return repeat_runs.Training(None, rate, tmp_path, state, val_srcc, 1.0, False)

    lost, equal = training(0.1, None, 'diverged'), training(0.01, None)
    good, same = training(1e-3, 0.5), training(1e-4, 0.5)
    assert repeat_runs.chosen([lost, equal, good, same]) is same  # of equals the lowest rate
    assert repeat_runs.chosen([lost, equal]) is None
    assert repeat_runs.chosen([equal]) is equal and repeat_runs.chosen([lost]) is None
