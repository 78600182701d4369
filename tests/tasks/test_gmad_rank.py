"""gmad_rank: from pairs and votes to matrices, ranking, figures and budget; what cannot be used."""

import csv
import json

import numpy as np
import pytest

from configs import gmad_rank as config_file
from iqa_jax.competition import preferences, ranking
from iqa_jax.data import tables
from iqa_jax.tasks import gmad_rank

LEVELS, IMAGES = 3, 120
SIZES = {'good': [10, 20, 30], 'fair': [1, 1, 1], 'poor': [40, 30, 20]}


@pytest.fixture
def world(tmp_path):
    """A rated competition of three models, one of which sees the quality: config of the stage."""
    rng = np.random.default_rng(0)
    ids = np.array([f'i{n:03d}' for n in range(IMAGES)], object)
    quality = rng.uniform(5, 95, IMAGES)
    scores = {'good': quality, 'fair': quality + rng.normal(0, 60, IMAGES)}
    scores['poor'] = rng.uniform(0, 1, IMAGES)
    pairs, free = [], iter(rng.permutation(IMAGES).reshape(-1, 2))
    for defender in scores:
        for attacker in scores:
            for level in range(LEVELS) if attacker != defender else ():
                one, other = next(free)
                if scores[attacker][one] < scores[attacker][other]:
                    one, other = other, one
                reason = {'defender': defender, 'attacker': attacker, 'level': level,
                          'attacker_best': scores[attacker][one],
                          'attacker_worst': scores[attacker][other]}  # fmt: skip
                pairs.append((defender, attacker, level, ids[one], ids[other],
                              json.dumps([reason])))  # fmt: skip
    names = ('defender', 'attacker', 'level', 'image_id_best', 'image_id_worst', 'reasons')
    table = {k: np.array(c, np.int32 if k == 'level' else object)
             for k, c in zip(names, zip(*pairs, strict=True), strict=True)}  # fmt: skip
    tables.write(tmp_path / 'pairs.parquet', table, {'level_images': SIZES})
    votes = (quality + rng.normal(0, 10, (8, IMAGES))).clip(0, 100)
    write_votes(tmp_path, ids, votes)
    config = config_file.get_config('smoke').to_dict()
    return config | {'root': str(tmp_path), 'pairs': 'pairs.parquet', 'votes': 'votes.parquet'}


def write_votes(folder, ids, votes, **more) -> None:
    rater, image = (x.reshape(-1) for x in np.indices(votes.shape))
    table = {'rater_id': np.array([f'r{r}' for r in rater], object), 'image_id': ids[image]}
    table |= {'vote': votes.reshape(-1), 'simulated': np.ones(votes.size, bool)} | more
    tables.write(folder / 'votes.parquet', table, {'simulated': True})


def read_csv(path) -> list[dict]:
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_matrices_ranking_and_labels(world, tmp_path):
    summary = gmad_rank.run(world, tmp_path / 'out')
    out = tmp_path / 'out'
    assert (summary['models'], summary['contests'], summary['quarantined']) == (3, 18, 0)
    assert summary['preferences'] == 18 * 8 and summary['excluded'] == 0
    assert 'most aggressive good' in summary['headline']
    assert summary['headline'].endswith('SIMULATED observers')
    results = json.loads((out / 'results.json').read_text())
    assert results['models'] == ['fair', 'good', 'poor'] and results['simulated'] is True
    # The numbers are those of the library for the levels' sizes.
    weights = np.array([SIZES[name] for name in results['models']], float)
    np.testing.assert_array_equal(results['level_weights'], weights)
    answers = tables.read(out / 'preferences.parquet')[0]
    p, _, _ = ranking.mean_preferences(answers, results['models'], LEVELS)
    for kind, matrix in zip(ranking.KINDS, ranking.matrices(p, weights), strict=True):
        found = np.array(results[kind]['matrix'], float)
        np.testing.assert_allclose(found[..., 0], matrix)
        rows = read_csv(out / f'{kind}.csv')
        for row, expected in zip(rows, matrix, strict=True):
            values = [float(row[name]) for name in results['models']]
            np.testing.assert_allclose(values, expected)
        assert [next(iter(row.values())) for row in rows] == results['models']
    table = read_csv(out / 'ranking.csv')
    assert table[0]['model'] == 'good' and {row['simulated'] for row in table} == {'True'}
    places = [float(row['aggressiveness_rank']) for row in table]
    assert places == sorted(places) and len(read_csv(out / 'contests.csv')) == 6
    assert answers['simulated'].all()
    for name in ('matrices.svg', 'ranking.svg'):
        assert 'SIMULATED' in (out / name).read_text()
    for name in ('ranking.csv', 'budget.csv', 'preferences.parquet', 'contests.csv'):
        assert tables.read(out / name)[1] == {'simulated': True}


def test_the_budget_is_of_these_spreads(world, tmp_path):
    gmad_rank.run(world, tmp_path / 'out')
    results = json.loads((tmp_path / 'out/results.json').read_text())
    # Differences of two votes with a noise of 10 each.
    assert results['spreads']['noise_std'] == pytest.approx(10 * np.sqrt(2), rel=0.2)
    rows = read_csv(tmp_path / 'out/budget.csv')
    assert len(rows) == 16 and {int(r['answers']) // int(r['pairs']) for r in rows} == {
        6 * raters for raters in (5, 10, 20, 40)
    }  # fmt: skip
    given = {'noise_std': 5.0, 'pair_std': 5.0, 'rater_std': 0.0}
    changed = world | {'budget': world['budget'] | {'spreads': given, 'half_width': 4.0}}
    gmad_rank.run(changed, tmp_path / 'given')
    results = json.loads((tmp_path / 'given/results.json').read_text())
    assert results['spreads'] == given and results['cheapest']['half_width'] <= 4
    unplanned = world | {'budget': world['budget'] | {'pairs': ()}}
    gmad_rank.run(unplanned, tmp_path / 'none')
    assert not (tmp_path / 'none/budget.csv').exists()
    assert json.loads((tmp_path / 'none/results.json').read_text())['cheapest'] is None


def test_the_same_command_again_does_nothing_and_other_votes_do(world, tmp_path, tree_digest):
    first = gmad_rank.run(world, tmp_path / 'out')
    before = tree_digest(tmp_path / 'out')
    assert gmad_rank.run(world, tmp_path / 'out') == first
    assert tree_digest(tmp_path / 'out') == before
    other = gmad_rank.run(world, tmp_path / 'other')
    assert {k: v for k, v in other.items() if k != 'seconds'} == {
        k: v for k, v in first.items() if k != 'seconds'
    }
    for name in ('ranking.csv', 'results.json', 'matrices.svg', 'ranking.svg', 'budget.csv'):
        assert (tmp_path / 'other' / name).read_bytes() == (tmp_path / 'out' / name).read_bytes()
    votes = tables.read(tmp_path / 'votes.parquet')[0]
    votes['vote'] = votes['vote'][::-1].copy()
    tables.write(tmp_path / 'votes.parquet', votes, {'simulated': True})
    gmad_rank.run(world, tmp_path / 'out')
    assert tree_digest(tmp_path / 'out')['ranking.csv'] != before['ranking.csv']


def test_answers_of_people_to_pairs_and_given_level_sizes(world, tmp_path):
    pairs = tables.read(tmp_path / 'pairs.parquet')[0]
    sizes = {'good': (10, 20, 30), 'fair': (1, 1, 1), 'poor': (5, 0, 5)}
    rounds, _ = preferences.contests(pairs)
    ends = list(zip(rounds['image_id_worst'], rounds['image_id_best'], strict=True))
    rows = [(f'r{r}', *pair, 10.0 * r) for r in range(4) for pair in ends]
    names = ('rater_id', 'image_id_a', 'image_id_b', 'preference')
    answers = {k: np.array(c, float if k == 'preference' else object)
               for k, c in zip(names, zip(*rows, strict=True), strict=True)}  # fmt: skip
    tables.write(tmp_path / 'answers.csv', answers)
    changed = world | {'votes': 'answers.csv', 'level_images': sizes, 'screening': 'none'}
    summary = gmad_rank.run(changed, tmp_path / 'out')
    assert 'SIMULATED' not in summary['headline']
    assert 'SIMULATED' not in (tmp_path / 'out/matrices.svg').read_text()
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert results['level_weights'] == [[1, 1, 1], [10, 20, 30], [5, 0, 5]]
    # Everybody prefers what the attacker puts last, by 15 on average.
    assert results['aggressiveness']['matrix'][0][1][0] == pytest.approx(-15)


@pytest.mark.filterwarnings('error')
def test_attacks_of_one_side_only_give_matrices_and_no_ranking(world, tmp_path):
    pairs = tables.read(tmp_path / 'pairs.parquet')[0]
    one_way = tables.select(pairs, pairs['defender'] == 'good')
    tables.write(tmp_path / 'pairs.parquet', one_way, {'level_images': SIZES})
    summary = gmad_rank.run(world, tmp_path / 'out')
    assert 'no ranking by aggressiveness, no ranking by resistance' in summary['headline']
    rows = read_csv(tmp_path / 'out/ranking.csv')
    assert {row['aggressiveness_score'] for row in rows} == {'nan'}
    assert 'no ranking' in (tmp_path / 'out/ranking.svg').read_text()
    contests = read_csv(tmp_path / 'out/contests.csv')
    assert [row['attacker'] for row in contests] == ['fair', 'poor']
    assert all(np.isfinite(float(row['resistance_high'])) for row in contests)
    budget = read_csv(tmp_path / 'out/budget.csv')
    assert {row['half_width_score'] for row in budget} == {'nan'}
    assert all(float(row['half_width']) > 0 for row in budget)


def test_what_cannot_be_used_is_listed_and_counted(world, tmp_path):
    votes = tables.read(tmp_path / 'votes.parquet')[0]
    pairs = tables.read(tmp_path / 'pairs.parquet')[0]
    lost = pairs['image_id_best'][4]
    votes['vote'] = np.where(np.arange(len(votes['vote'])) == 7, np.nan, votes['vote'])
    tables.write(tmp_path / 'votes.parquet', tables.select(votes, votes['image_id'] != lost))
    summary = gmad_rank.run(world, tmp_path / 'out')
    rows = read_csv(tmp_path / 'out/quarantine.csv')
    assert summary['quarantined'] == len(rows) == 2
    said = {row['file']: row['reason'] for row in rows}
    assert said['r0 on i007'] == 'a vote of nan is not in 0..100'
    (reason,) = (said[file] for file in said if lost in file)
    assert reason == 'no rater answered this pair'


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'method': 'elo'}, r"config\.method='elo'; use one of bradley_terry"),
        ({'screening': 'strict'}, r"config\.screening='strict'; use one of bt500"),
        (
            {'level_images': {'good': (1, 1)}},
            r'defender fair at level 2, but nothing says how many',
        ),
        ({'votes': 'ids.csv'}, r'ids\.csv has neither a column vote .* nor preference'),
        ({'votes': 'empty.csv'}, r'No answer of .*empty\.csv .*"pairs": 18'),
        ({'votes': 'one.csv', 'over': ('pairs',)}, r'config\.budget: Spreads need .*pairs=\(\)'),
        ({'votes': 'one.csv'}, 'over raters needs at least 2'),
        ({'budget': {}}, r'config\.budget\.half_width is missing'),
        (
            {'budget': {'pairs': (6,), 'raters': (5,), 'half_width': 9, 'spreads': {'noise': 1}}},
            r'config\.budget\.spreads\.noise is not a key',
        ),
    ],
)
def test_bad_input_is_a_sentence(world, tmp_path, changes, sentence):
    (tmp_path / 'empty.csv').write_text('rater_id,image_id,vote\nr,nothing,3\n')
    ids = [f'i{n:03d}' for n in range(IMAGES)]
    (tmp_path / 'ids.csv').write_text('rater_id,image_id\nr,i000\n')
    lines = ''.join(f'r,{name},{n % 100}\n' for n, name in enumerate(ids))
    (tmp_path / 'one.csv').write_text('rater_id,image_id,vote\n' + lines)
    with pytest.raises(ValueError, match=sentence):
        gmad_rank.run(world | changes, tmp_path / 'out')
