"""No model is tested on what it was trained on, unless the config says so and the results too."""

import json
import shutil

import numpy as np
import pytest

from iqa_jax.data import exposure, manifest, tables
from iqa_jax.tasks import active, evaluate, export, gmad, score, train_outputs, train_setup
from iqa_jax.training import saved_model


def score_split(
    smoke, workdir, split: str, model: str = 'pretrain/model', **changes
) -> tables.Table:
    config = {
        'task': 'score', 'root': str(smoke), 'manifest': 'data/manifest.parquet', 'model': model,
        'splits': (split,), 'name': 'mine', 'twin': False, 'calibrated': False,
        'uncertainty': False, 'bucket_step': 64, 'pixel_limit': 2**21, 'batch_size': 8,
        'shard_size': 64, 'shard': '', 'resize': '',
        'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
    } | changes  # fmt: skip
    score.run(config, workdir)
    return tables.read(workdir / 'scores.parquet')[0]


def evaluation(smoke, folder, split: str, **changes) -> dict:
    mine = {'scores': str(folder / 'scores.parquet'), 'column': 'mine', 'kind': 'blind model'}
    gmsd = {'scores': 'data/scores.parquet', 'column': 'gmsd', 'kind': 'full-reference metric'}
    return {
        'task': 'evaluate', 'root': str(smoke), 'name': 'x', 'manifest': 'data/manifest.parquet',
        'splits': (split,), 'proxies': 'data/proxies.parquet',
        'columns': {'mine': mine, 'gmsd': gmsd}, 'headline': 'mine', 'pairs': '',
        'logistic_parameters': 4, 'resamples': 20, 'allow_trained': 'nothing', 'seed': 0,
    } | changes  # fmt: skip


@pytest.fixture(scope='module')
def train_scores(smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp('train_scores')
    return score_split(smoke, folder, 'train'), folder


def test_every_split_is_known_for_what_it_was(smoke, train_scores, tmp_path):
    assert set(train_scores[0]['mine_seen']) == {exposure.IMAGE}
    for split, want in (('val', exposure.VALIDATED), ('test', exposure.UNSEEN)):
        assert set(score_split(smoke, tmp_path / split, split)['mine_seen']) == {want}
    # The fine-tuned model saw 24 of these images, and inherits what it began from.
    tuned = score_split(smoke, tmp_path / 'tuned', 'train', 'finetune/model')
    assert set(tuned['mine_seen']) == {exposure.IMAGE}
    # The active model was trained on some images of the pool; of their photographs all are known.
    table, meta = tables.read(smoke / 'active/scores.parquet')
    columns = manifest.read(smoke / 'data/manifest.parquet')
    rated = manifest.read(smoke / 'active/round_01/study/rated.parquet')
    refs, digests = set(rated['ref_id']), set(rated['sha256'])
    rows = {image_id: row for row, image_id in enumerate(columns['image_id'].tolist())}
    seen = table[meta['columns']['quality']['seen']]
    for image_id, value in zip(table['image_id'].tolist(), seen.tolist(), strict=True):
        row = rows[image_id]
        same = columns['sha256'][row] in digests
        looked_at = columns['split'][row] == 'val'  # the old database's, beside the pool
        want = 3 if same else 2 if columns['ref_id'][row] in refs else int(looked_at)
        assert value == want, image_id
    assert {*seen.tolist()} == {0, 1, 2, 3}


def test_a_trained_image_is_refused_through_main(main, smoke, train_scores, tmp_path):
    table, folder = train_scores
    arguments = (
        '--config', 'configs/evaluate.py:smoke', '--workdir', str(tmp_path / 'out'),
        f'--config.root={smoke}', '--config.manifest=data/manifest.parquet',
        '--config.splits=("train",)', '--config.proxies=data/proxies.parquet',
        f'--config.columns.quality.scores={folder / "scores.parquet"}',
        '--config.columns.quality.column=mine',
    )  # fmt: skip
    done = main(*arguments)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    n, first = len(table['image_id']), table['image_id'][0]
    said = done.stderr.strip().splitlines()[-1]
    assert f'{n} of {n} images of {smoke}/data/manifest.parquet cannot test quality' in said
    assert f'{first} the first' in said and "set config.allow_trained='images'" in said
    assert not (tmp_path / 'out/results.json').exists()
    done = main(*arguments, '--config.allow_trained=images')
    assert done.returncode == 0, done.stderr
    assert f'({n} images were TRAINED ON)' in done.stderr
    results = json.loads((tmp_path / 'out/results.json').read_text())
    rows = {row['model']: row for row in results['rows']}
    assert results['allow_trained'] == 'images' and rows['quality']['trained_images'] == n
    assert rows['gmsd']['trained_images'] is None and rows['gmsd']['trained_references'] is None


def test_other_images_of_a_trained_reference_are_refused_too(smoke, tmp_path):
    """A manifest of new images, under new names, of photographs that were trained on."""
    columns = manifest.read(smoke / 'data/manifest.parquet')
    rows = np.flatnonzero((columns['split'] == 'train') & (columns['type'] > 0))[::15]
    columns = tables.select(columns, rows)
    for name in ('file', 'sha256'):
        columns[name] = np.full(len(rows), '', object)
    columns['level'] = np.full(len(rows), 2, np.int32)
    columns['type'] = np.full(len(rows), 7, np.int32)
    ids = np.array([f'new{i}' for i in range(len(rows))], object)
    columns |= {'image_id': ids, 'split': np.full(len(rows), 'test', object)}
    columns['mos'] = np.arange(len(rows), dtype=np.float32)
    manifest.write(tmp_path / 'new.parquet', columns, {})
    new = {'manifest': str(tmp_path / 'new.parquet')}
    score_split(smoke, tmp_path, 'test', **new)
    column = evaluation(smoke, tmp_path, 'test')['columns']['mine']
    config = evaluation(smoke, tmp_path, 'test', columns={'mine': column}, proxies='', **new)
    with pytest.raises(ValueError, match='11 of 11 images .* on other images of their references'):
        evaluate.run(config, tmp_path / 'out')
    summary = evaluate.run(config | {'allow_trained': 'references'}, tmp_path / 'out')
    assert '(11 images whose references were TRAINED ON)' in summary['headline']
    with pytest.raises(ValueError, match="config.allow_trained='all'; use one of nothing, ref"):
        evaluate.run(config | {'allow_trained': 'all'}, tmp_path / 'out')


def test_allowing_references_does_not_allow_images(smoke, train_scores, tmp_path):
    config = evaluation(smoke, train_scores[1], 'train', allow_trained='references')
    with pytest.raises(ValueError, match="was trained on them; .*allow_trained='images'"):
        evaluate.run(config, tmp_path)


def test_validation_images_may_be_evaluated(smoke, tmp_path):
    score_split(smoke, tmp_path, 'val')
    summary = evaluate.run(evaluation(smoke, tmp_path, 'val'), tmp_path / 'out')
    assert 'TRAINED ON' not in summary['headline'] and 'not known' not in summary['headline']
    rows = json.loads((tmp_path / 'out/results.json').read_text())['rows']
    assert [row['validated_images'] for row in rows] == [summary['images'], None]


def test_a_model_without_a_record_is_scored_and_said_to_be_not_known(smoke, tmp_path, caplog):
    model = tmp_path / 'model'
    shutil.copytree(smoke / 'pretrain/model', model)
    exported = {'task': 'export', 'root': '', 'model': str(model), 'calibration': None}
    exported |= dict.fromkeys(('results', 'pairs', 'rated'), '')
    export.run(exported, tmp_path / 'out')
    for folder in (model, tmp_path / 'out'):
        assert (folder / 'trained_on.parquet').is_file()
    saved_model.forget_training(model)
    table = score_split(smoke, tmp_path / 'score', 'train', str(model))
    assert 'trained_on.parquet is not there: what this model was trained on is not' in caplog.text
    assert np.isfinite(table['mine']).all() and 'mine_seen' not in table
    summary = evaluate.run(evaluation(smoke, tmp_path / 'score', 'train'), tmp_path / 'results')
    assert summary['headline'].endswith('(training of mine not known)')
    results = json.loads((tmp_path / 'results/results.json').read_text())
    for row in results['rows']:
        names = ('trained_images', 'trained_references', 'validated_images')
        assert [row[name] for name in names] == [None] * 3
    # What starts from it or is a copy of it is not known either, and keeps no older record.
    export.run(exported, tmp_path / 'out')
    assert [p.name for p in (tmp_path / 'out').glob('trained_on*')] == []
    assert train_setup.trained_on([], [], {'init_from': str(model)}) is None
    assert train_outputs.trained_on(tmp_path / 'out', {'key': np.zeros(0)}, '') != []
    assert train_outputs.trained_on(tmp_path / 'out', None, '') == []
    assert [p.name for p in (tmp_path / 'out').glob('trained_on*')] == []


def test_the_active_rounds_say_what_their_sets_were_used_for(smoke):
    found = {}
    for name in ('old_rated', 'round_01', 'fresh'):
        results = json.loads((smoke / f'active/evaluate/{name}/results.json').read_text())
        after, before = results['rows']
        assert before['trained_images'] == before['trained_references'] == 0
        found[name] = results['allow_trained'], after['trained_images'] == after['n']
        assert name == 'round_01' or after['trained_images'] == 0
    assert found == {
        'old_rated': ('nothing', False), 'round_01': ('images', True),
        'fresh': ('references', False),
    }  # fmt: skip


def _replay(path) -> dict:
    return {'replay': {'rated': {'manifest': str(path), 'weight': 0.75}}}


def test_active_refuses_an_old_set_that_shares_references_with_the_pool_before_round_1(
    smoke, tmp_path
):
    from configs import quickstart

    config = quickstart.get_config('smoke').stages.active.to_dict() | {'root': str(smoke)}
    del config['folder']
    rated = manifest.read(smoke / config['replay']['rated']['manifest'])
    split = rated['split'].copy()
    train = np.flatnonzero(split == 'train')
    refs = rated['ref_id'][train].tolist()
    moved = np.flatnonzero(rated['ref_id'] == max(refs, key=refs.count))
    split[moved[0]] = 'test'
    manifest.write(tmp_path / 'rated.parquet', rated | {'split': split}, {})
    own = config | _replay(tmp_path / 'rated.parquet')
    tested = int((split == 'test').sum())
    said = f'1 of {tested} images .*{rated["image_id"][moved[0]]} the first.*split train of .*rated'
    with pytest.raises(ValueError, match=said):
        active.run(own, tmp_path / 'out')
    config['gmad']['splits'] = ('test',)
    said = (
        'images in split test of .*are in split test of .*manifest.parquet, .*give either another'
    )
    with pytest.raises(ValueError, match=said):
        active.run(config, tmp_path / 'out')
    config['gmad']['splits'] = ('pool',)
    fresh = manifest.read(smoke / 'data/manifest.parquet')
    fresh = tables.select(fresh, fresh['split'] == 'train')
    fresh['split'] = np.full(len(fresh['split']), 'test', object)
    fresh['split'][0] = 'val'
    manifest.write(tmp_path / 'known.parquet', fresh, {})
    said = 'are among those that .*finetune/model was trained on; choose another config.model'
    with pytest.raises(ValueError, match=said):
        active.run(config | _replay(tmp_path / 'known.parquet'), tmp_path / 'out')
    assert not (tmp_path / 'out/round_01').exists()


@pytest.mark.parametrize('without', [('ref_sha256',), ('file', 'sha256')])
def test_gmad_chooses_no_rated_image_again_under_another_id(smoke, tmp_path, without):
    """Known by its bytes where the recipe is not told, and the other way round."""
    from configs import gmad as module

    config = module.get_config('smoke').to_dict() | {'root': str(smoke)}
    gmad.run(config, tmp_path / 'once')
    pairs = tables.read(tmp_path / 'once/pairs.parquet')[0]
    shown = {*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}
    columns = manifest.read(smoke / 'data/manifest.parquet')
    rated = tables.select(columns, np.isin(columns['image_id'].astype(str), sorted(shown)))
    digests = set(rated['sha256'].tolist())
    rated['image_id'] = np.array([f'renamed{i}' for i in range(len(rated['ref_id']))], object)
    rated |= {name: np.full(len(rated['ref_id']), '', object) for name in without}
    manifest.write(tmp_path / 'rated.parquet', rated, {})
    config['exclude'] = {'rated': {'manifest': str(tmp_path / 'rated.parquet')}}
    gmad.run(config, tmp_path / 'again')
    pairs = tables.read(tmp_path / 'again/pairs.parquet')[0]
    again = {*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}
    rows = np.isin(columns['image_id'].astype(str), sorted(again))
    chosen = tables.select(columns, rows)
    if 'file' not in without:
        assert not digests & set(chosen['sha256'].tolist())
    recipes = [
        {*zip(*(x[k].tolist() for k in ('ref_sha256', 'type', 'level', 'seed')), strict=True)}
        for x in (tables.select(x, x['type'] > 0) for x in (rated, chosen))
    ]
    assert recipes[1] and not recipes[0] & recipes[1]
