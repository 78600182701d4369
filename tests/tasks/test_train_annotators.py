"""Training on the votes of score columns: directions, abstentions, what is written and refused."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from iqa_jax.data import manifest, pipeline, tables
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import annotator_report, train, train_setup

NAMES = ('ssim', 'gmsd', 'vsi')
OPTIONS = {'optimise': 'gradient', 'first_rate': 0.62, 'abstain_below': 0.0, 'em_memory': 0.9}
N = 14


@pytest.fixture
def data(tmp_path):
    """Fourteen noisy pictures with three score columns, GMSD falling with quality."""
    rng = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    quality = np.arange(N) / N
    files = []
    for i in range(N):
        noise = rng.normal(0, 60 * (1 - quality[i]), (40, 40, 3))
        files.append(str(tmp_path / f'images/{i}.png'))
        Image.fromarray(np.clip(128 + noise, 0, 255).astype(np.uint8)).save(files[-1])
    ids = np.array([f'image{i}' for i in range(N)], object)
    columns = {'image_id': ids, 'file': np.array(files, object)}
    columns['split'] = np.array(['train'] * 10 + ['val'] * 4, object)
    columns['database'] = np.full(N, 'noise', object)
    scores = {name: (quality + rng.normal(0, 0.05, N)).astype(np.float32) for name in NAMES}
    scores['gmsd'] = -scores['gmsd']
    scores['ssim'][2:4] = np.nan
    scores['vsi'][5] = scores['vsi'][6]

    def write(with_mos=False, scores=scores, described=True, suffix='parquet', **meta):
        mos = {'mos': (100 * quality).astype(np.float32)} if with_mos else {}
        manifest.write(tmp_path / 'manifest.parquet', columns | mos, meta)
        better = {name: {'higher_is_better': name != 'gmsd'} for name in NAMES}
        table = {'image_id': ids, **scores}
        about = {'columns': better} if described else {}
        tables.write(tmp_path / f'scores.{suffix}', table, about)
        return scores

    return write


def config(folder, **changes):
    from configs import train_proxies

    plain = train_proxies.get_config('smoke').to_dict()
    plain['model'] |= {'hidden': (4,)}
    database = {'manifest': 'manifest.parquet', 'scores': 'scores.parquet', 'weight': 1.0}
    database |= changes.pop('database', {})
    plain |= {'root': str(folder), 'databases': {'noise': database}, 'targets': NAMES}
    plain |= {'crop': (32, 32), 'total_steps': 3, 'eval_images': 8, 'rate_scales': {'loss': 10.0}}
    return plain | {'loss': 'annotators', 'loss_options': OPTIONS} | changes


def pairs_voted(values):
    known = values[~np.isnan(values)].astype(float)
    differ = known[:, None] != known[None]
    return int(np.sum(np.triu(differ, 1)))


@pytest.mark.parametrize('optimise', ['gradient', 'em'])
def test_the_report_counts_votes_and_ranks_annotators(data, tmp_path, optimise):
    scores = data()
    changes = {'loss_options': OPTIONS | {'optimise': optimise}}
    changes |= {} if optimise == 'gradient' else {'rate_scales': {}}  # EM trains no rate
    summary = train.run(config(tmp_path, **changes), tmp_path / 'out')
    cast = [pairs_voted(scores[name][:10]) for name in NAMES]
    assert cast == [28, 45, 44]
    assert summary['votes'] == sum(cast) and summary['abstentions'] == 3 * 45 - sum(cast)
    record = json.loads(artifacts.read(tmp_path / 'out/annotators.json'))
    rows = record['annotators']
    text = artifacts.read(tmp_path / 'out/annotators.csv').decode()
    for row, line in zip(rows, csv.DictReader(io.StringIO(text)), strict=True):
        assert row['annotator'] == line['annotator'] and row['votes'] == int(line['votes'])
    assert [row['rank'] for row in rows] == [1, 2, 3]
    skill = [row['hit_rate'] + row['correct_rejection_rate'] for row in rows]
    assert skill == sorted(skill, reverse=True) and skill[0] != 2 * np.float32(0.62)
    assert 'no opinions' in record['srcc_with'] and record['optimise'] == optimise
    by_name = {row['annotator']: row for row in rows}
    for name, votes in zip(NAMES, cast, strict=True):
        assert by_name[name]['votes'] == votes and by_name[name]['abstentions'] == 45 - votes
        assert by_name[name]['srcc'] > 0.5, 'a lower GMSD is better'
        assert by_name[name]['hit_rate_without_model'] > 0.5
        assert 0 <= by_name[name]['agreement_with_model'] <= 1
    want = spearmanr(skill, [row['srcc'] for row in rows]).statistic
    np.testing.assert_allclose(record['srcc_of_rates_with_srcc'], want)
    lines = (tmp_path / 'out/metrics.jsonl').read_text().splitlines()
    last = [json.loads(line) for line in lines if 'hit_rate/gmsd' in line][-1]
    assert last['hit_rate/gmsd'] == round(by_name['gmsd']['hit_rate'], 4)
    assert train.run(config(tmp_path, **changes), tmp_path / 'out') == summary


def test_a_restart_remembers_what_em_has_seen(data, tmp_path, monkeypatch, caplog):
    data()
    changes = {'loss_options': OPTIONS | {'optimise': 'em'}, 'rate_scales': {}}
    plain = config(tmp_path, **changes, checkpoint_steps=2)
    train.run(plain, tmp_path / 'whole')

    def crash(name):
        if name == 'train.checkpoint':
            raise KeyboardInterrupt(name)

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, 'crash_point', crash)
        with pytest.raises(KeyboardInterrupt, match='train.checkpoint'):
            train.run(plain, tmp_path / 'cut')
    assert not (tmp_path / 'cut/annotators.csv').exists()
    with caplog.at_level('INFO', logger='absl'):
        train.run(plain, tmp_path / 'cut')
    assert 'train continues at step 2 of 3' in caplog.text
    whole, cut = (artifacts.read(tmp_path / name / 'annotators.csv') for name in ('whole', 'cut'))
    assert whole == cut


def test_a_training_at_its_last_step_ends_without_its_record_and_with_a_damaged_log(
    data, tmp_path, caplog
):
    data()
    folder, log = tmp_path / 'out', tmp_path / 'out/metrics.jsonl'
    train.run(config(tmp_path), folder)
    rates = artifacts.read(folder / 'annotators.csv')
    (folder / 'stage.json').unlink()
    log.write_bytes(bytes(log.stat().st_size))
    train.run(config(tmp_path), folder)
    assert f'{log} is missing or damaged: the rows up to step 3' in caplog.text
    assert artifacts.read(folder / 'annotators.csv') == rates
    assert artifacts.read(log) == b''


@pytest.mark.parametrize('simulated', [False, True])
def test_annotators_are_compared_with_opinions_where_there_are_some(data, tmp_path, simulated):
    scores = data(with_mos=True, simulated=simulated)
    train.run(config(tmp_path), tmp_path / 'out')
    record = json.loads(artifacts.read(tmp_path / 'out/annotators.json'))
    assert record['srcc_with'] == ('SIMULATED opinions' if simulated else 'opinions')
    (row,) = (row for row in record['annotators'] if row['annotator'] == 'gmsd')
    want = spearmanr(-scores['gmsd'][:10], np.arange(10)).statistic
    np.testing.assert_allclose(row['srcc'], want)


def test_targets_of_raw_scores_are_turned_so_that_higher_is_better(data, tmp_path):
    scores = data()
    plain = config(tmp_path, loss='mse', loss_options={}, targets=('gmsd', 'vsi'))
    where = plain['databases']['noise']
    for key in ('manifest', 'scores'):
        where[key] = str(tmp_path / where[key])
    (source,), _, _ = train_setup.load_databases(plain)
    np.testing.assert_array_equal(source.targets[:, 0], -scores['gmsd'][:10])
    np.testing.assert_array_equal(source.targets[:, 1], scores['vsi'][:10])


def test_a_table_without_directions_needs_them_in_the_config(data, tmp_path):
    data(described=False, suffix='csv')
    given = {'scores': 'scores.csv'}
    with pytest.raises(ValueError, match=r'does not say whether a higher ssim is better'):
        train.run(config(tmp_path, database=given), tmp_path / 'out')
    given['higher_is_better'] = {'ssim': True, 'gmsd': False, 'vsi': True}
    train.run(config(tmp_path, database=given), tmp_path / 'out')
    rows = json.loads(artifacts.read(tmp_path / 'out/annotators.json'))['annotators']
    assert all(row['srcc'] > 0.5 for row in rows)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (lambda s: [x.__setitem__(4, np.nan) for x in s.values()], '1 of 10 images, image4 the'),
        (lambda s: s['vsi'].fill(0.5), 'Annotator vsi casts no vote on 45 pairs'),
        (lambda s: s['vsi'][:10].fill(np.nan), 'Annotator vsi casts no vote on 45 pairs'),
    ],
)
def test_who_never_votes_and_what_nobody_scores_are_refused(data, tmp_path, change, sentence):
    scores = {name: values.copy() for name, values in data().items()}
    change(scores)
    data(scores=scores)
    with pytest.raises(ValueError, match=sentence):
        train.run(config(tmp_path), tmp_path / 'out')


def test_a_margin_that_silences_everyone_is_refused_and_a_lesser_one_counted(data, tmp_path):
    scores = data()
    options = OPTIONS | {'abstain_below': 9.0}
    with pytest.raises(ValueError, match='Annotator ssim casts no vote.*abstain_below'):
        train.run(config(tmp_path, loss_options=options), tmp_path / 'out')
    targets = np.stack([scores[name] for name in NAMES], axis=1)
    source = pipeline.Source({}, targets, np.zeros(N))
    options['abstain_below'] = 0.2
    found = annotator_report.votes([source], {'targets': NAMES, 'loss_options': options})
    gaps = np.abs(targets[:, None] - targets[None])
    assert found['votes'].tolist() == np.sum(np.triu(gaps.T >= 0.2), axis=(1, 2)).tolist()
    assert (found['votes'] + found['abstentions'] == N * (N - 1) // 2).all()
