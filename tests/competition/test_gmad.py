"""The public face: tables of any origin, the same pairs from all of them."""

import itertools
import json
import pathlib

import hypothesis
import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import strategies as st

import iqa_jax
from iqa_jax.competition import search
from iqa_jax.data import score_stream
from iqa_jax.evaluation.logistic import fit_logistic

KADID = pathlib.Path(__file__).parents[1] / 'golden' / 'scores' / 'kadid10k_500.csv'
METRICS = ['DSSIM', 'SSIMULACRA', 'Butteraugli']
DISTANCES = dict.fromkeys(METRICS, False)


@pytest.fixture(scope='module')
def kadid() -> pa.Table:
    return pyarrow.csv.read_csv(KADID)


@pytest.fixture(scope='module')
def table() -> pa.Table:
    rng = np.random.default_rng(3)
    quality = rng.random(700)
    return pa.table({
        'image_id': rng.permutation([f'image{i:04d}' for i in range(700)]),
        'ref': [f'ref{i % 40:02d}' for i in range(700)],
        'model': (quality + 0.1 * rng.standard_normal(700)).astype(np.float32),
        'a': (quality + 0.2 * rng.standard_normal(700)).astype(np.float32),
        'grades': np.floor(5 * quality).astype(np.float32),  # ties at every end of every list
    })  # fmt: skip


HIGHER = {'model': True, 'a': True, 'grades': True}


def _gmad(scores, **changes):
    names = ['model', 'a', 'grades']
    return iqa_jax.gmad(scores, names, names, higher_is_better=HIGHER, **changes)


@pytest.mark.parametrize(
    'rules',
    [
        {},
        {'top_k': 3, 'content': 'ref', 'each_image_once': True},
        {'window': 'quantile', 'levels': 4, 'half_width': 0.1, 'tolerance': 0.02, 'content': 'ref'},
        {'levels': 3, 'tolerance': 0.05, 'engine': 'exact'},
        {'levels': 3, 'tolerance': 0.05, 'engine': 'exact', 'objective': 'disagreement'},
    ],
)
def test_the_pairs_do_not_depend_on_where_the_table_lies(table, tmp_path, rules):
    expected = _gmad(table, **rules)
    assert len(expected) > 10
    shuffled = table.take(np.random.default_rng(1).permutation(700))
    pq.write_table(shuffled, tmp_path / 'scores.parquet', row_group_size=90)
    pyarrow.csv.write_csv(shuffled, tmp_path / 'scores.csv')
    for scores in (shuffled, tmp_path / 'scores.parquet', str(tmp_path / 'scores.csv')):
        assert _gmad(scores, **rules).equals(expected)
    columns = {name: shuffled[name].to_numpy() for name in HIGHER}
    given = {'ids': shuffled['image_id'].to_pylist()}
    if 'content' in rules:
        given['content'] = shuffled['ref'].to_pylist()
    assert _gmad(columns, **rules | given).equals(expected)


@pytest.mark.parametrize('chunk_size', [8, 96])
def test_the_pairs_of_a_streamed_table_do_not_depend_on_chunks(
    table, tmp_path, monkeypatch, chunk_size
):
    pq.write_table(table, tmp_path / 'scores.parquet', row_group_size=90)
    rules = {'top_k': 2, 'content': 'ref', 'each_image_once': True}
    expected = _gmad(table, **rules)
    seen = []
    rows = score_stream.Table.batches

    def counted(self, columns, size, share=(0, 1)):
        seen.append(size)
        return rows(self, columns, size, share)

    monkeypatch.setattr(score_stream.Table, 'batches', counted)
    monkeypatch.setattr(search, '_LOADED', 0)  # else a small table is taken into memory
    assert _gmad(tmp_path / 'scores.parquet', **rules, chunk_size=chunk_size).equals(expected)
    assert set(seen) == {chunk_size * jax.local_device_count()}


def test_a_table_and_an_array_without_ids_are_numbered(table):
    scores = np.stack([table[name].to_numpy() for name in ('model', 'a')], -1)
    higher = {0: True, 1: True}
    found = iqa_jax.gmad(scores, [0], [1], higher_is_better=higher)
    better = {'model': True, 'a': True}
    nameless = iqa_jax.gmad(table.select(['model', 'a']), 'model', 'a', higher_is_better=better)
    assert found['image_id_best'].type == pa.int64()
    for key in ('level', 'image_id_best', 'image_id_worst', 'gap'):
        assert found[key].equals(nameless[key])
    best = found['image_id_best'].to_numpy()
    np.testing.assert_array_equal(found['attacker_best'].to_numpy(), scores[best, 1])


def test_pandas_in_pandas_out(table):
    pandas = pytest.importorskip('pandas')
    frame = table.to_pandas()
    found = _gmad(frame)
    assert isinstance(found, pandas.DataFrame)
    pandas.testing.assert_frame_equal(found, _gmad(table).to_pandas())


def test_every_row_is_the_extreme_of_its_level(table):
    found = {
        (row['defender'], row['attacker'], row['level']): row
        for row in _gmad(table, merge=False).to_pylist()
    }
    column = {name: table[name].to_numpy() for name in HIGHER}
    for defender, attacker, level in itertools.product(HIGHER, HIGHER, range(6)):
        d, a = column[defender], column[attacker]
        span = d.max() - d.min()
        inside = abs(d - (d.min() + span * (level + 0.5) / 6)) < 0.09 * span
        row = found.pop((defender, attacker, level), None)
        if defender == attacker or not inside.any() or np.ptp(a[inside]) == 0:
            assert row is None
            continue
        assert row['attacker_best'] == a[inside].max()
        assert row['attacker_worst'] == a[inside].min()
        assert row['gap'] == a[inside].max() - a[inside].min()
    assert not found


def test_merging_keeps_every_reason(table):
    merged, rows = _gmad(table, top_k=2), _gmad(table, top_k=2, merge=False)
    reasons = [reason for text in merged['reasons'].to_pylist() for reason in json.loads(text)]
    assert len(reasons) == len(rows) > len(merged)
    contests = {(r['defender'], r['attacker'], r['level'], r['rank']) for r in reasons}
    listed = rows.select(['defender', 'attacker', 'level', 'rank']).to_pylist()
    assert contests == {tuple(row.values()) for row in listed}
    assert pc.min(rows['gap']).as_py() > 0
    images = [frozenset(p.values()) for p in merged.select(
        ['image_id_best', 'image_id_worst']).to_pylist()]  # fmt: skip
    assert len(set(images)) == len(images)


def test_rated_images_are_not_shown_and_the_cap_counts_contents(table):
    first = _gmad(table, top_k=2, content='ref', max_per_ref=1, each_image_once=True)
    used = {*first['image_id_best'].to_pylist(), *first['image_id_worst'].to_pylist()}
    refs = first['ref_id_best'].to_pylist() + first['ref_id_worst'].to_pylist()
    assert len(set(refs)) == len(refs) == 2 * len(first)
    again = _gmad(table, exclude=used)
    assert not used & {*again['image_id_best'].to_pylist(), *again['image_id_worst'].to_pylist()}


def test_directions_are_taken_from_names_metadata_and_ranks(table, tmp_path):
    scores = {
        'model': table['model'].to_numpy(),
        'gmsd': -table['a'].to_numpy(),
        'mystery': -table['grades'].to_numpy(),
    }
    with pytest.warns(UserWarning, match='gmsd: lower.*mystery: lower is better'):
        found = iqa_jax.gmad(scores, ['model'], ['gmsd', 'mystery'])
    row = found.slice(0, 1).to_pylist()[0]
    assert row['attacker'] == 'gmsd' and row['attacker_best'] < row['attacker_worst']
    assert row['gap'] == pytest.approx(row['attacker_worst'] - row['attacker_best'], abs=1e-6)
    noise = scores | {'noise': np.random.default_rng(0).random(700)}
    with pytest.raises(ValueError, match="Whether a higher 'noise' is better cannot be inferred"):
        iqa_jax.gmad(noise, ['model'], ['noise'])


def test_bad_calls_get_one_sentence(table, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='columns of numbers, model, a, grades, not ssim'):
        iqa_jax.gmad(table, ['model'], ['ssim'])
    with pytest.raises(ValueError, match='neither may be empty'):
        iqa_jax.gmad(table, [], ['a'])
    with pytest.raises(ValueError, match='does not compete with itself'):
        iqa_jax.gmad(table, ['a'], ['a'], higher_is_better=HIGHER)
    with pytest.raises(ValueError, match='gmad has no argument level; there are'):
        iqa_jax.gmad(table, ['a'], ['model'], level=3)
    with pytest.raises(ValueError, match="content='photo' is not a column; there are"):
        iqa_jax.gmad(table, ['a'], ['model'], content='photo')
    with pytest.raises(ValueError, match="'a' hold 1 NaN and 0 infinite values among 700"):
        broken = table['a'].to_numpy().copy()
        broken[5] = np.nan
        _gmad(table.set_column(3, 'a', pa.array(broken)))
    pq.write_table(table, tmp_path / 'scores.parquet')
    monkeypatch.setattr(search, '_LONGEST', 8)
    monkeypatch.setattr(search, '_LOADED', 0)
    with pytest.raises(ValueError, match='do not settle which pairs the tolerance'):
        _gmad(tmp_path / 'scores.parquet', levels=1, tolerance=1e-9)


def test_kadid_gives_the_published_correlations_and_the_metrics_failures(kadid):
    # Published for all 10,125 images: SROCC .856, .700, .735 with the opinions.
    opinions = kadid['dmos'].to_numpy()
    for name, published in zip(METRICS, (0.856, 0.700, 0.735), strict=True):
        correlation = -scipy.stats.spearmanr(kadid[name].to_numpy(), opinions).statistic
        assert correlation == pytest.approx(published, abs=3 / np.sqrt(500))
    mappings = {name: fit_logistic(kadid[name].to_numpy(), opinions) for name in METRICS}
    found = iqa_jax.gmad(
        kadid, METRICS, METRICS, ids='dist_img', content='ref_img', mappings=mappings,
        higher_is_better=DISTANCES, merge=False, max_per_ref=None,
    )  # fmt: skip
    human = dict(zip(kadid['dist_img'].to_pylist(), opinions, strict=True))
    rows = found.to_pylist()
    # Whoever attacks, people agree with the sign of its gap more often than not, and the metric
    # of the highest correlation attacks best: that is what the competition is there to show.
    preferred = {name: [] for name in METRICS}
    for row in rows:
        assert 1 <= row['defender_best'] <= 5 and row['gap'] > 0
        best, worst = (human[row[f'image_id_{side}']] for side in ('best', 'worst'))
        preferred[row['attacker']].append(best - worst)
    means = {name: np.mean(gaps) for name, gaps in preferred.items()}
    assert max(means, key=means.get) == 'DSSIM' and means['DSSIM'] > 0.5


@pytest.mark.parametrize(
    ('mapping', 'sentence'),
    [
        (lambda s: np.where(s < 0.5, np.nan, s), r"mapping of 'a' gives \d+ NaN and 0 infinite"),
        (lambda s: np.where(s < 0.5, -np.inf, s), r"mapping of 'a' gives 0 NaN and \d+ infinite"),
        (lambda s: s[:3], r"mapping of 'a' makes \(3,\) of \(4097,\) scores"),
        (lambda s: np.where(s < 0.5, s, s - 6), r"mapping of 'a' is not monotone"),
    ],
)
@pytest.mark.parametrize('chunk_size', [64, 4096])
def test_a_mapping_that_makes_no_scores_is_refused(table, tmp_path, mapping, sentence, chunk_size):
    pq.write_table(table, tmp_path / 'scores.parquet')
    mappings = {'model': lambda s: s, 'a': mapping}
    for scores in (table, tmp_path / 'scores.parquet'):
        with pytest.raises(ValueError, match=sentence):
            iqa_jax.gmad(
                scores, 'model', 'a', higher_is_better=HIGHER, mappings=mappings,
                chunk_size=chunk_size,
            )  # fmt: skip


def test_levels_without_anybody_and_everybody_excluded(table, tmp_path):
    pq.write_table(table, tmp_path / 'scores.parquet')
    for scores in (table, tmp_path / 'scores.parquet'):
        with pytest.warns(UserWarning, match='Level 0 of model holds no image'):
            assert len(_gmad(scores, levels={n: [(50, 60), (-9, 9)] for n in HIGHER})) > 0
        assert len(_gmad(scores, exclude=table['image_id'].to_numpy())) == 0
        with pytest.raises(ValueError, match="a list of ids, not the text 'image0001'"):
            _gmad(scores, exclude='image0001')


def test_a_streamed_table_whose_caps_are_exhausted_has_the_same_pairs(table, tmp_path):
    rules = {'content': 'group', 'max_per_ref': 1, 'top_k': 3, 'levels': 2, 'candidates': 1}
    grouped = table.append_column('group', pa.array([f'g{i % 6}' for i in range(700)]))
    pq.write_table(grouped, tmp_path / 'scores.parquet', row_group_size=100)
    expected = _gmad(grouped, **rules)
    shown = {*expected['image_id_best'].to_pylist(), *expected['image_id_worst'].to_pylist()}
    assert len(shown) == 6 and _gmad(tmp_path / 'scores.parquet', **rules).equals(expected)


def test_levels_of_a_distance_are_given_in_its_own_units(table):
    scores = {'d': -table['model'].to_numpy(), 'a': table['a'].to_numpy()}
    found = iqa_jax.gmad(
        scores, 'd', 'a', levels=[(-0.4, -0.2), (-0.8, -0.6)],
        higher_is_better={'d': False, 'a': True},
    ).to_pylist()  # fmt: skip
    assert [row['level'] for row in found] == [0, 1]
    for row, (low, high) in zip(found, [(-0.4, -0.2), (-0.8, -0.6)], strict=True):
        assert low < row['defender_best'] < high and low < row['defender_worst'] < high


@pytest.mark.parametrize('kind', [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_ids_and_contents_of_any_text_type_and_without_a_content(table, tmp_path, kind):
    refs = pa.array([None if i % 3 == 0 else f'r{i % 40}' for i in range(700)])
    plain = table.set_column(1, 'ref', refs)
    expected = _gmad(plain, content='ref', max_per_ref=1, top_k=4, each_image_once=True)
    shown = expected['ref_id_best'].to_pylist() + expected['ref_id_worst'].to_pylist()
    assert shown.count('') > 1  # an unknown content is one of its own
    known = [ref for ref in shown if ref]
    assert len(set(known)) == len(known)
    other = plain.set_column(0, 'image_id', plain['image_id'].cast(kind))
    other = other.set_column(1, 'ref', refs.cast(kind))
    pq.write_table(other, tmp_path / 'scores.parquet', row_group_size=100)
    for scores in (other, tmp_path / 'scores.parquet'):
        found = _gmad(scores, content='ref', max_per_ref=1, top_k=4, each_image_once=True)
        assert found.equals(expected)


def test_rows_without_an_id_are_counted_over_the_whole_table(table, tmp_path):
    ids = [None if i in (3, 650) else name for i, name in enumerate(table['image_id'].to_pylist())]
    broken = table.set_column(0, 'image_id', pa.array(ids))
    pq.write_table(broken, tmp_path / 'scores.parquet', row_group_size=100)
    for scores in (broken, tmp_path / 'scores.parquet'):
        for chunk_size in (64, 4096):
            with pytest.raises(ValueError, match=r'2 of 700 rows .*have no image.id'):
                _gmad(scores, chunk_size=chunk_size)
    with pytest.raises(ValueError, match='Image ids must be all texts or all numbers'):
        _gmad({n: table[n].to_numpy() for n in HIGHER}, ids=np.array(['x', 3] * 350, object))


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(
    st.integers(2, 300), st.sampled_from([2, 6, 10**6]), st.sampled_from([None, 0.0, 0.1]),
    st.booleans(), st.integers(1, 3), st.sampled_from([8, 56]), st.integers(0, 10**6),
)  # fmt: skip
def test_streamed_pairs_are_those_of_a_table_in_memory(
    tmp_path_factory, size, grades, tolerance, once, top_k, chunk_size, seed
):
    rng = np.random.default_rng(seed)
    quality = rng.random(size) ** 4
    noisy = {n: np.floor((quality + rng.random(size)) * grades) / grades for n in ('model', 'a')}
    hypothesis.assume(all(np.ptp(x.astype(np.float32)) > 0 for x in noisy.values()))
    scores = pa.table({
        'image_id': rng.permutation([f'i{i}' for i in range(size)]),
        'ref': [f'r{i % 9}' for i in range(size)],
        **noisy,
    })  # fmt: skip
    path = tmp_path_factory.mktemp('streamed') / 'scores.parquet'
    pq.write_table(scores, path, row_group_size=1 + size // 3)
    rules = {'levels': 3, 'tolerance': tolerance, 'each_image_once': once, 'top_k': top_k}
    rules |= {'content': 'ref', 'higher_is_better': {'model': True, 'a': True}}
    both = ['model', 'a']
    expected = iqa_jax.gmad(scores, both, both, **rules)
    assert iqa_jax.gmad(path, both, both, **rules, chunk_size=chunk_size).equals(expected)
