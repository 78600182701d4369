"""From votes and choices to scores by the stage: what config.scaling does, and what is written."""

import csv
import json

import numpy as np
import pytest
import test_study_people
from PIL import Image
from test_study_people import level

from configs import evaluate as evaluate_file
from configs import study as config_file
from iqa_jax.data import manifest, pipeline, tables
from iqa_jax.data.databases import plain
from iqa_jax.study import pairwise, scaling
from iqa_jax.tasks import evaluate, study, train_setup

REFS, LEVELS = 8, (0, 1, 2, 3, 4, 5)
PEOPLE = {'training': 1, 'gold_share': 0.0, 'break_every': 0, 'break_seconds': 0.0, 'port': 0}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Eight photographs with blur at five levels, proxies, and pairs of a level each."""
    folder = tmp_path_factory.mktemp('world')
    rows = [(f'{"=" if ref == 0 else ""}r{ref}_{level}', f'r{ref}', 10 * (level > 0), level)
            for ref in range(REFS) for level in LEVELS]  # fmt: skip
    ids, refs, types, levels = (np.array(column) for column in zip(*rows, strict=True))
    files = []
    for n in range(len(ids)):
        files.append(str(folder / f'{n}.png'))
        Image.fromarray(np.full((8, 12, 3), n, np.uint8)).save(files[-1])
    columns = {'image_id': ids.astype(object), 'ref_id': refs.astype(object), 'type': types}
    columns |= {'level': levels, 'file': np.array(files, object)}
    columns['split'] = np.full(len(ids), 'train', object)
    manifest.write(folder / 'manifest.parquet', columns, {})
    meta = {'columns': {'proxy': {'higher_is_better': True}}}
    proxies = {'image_id': columns['image_id'], 'proxy': 1 - levels / 6}
    tables.write(folder / 'proxies.parquet', proxies, meta)
    linked = [('r1_1', 'r1_3'), ('r2_1', 'r2_3'), ('r1_3', 'r3_5'), ('=r0_1', 'r4_4')]
    pairs = {
        f'image_id_{end}': np.array(names, object)
        for end, names in zip(('best', 'worst'), zip(*linked, strict=True), strict=True)
    }
    tables.write(folder / 'pairs.parquet', pairs)
    return folder


def configuration(world, design='', **changes) -> dict:
    config = config_file.get_config('smoke').to_dict()
    config |= {'root': str(world), 'manifest': 'manifest.parquet', 'proxies': 'proxies.parquet'}
    config['per_split'] = {'train': 40}
    config['scaling'] |= changes
    if design:
        config['panel']['kind'] = 'people'
        config['people'] |= PEOPLE | {'design': design, 'raters': 4, 'votes_per_item': 4}
        config['pairs'] = 'pairs.parquet' if design == 'pair_choice' else ''
    return config


def answer_all(workdir, believe) -> None:
    """All four raters answer everything."""
    test_study_people.answer_all(workdir, believe, raters=4)


def test_the_command_scales_by_maximum_likelihood(world, tmp_path, main):
    given = {'root': world, 'manifest': 'manifest.parquet', 'proxies': 'proxies.parquet',
             'per_split.train': 40, 'panel.spammer_fraction': 0.15, 'scaling.method': 'ml',
             'scaling.drop_spammers': True}  # fmt: skip
    flags = [f'--config.{key}={value}' for key, value in given.items()]
    done = main('--config', 'configs/study.py:smoke', *flags, '--workdir', str(tmp_path))
    assert done.returncode == 0, done.stderr
    votes = tables.read(tmp_path / 'votes.parquet')[0]
    expected, who = scaling.mos_from_votes(votes, method='ml', drop_spammers=True)
    rated, meta = tables.read(tmp_path / 'rated.parquet')
    assert meta['scaling'] == {'method': 'ml', 'drop_spammers': True} and meta['simulated']
    order = np.argsort(rated['image_id'].astype(str))
    np.testing.assert_allclose(rated['mos'][order], expected['mos'], rtol=1e-6)
    mos, meta = tables.read(tmp_path / 'mos.csv')
    assert meta['scaling']['method'] == 'ml'
    np.testing.assert_allclose(mos['high'], expected['high'])
    raters, meta = tables.read(tmp_path / 'raters.csv')
    assert meta['scaling']['method'] == 'ml' and raters['excluded'].any()
    assert raters['reason'].tolist() == who['reason'].tolist()
    out = int(who['excluded'].sum())
    assert f'study: {out} of 24 raters do not count: simulated_0' in done.stderr
    assert 'Spammer' in done.stderr


def test_another_method_is_another_result_of_the_same_votes(world, tmp_path):
    first = study.run(configuration(world, method='mean'), tmp_path)
    mean = manifest.read(tmp_path / 'rated.parquet')['mos']
    study.run(configuration(world, method='bias'), tmp_path)
    bias = manifest.read(tmp_path / 'rated.parquet')['mos']
    assert first['excluded'] == 0 and 0.1 < np.abs(mean - bias).max() < 10


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'method': 'median'}, "scaling.method='median'; use one of mean, bias, bt500,"),
        ({'pair_model': 'elo'}, "scaling.pair_model='elo'; use one of bradley_terry, thurstone"),
        ({'ties': 'drop'}, "scaling.ties='drop'; use one of model, half"),
        ({'drop_spammers': 'yes'}, "scaling.drop_spammers='yes'; use one of False, True"),
        ({'prior_std': 0}, 'scaling.prior_std=0; use a number above 0'),
        ({'points_per_unit': float('nan')}, 'scaling.points_per_unit=nan; use a number above 0'),
        ({'metod': 'mean'}, 'metod'),
    ],
)  # fmt: skip
def test_what_cannot_scale_is_refused_first(world, tmp_path, change, sentence):
    for design in ('', 'pair_choice'):
        with pytest.raises(ValueError, match=sentence):
            study.run(configuration(world, design, **change), tmp_path)
    assert not list(tmp_path.iterdir())


def choose(rater, names) -> str:
    """The less distorted image by all but the last rater, who finds all pairs equal."""
    if rater == 3:
        return 'tie'
    return 'left' if level(names[0]) < level(names[1]) else 'right'


def test_choices_become_scores_within_components(world, tmp_path, capsys):
    config = configuration(world, 'pair_choice', pair_model='bradley_terry')
    study.run(config, tmp_path)
    answer_all(tmp_path, choose)
    summary = study.run(config, tmp_path)
    assert (summary['images'], summary['answers'], summary['tied']) == (7, 16, 4)
    assert summary['components'] == 3 and summary['quarantined'] == 0
    assert 'the 7 images to 3 groups of up to 3 images' in capsys.readouterr().err
    answers = tables.read(tmp_path / 'answers.parquet')[0]
    scores, report = pairwise.scores_from_answers(answers, model='bradley_terry')
    expected, points = pairwise.rated(scores, 'bradley_terry', 10.0)
    meta = tables.read(tmp_path / 'rated.parquet')[1]
    assert meta['scaling'] == report | {'points_per_unit': points, 'prior_std': 3.0}
    assert meta['simulated'] is False
    columns = manifest.read(tmp_path / 'rated.parquet')
    found = tables.join(columns['image_id'], expected, ['mos', 'mos_std', 'component'], 'expected')
    for name, values in found.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-6)
    mos = tables.read(tmp_path / 'mos.csv')[0]
    assert (mos['low'] < mos['mos']).all() and (mos['mos'] < mos['high']).all()
    assert set(columns['split']) == {'train'} and set(columns['database']) == {'rated'}


def test_a_trainer_pairs_images_of_one_component_only(world, tmp_path):
    config = configuration(world, 'pair_choice')
    study.run(config, tmp_path)
    answer_all(tmp_path, choose)
    study.run(config, tmp_path)
    path = str(tmp_path / 'rated.parquet')
    databases = {'gmad': {'manifest': path, 'scores': '', 'weight': 0.5}}
    databases['old'] = {'manifest': path, 'scores': str(world / 'proxies.parquet'), 'weight': 0.5}
    given = {'targets': ('mos',), 'loss': 'fidelity', 'loss_options': {'labels': 'soft'}}
    given |= {'model': {}, 'databases': {'gmad': databases['gmad']}}
    sources, _, simulated = train_setup.load_databases(given)
    assert not simulated
    component = manifest.read(path)['component']
    np.testing.assert_array_equal(sources[0].component, component)
    batches = pipeline.Pipeline(sources, 4, (8, 8), seed=0)
    together = 0
    for step in range(7):
        batch = batches.batch(step)
        same = batch['database'][:, None] == batch['database']
        want = component[batch['index']]
        np.testing.assert_array_equal(same, want[:, None] == want)
        together += np.triu(same, 1).sum()
    assert together >= 7  # a pair in every batch; by lot it would be one in seven
    with pytest.raises(ValueError, match='links? its images to 3 groups.*fidelity'):
        train_setup.load_databases(given | {'loss': 'mse'})
    given['databases'] = {'old': databases['old']}
    given['loss_options'] = {'labels': 'binary'}
    sources, _, _ = train_setup.load_databases(given | {'targets': ('proxy',)})
    assert sources[0].component is None  # a metric compares all images


def test_an_evaluation_says_that_only_pairs_count(world, tmp_path):
    config = configuration(world, 'pair_choice')
    study.run(config, tmp_path)
    answer_all(tmp_path, choose)
    study.run(config, tmp_path)
    columns = {'proxy': {'scores': 'proxies.parquet', 'column': 'proxy', 'kind': 'metric'}}
    given = evaluate_file.get_config('smoke').to_dict() | {
        'root': str(world), 'manifest': str(tmp_path / 'rated.parquet'), 'splits': ('train',),
        'proxies': '', 'columns': columns, 'headline': 'proxy', 'pairs': 'pairs.parquet',
        'allow_trained': 'nothing',
    }  # fmt: skip
    summary = evaluate.run(given, tmp_path / 'evaluate')
    assert '3 groups NEVER COMPARED' in summary['headline']
    results = json.loads((tmp_path / 'evaluate/results.json').read_text())
    assert results['components'] == 3 and results['pairs'][0]['accuracy'][0] == 1
    rated = manifest.read(tmp_path / 'rated.parquet')
    with pytest.raises(ValueError, match='3 groups, between which opinions .* rate them singly'):
        manifest.check_one_scale(rated, 'rated.parquet', 'rate them singly')
    with pytest.raises(ValueError, match='opinions from pairs, comparable within their component'):
        plain.read_folder(tmp_path, {'table': 'rated.parquet'})
    manifest.check_one_scale(manifest.read(world / 'manifest.parquet'), 'nobody rated', '')


def test_exports_are_in_the_peers_shapes_and_run_no_formula(world, tmp_path, capsys):
    for design, believe in (
        ('pair_choice', choose),
        ('acr5', lambda r, n: 5 - level(n[0]) // 2),
    ):
        folder = tmp_path / design
        config = configuration(world, design)
        study.run(config, folder)
        answer_all(folder, believe)
        study.run(config | {'people': config['people'] | {'command': 'export'}}, folder)
    out = tmp_path / 'pair_choice/export'
    rows = list(csv.reader((out / 'pwcmp_matrix.csv').read_text().splitlines()))
    assert rows[0][:2] == ['image_id', "'=r0_1"] and rows[1][0] == "'=r0_1"
    assert rows[1][rows[0].index('r4_4')] == '3.5'  # three choices and half a tie
    assert not (out / 'pwcmp_answers.csv').exists()  # which has no room for ties
    first = next(csv.DictReader((out / 'answers.csv').read_text().splitlines()))
    assert first['preference'] in ('100.0', '-100.0')  # numbers stay numbers
    found = {}
    exec((out / 'sureal_answers.py').read_text(), found)
    assert len(found['dis_videos']) == 7
    out = tmp_path / 'acr5/export'
    votes = json.loads((out / 'sureal_votes.json').read_text())
    assert [len(video['os']) for video in votes['dis_videos']] == [4] * 40
    matrix = list(csv.reader((out / 'sureal_matrix.csv').read_text().splitlines()))
    assert len(matrix) == 41 and matrix[0][1:] == [f'rater_{n:03d}' for n in range(1, 5)]
    assert all(row[0].startswith("'=") == ('=' in row[0]) for row in matrix)
    capsys.readouterr()


def test_nobody_who_counts_is_a_sentence(world, tmp_path):
    for design in ('acr5', 'pair_choice'):
        config = configuration(world, design)
        config['people'] |= {'gold_share': 0.3}
        study.run(config, tmp_path / design)
        wrong = (lambda r, n: 1 if level(n[0]) == 0 else 5) if design == 'acr5' else (
            lambda r, n: 'right' if level(n[0]) < level(n[1]) else 'left'
        )  # fmt: skip
        answer_all(tmp_path / design, wrong)
        with pytest.raises(ValueError, match='None of 4 raters counts: rater_001 had 0 of'):
            study.run(config, tmp_path / design)
        assert not (tmp_path / design / 'rated.parquet').exists()


def test_images_without_a_counted_vote_are_counted_and_left_out(world, tmp_path, capsys):
    config = configuration(world, 'single_stimulus')
    config['people'] |= {'votes_per_item': 1, 'raters': 4, 'gold_share': 0.2}
    study.run(config, tmp_path)

    def believe(rater, names):  # the first takes the scale the wrong way round
        quality = 95.0 - 18 * level(names[0])
        return 100 - quality if rater == 0 else quality

    answer_all(tmp_path, believe)
    summary = study.run(config, tmp_path)
    said = capsys.readouterr().err
    assert summary['quarantined'] == 10 and summary['images'] == 30 and summary['excluded'] == 1
    assert '10 of 40 images have no counted vote' in said and '1 of 4 raters do not count' in said
    rated, meta = tables.read(tmp_path / 'rated.parquet')
    assert len(meta['without_votes']) == 10 and np.isfinite(rated['mos']).all()
    assert 'unknown by single votes' in summary['headline']
