"""The whole loop through `main`: what it leaves, that it repeats nothing and survives kills."""

import json
import shutil

import numpy as np
import pytest

import iqa_jax
from configs import quickstart
from configs.gmad import METRICS
from iqa_jax.data import manifest, tables
from iqa_jax.images import io
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import active, report, report_data

CONFIG = ('--config', 'configs/quickstart.py:smoke', '--workdir')
FINAL_SCORES = 'active/scores.parquet'


def test_the_run_ends_with_the_report_and_one_line_per_stage(smoke):
    stdout = (smoke.parent / 'smoke.stdout').read_text().strip().splitlines()
    assert stdout[-1] == str(smoke / 'report.html')
    lines = (smoke.parent / 'smoke.stderr').read_text().splitlines()
    for stage in ('make_data', 'train', 'score', 'study', 'gmad', 'evaluate', 'active', 'report'):
        assert any(line.startswith(f'{stage}: ') and ' -> ' in line for line in lines), stage


def test_summary_has_seconds_counts_and_the_headline(smoke):
    summary = json.loads((smoke / 'summary.json').read_text())
    value, (low, high) = summary['unseen_photos_srcc'], summary['unseen_photos_srcc_interval']
    assert -1 <= low <= value <= high <= 1
    assert summary['quarantined'] == 0
    for stage in summary['stages'].values():
        assert stage['seconds'] >= 0 and stage['headline'] and stage['artifact']
    assert summary['stages']['data']['images'] == 21 * (1 + 3 * 5)


def test_no_photograph_is_on_two_sides(smoke):
    columns = manifest.read(smoke / 'data/manifest.parquet')
    for ref_id in set(columns['ref_id'].tolist()):
        assert len(set(columns['split'][columns['ref_id'] == ref_id].tolist())) == 1
    scored = tables.read(smoke / 'score_unseen/scores.parquet')[0]['image_id']
    split = dict(zip(columns['image_id'], columns['split'], strict=True))
    assert {split[i] for i in scored.tolist()} == {'test', 'pool'}
    rated = manifest.read(smoke / 'rate/rated.parquet')
    assert all(split[i] == s for i, s in zip(rated['image_id'], rated['split'], strict=True))


def test_everything_from_the_panel_is_labelled_simulated(smoke):
    votes, meta = tables.read(smoke / 'rate/votes.parquet')
    assert votes['simulated'].all() and meta['simulated'] is True
    results = json.loads((smoke / 'evaluate_rated/results.json').read_text())
    assert results['simulated'] is True
    unseen = json.loads((smoke / 'evaluate_unseen/results.json').read_text())
    assert unseen['simulated'] is False
    assert 'SIMULATED' in (smoke / 'report.html').read_text()


def test_gmad_images_come_from_the_pool_and_are_not_rated_twice(smoke):
    columns = manifest.read(smoke / 'data/manifest.parquet')
    split = dict(zip(columns['image_id'], columns['split'], strict=True))
    rounds = []
    for number in (1, 2):
        pairs = tables.read(smoke / f'active/round_{number:02d}/gmad/pairs.parquet')[0]
        images = {*pairs['image_id_best'].tolist(), *pairs['image_id_worst'].tolist()}
        assert {split[i] for i in images} == {'pool'}
        assert {*pairs['role'].tolist()} <= {'defender', 'attacker'}
        models = {*pairs['defender'].tolist(), *pairs['attacker'].tolist()} - {*METRICS}
        assert models == {'quality', 'quality_before'} if number == 2 else {'quality'}
        rounds.append(images)
    assert not rounds[0] & rounds[1]


def test_the_twin_leaves_hard_examples_in_order(smoke):
    table = tables.read(smoke / 'finetune/hard_examples.parquet')[0]
    assert len(table['image_id']) > 0 and (table['count'] > 0).all()
    assert (np.diff(table['disagreement']) <= 0).all() and (table['disagreement'] >= 0).all()


def test_the_exported_model_scores_as_the_score_stage_did(smoke):
    model = iqa_jax.load_model(smoke / 'model')
    columns = manifest.read(smoke / 'data/manifest.parquet')
    scores = tables.read(smoke / FINAL_SCORES)[0]
    row = int(np.flatnonzero(columns['image_id'] == scores['image_id'][5])[0])
    image = io.decode(columns['file'][row])
    np.testing.assert_allclose(model.score(image), scores['quality'][5:6], rtol=1e-4, atol=1e-5)
    as_float = model.score(image.astype(np.float32) / 255)
    np.testing.assert_allclose(as_float, model.score(image), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r'must be \[H, W, 3\]'):
        model.score(image[..., 0])
    with pytest.raises(ValueError, match='uint8, or float in'):
        model.score(image.astype(np.float32))


def test_the_card_of_the_exported_model_names_every_training(smoke):
    text = (smoke / 'model/MODEL_CARD.md').read_text()
    assert '- Training 3, for mos:' in text and '- Training 4' not in text
    assert '  - round_01: database gmad_round_01; train ' in text
    assert text.count('SIMULATED opinions.') == 3  # rated, replay, round_01
    assert text.count('Terms: the bundled photographs are CC0 1.0.') == 4
    assert '- fresh, column "after round 1", against mos of SIMULATED observers: SRCC ' in text
    assert ' pairs SIMULATED people decide ' in text


def test_active_leaves_the_scores_and_the_model_of_its_last_round(smoke):
    table, meta = tables.read(smoke / FINAL_SCORES)
    last, described = tables.read(smoke / 'active/round_02/score/scores.parquet')
    old = tables.read(smoke / 'active/round_01/old_rated/scores.parquet')[0]
    assert meta == described and meta['columns']['quality']['higher_is_better'] is True
    assert table['image_id'].tolist() == [*last['image_id'], *old['image_id']]
    assert table['quality'].tolist() == [*last['quality'], *old['quality']]
    weights = [
        smoke / f / 'weights.msgpack' for f in ('active/model', 'active/round_01/train/model')
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    record = json.loads((smoke / 'active/active.json').read_text())
    assert record['stopped'] == 'all rounds were run'
    first, last = record['rounds']
    assert first['trained'] and first['kept'] and not last['trained']
    of_fresh = [e['set'] for e in record['comparisons'] if e['set'].startswith('fresh')]
    assert of_fresh == ['fresh', 'fresh', 'fresh_after', 'fresh_before', 'fresh_own']
    for entry in record['comparisons']:
        value, low, high = entry['difference']
        assert value == pytest.approx(entry['after'][0] - entry['before'][0])
        assert low <= value <= high


@pytest.fixture(scope='module')
def two_rounds(smoke, tmp_path_factory):
    """The smoke run's folders with a second active round and its report; (workdir, config)."""
    workdir = tmp_path_factory.mktemp('two')
    for path in smoke.iterdir():
        if path.is_dir() and path.name != 'active':
            (workdir / path.name).symlink_to(path)
    shutil.copytree(smoke / 'active', workdir / 'active')
    stages = quickstart.get_config('smoke').stages
    config = stages.active.to_dict() | {'root': str(workdir), 'rounds': 2}
    del config['folder']
    active.run(config, workdir / 'active')
    page = stages.report.to_dict() | {'root': str(workdir)}
    del page['folder']
    report.run(page, workdir)
    return workdir, config


def test_two_rounds_train_twice_and_the_report_shows_both(two_rounds):
    workdir, _ = two_rounds
    record = json.loads((workdir / 'active/active.json').read_text())
    assert [r['kept'] for r in record['rounds']] == [True, True, False]
    sets = [entry['set'] for entry in record['comparisons'] if entry['measure'] == 'SRCC']
    assert sets == ['old_rated', 'round_01', 'round_02', 'fresh']
    models = [row['model'] for row in record['history'] if row['set'] == 'old_rated']
    assert models == ['before', 'after round 1', 'after round 2']
    weights = [workdir / f'active/{f}/weights.msgpack' for f in ('model', 'round_02/train/model')]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    text = (workdir / 'report.html').read_text()
    assert '<h3>active, round 1' in text and '<h3>active, round 2' in text
    assert '<h3>active, round 3' not in text
    with pytest.raises(ValueError, match=r'config\.rounds=0'):
        active.run(two_rounds[1] | {'rounds': 0}, workdir / 'active')


def test_the_report_collects_what_every_stage_set_aside(two_rounds, tmp_path):
    workdir, _ = two_rounds
    entries = tables.quarantine_csv([{'file': 'x.png', 'reason': 'cut, in half'}])
    for folder, outputs in (('data', ['quarantine.csv']), ('rate', [])):
        artifacts.commit(tmp_path / folder / 'quarantine.csv', entries)
        artifacts.commit(tmp_path / folder / 'stage.json', b'{}', meta={'outputs': outputs})
    folders = {name: tmp_path / name for name in ('data', 'rate')}
    rows = report_data.quarantine(folders | {'active/model': workdir / 'active/model'})
    assert rows == [{'stage': 'data', 'file': 'x.png', 'reason': 'cut, in half'}]
    record = json.loads((workdir / 'active/active.json').read_text())
    for stage in ('round_01/score', 'round_03/gmad', 'evaluate/fresh'):
        assert stage in record['stages']
        assert (workdir / 'active' / stage / 'quarantine.csv').is_file()
    assert 'Nothing was set aside' in (workdir / 'report.html').read_text()


def test_records_of_training_tell_speed_and_waiting(smoke):
    for folder in ('pretrain', 'finetune'):
        lines = (smoke / folder / 'metrics.jsonl').read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if 'loss' in row]
        assert len(rows) == 4
        assert all(row['images_per_second'] > 0 for row in rows)
        assert all(0 < row['data_wait_fraction'] < 1 for row in rows)


def test_curves_of_the_report_are_verified(smoke, tmp_path):
    for name in ('metrics.jsonl', 'metrics.jsonl.meta.json'):
        shutil.copy(smoke / 'pretrain' / name, tmp_path / name)
    steps, values = report_data.curves(tmp_path / 'metrics.jsonl')['loss']
    assert len(steps) == len(values) > 0
    with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write('{"step": 9, "loss": 0.0}\n')
    with pytest.raises(artifacts.DamagedArtifact):
        report_data.curves(tmp_path / 'metrics.jsonl')


def test_the_same_command_again_changes_no_byte(smoke, main, tree_digest):
    before = tree_digest(smoke)
    done = main(*CONFIG, str(smoke))
    assert done.returncode == 0, done.stderr
    assert 'make_data: up to date' in done.stderr and 'report: up to date' in done.stderr
    assert tree_digest(smoke) == before


def test_kills_during_data_training_and_scoring_lose_nothing(smoke, main, tmp_path):
    workdir = tmp_path / 'killed'
    for point, said in (
        ('make_data.shard:9', ''),
        ('train.checkpoint:1', ''),
        ('score.shard:3', 'train continues at step 4 of 8.'),
    ):
        killed = main(*CONFIG, str(workdir), IQA_JAX_CRASH_AT=point)
        assert killed.returncode == -9, killed.stderr
        assert said in killed.stderr
    done = main(*CONFIG, str(workdir))
    assert done.returncode == 0, done.stderr
    for table in ('data/scores.parquet', 'score_unseen/scores.parquet', FINAL_SCORES):
        assert (workdir / table).read_bytes() == (smoke / table).read_bytes(), table
    steps = [json.loads(x)['step'] for x in (workdir / 'pretrain/metrics.jsonl').open()]
    assert steps == [json.loads(x)['step'] for x in (smoke / 'pretrain/metrics.jsonl').open()]
