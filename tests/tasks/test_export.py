"""export: calibration to opinions, its refusals, and a card that states what is known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import iqa_jax
from iqa_jax import models
from iqa_jax.data import exposure, manifest, tables
from iqa_jax.images import io
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import export, provenance, score
from iqa_jax.training import saved_model, steps

N = 26  # images; the last has no opinion
SPEC = {'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'layer'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A saved model, 26 pictures and manifests whose opinions rise or fall with its scores."""
    path = tmp_path_factory.mktemp('export')
    model = models.build(**SPEC, outputs=1)
    start = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), start, train=False))()
    state = steps.create_state(variables, optax.sgd(0.1), None, 1)
    meta = {'config': {'crop': [64, 64]}, 'origin': '', 'simulated': False, 'step': 3}
    saved_model.save(path / 'model', state, SPEC, ['mos'], meta, 'mark')
    rng = np.random.default_rng(0)
    pictures = []
    for k in range(N):
        noise = rng.normal(128, 4 + 3 * k, (64, 60 if k % 2 else 64, 3))
        pictures.append(noise.clip(0, 255).astype(np.uint8))
        artifacts.write(path / f'{k:02d}.png', io.encode_png(pictures[-1]))
    found = iqa_jax.load_model(path / 'model').score(pictures)
    rank = found.argsort().argsort()
    mos = 100 * (rank + rng.normal(0, 0.5, N)).clip(0, N) / N
    mos[-1] = np.nan
    columns = {
        'image_id': np.array([f'i{k:02d}' for k in range(N)], object),
        'file': np.array([str(path / f'{k:02d}.png') for k in range(N)], object),
        'split': np.full(N, 'val', object),
        'database': np.full(N, 'mine', object),
        'mos': mos,
    }
    about = {'simulated': True, 'terms': 'for tests alone', 'title': 'Mine'}
    manifest.write(path / 'rated.parquet', columns, about)
    manifest.write(path / 'falling.parquet', columns | {'mos': 100 - mos}, {})
    manifest.write(
        path / 'few.parquet', tables.select(manifest.complete(columns, ''), slice(9)), {}
    )
    return path


def config(folder, manifest_name='', **changes) -> dict:
    rated = {'manifest': f'{manifest_name}.parquet', 'splits': ('val',)} if manifest_name else None
    return {
        'task': 'export', 'root': str(folder), 'model': 'model', 'calibration': rated,
        'results': '', 'pairs': '', 'rated': '',
    } | changes  # fmt: skip


@pytest.fixture(scope='module')
def exported(folder):
    """The calibrated model and the export's summary."""
    sides = {'best': ['i00', 'i25', 'i03'], 'worst': ['i24', 'i02', 'i20']}
    pairs = {f'image_id_{side}': np.array(ids, object) for side, ids in sides.items()}
    pairs |= {
        'defender': np.array(['mine'] * 3, object), 'attacker': np.array(['rival'] * 3, object),
        'role': np.array(['defender'] * 3, object),
    }  # fmt: skip
    for side in ('defender', 'attacker'):
        pairs |= {f'{side}_{end}': np.array([30.0, 20.0, 9.0]) for end in ('best', 'worst')}
    pairs['gap'] = np.array([1.0, 3.0, 2.0])
    tables.write(folder / 'pairs.parquet', pairs)
    known = config(folder, 'rated', pairs='pairs.parquet', rated='falling.parquet')
    return folder / 'out', export.run(known, folder / 'out')


def test_calibrated_scores_are_opinions_and_say_so(folder, exported):
    workdir, summary = exported
    assert summary['quarantined'] == 0
    assert 'of 100 from SIMULATED opinions' in summary['headline']
    model = iqa_jax.load_model(workdir)
    rated = manifest.read(folder / 'rated.parquet')
    pictures = [io.decode(file) for file in rated['file'][:-1]]
    found = model.score(pictures, calibrated=True, uncertainty=True)
    residual = rated['mos'][:-1] - found['score']
    record = model.calibration
    assert record['n'] == N - 1 and record['unrated'] == 1 and record['simulated'] is True
    assert record['residual_std'] == pytest.approx(np.sqrt((residual**2).sum() / (N - 5)), rel=1e-3)
    np.testing.assert_allclose(found['std'], record['residual_std'], rtol=1e-6)
    assert record['srcc'] > 0.95 and record['training_known'] is False


def test_the_card_states_what_is_known_and_what_is_not(folder, exported):
    text = (exported[0] / 'MODEL_CARD.md').read_text()
    assert '## Training data\n\n- not known\n' in text
    assert '## Evaluation\n\n- not known\n' in text
    assert 'To SIMULATED opinions on 25 images' in text
    assert 'Whether the model was trained on them is not known.' in text
    # Opinions that fall with the scores: the model is wrong about both pairs that are rated.
    assert 'Of 3 pairs people decide 2; the model orders 2 of them against people.' in text
    bare = export.run(config(folder, pairs='pairs.parquet'), folder / 'bare')
    assert bare['quarantined'] == 0
    text = (folder / 'bare/MODEL_CARD.md').read_text()
    assert 'scores are comparable with each other, not with opinions' in text
    assert '3 pairs, which nobody rated: who is right is not known.' in text
    assert text.index('| i25 | i02 |') < text.index('| i03 | i20 |') < text.index('| i00 | i24 |')


def test_a_calibration_is_kept_and_removed(folder, exported, tmp_path):
    export.run(config(folder, model=str(exported[0])), tmp_path / 'copy')
    assert iqa_jax.load_model(tmp_path / 'copy').calibration['n'] == N - 1
    export.run(config(folder), tmp_path / 'copy')
    assert iqa_jax.load_model(tmp_path / 'copy').calibration is None


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('falling', r'25 images of .*falling\.parquet do not rise with their opinions \(SRCC -0'),
        ('few', r'9 rated images in split val of .*few\.parquet are too few; at least 20'),
    ],
)
def test_impossible_calibrations_are_sentences(folder, tmp_path, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        export.run(config(folder, name), tmp_path)
    assert not (tmp_path / 'MODEL_CARD.md').exists()


def test_learnt_images_cannot_calibrate_but_validated_ones_can(folder, tmp_path):
    rows = manifest.read(folder / 'rated.parquet')
    learnt = tables.select(rows, slice(2))
    for path in saved_model.files(folder / 'model'):
        artifacts.commit(tmp_path / path.name, artifacts.read(path))
    record = tmp_path / saved_model.TRAINED_ON
    tables.write(record, exposure.record([learnt], [rows], []))
    wanted = config(folder, 'rated', model=str(tmp_path))
    with pytest.raises(ValueError, match='2 of 25 images of .*, i00 the first, cannot calibrate'):
        export.run(wanted, tmp_path / 'out')
    tables.write(record, exposure.record([], [rows], []))
    export.run(wanted, tmp_path / 'out')
    assert iqa_jax.load_model(tmp_path / 'out').calibration['training_known'] is True


def test_wrong_keys_are_sentences(folder, tmp_path):
    wrong = config(folder, calibration={'manifest': 'rated.parquet', 'split': ('val',)})
    with pytest.raises(ValueError, match=r'config\.calibration\.split is not a key'):
        export.run(wrong, tmp_path)
    with pytest.raises(ValueError, match=r'config\.rated needs config\.pairs'):
        export.run(config(folder, rated='rated.parquet'), tmp_path)


def test_the_origin_of_every_training_is_on_the_card(folder, tmp_path):
    entry = {'manifest': str(folder / 'rated.parquet'), 'scores': '', 'weight': 1.0}
    later = {'init_from': str(folder / 'model'), 'targets': ['mos'], 'databases': {'set': entry}}
    found = provenance.trainings(later)
    assert [training['databases'] is None for training in found] == [True, False]
    database = found[1]['databases'][0]
    assert database['images'] == {'train': 0, 'val': N} and database['simulated'] is True
    rows = manifest.read(folder / 'rated.parquet')
    turned = tables.select(rows, slice(None, None, -1))
    assert provenance.split_digest(turned) == database['split_sha256']
    turned['split'][0] = 'test'
    assert provenance.split_digest(turned) != database['split_sha256']
    record = json.loads((folder / 'model/model.json').read_text())
    record['meta']['trainings'] = found
    artifacts.commit(tmp_path / 'model.json', json.dumps(record).encode())
    weights = artifacts.read(folder / 'model/weights.msgpack')
    artifacts.commit(tmp_path / 'weights.msgpack', weights)
    export.run(config(folder, model=str(tmp_path)), tmp_path / 'out')
    text = (tmp_path / 'out/MODEL_CARD.md').read_text()
    assert '- Training 1: not known.' in text and '- Training 2, for mos:' in text
    assert f'database mine (Mine); train 0 images of 0 references; val {N} images' in text
    assert 'SIMULATED opinions.' in text and 'Terms: for tests alone.' in text
    assert database['split_sha256'] in text and database['manifest_sha256'] in text


def test_the_score_stage_reads_any_size_and_writes_the_spread(folder, exported, tmp_path):
    rows = manifest.read(folder / 'rated.parquet')
    tiny = tmp_path / 'tiny.png'
    tiny.write_bytes(io.encode_png(np.zeros((31, 64, 3), np.uint8)))
    rows['file'][3], rows['sha256'][3] = str(tiny), ''
    manifest.write(tmp_path / 'mixed.parquet', rows, {})
    wanted = {
        'task': 'score', 'root': '', 'manifest': str(tmp_path / 'mixed.parquet'),
        'model': str(exported[0]), 'splits': ('val',), 'name': 'q', 'twin': False,
        'calibrated': True, 'uncertainty': True, 'bucket_step': 64, 'pixel_limit': 2**21,
        'resize': '',
        'batch_size': 4, 'shard_size': 8, 'shard': '',
        'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
    }  # fmt: skip
    summary = score.run(wanted, tmp_path / 'out')
    assert summary['images'] == N - 1 and summary['quarantined'] == 1
    table, meta = tables.read(tmp_path / 'out/scores.parquet')
    model = iqa_jax.load_model(exported[0])
    kept = [k for k in range(N) if k != 3]
    pictures = [io.decode(rows['file'][k]) for k in kept]
    found = model.score(pictures, calibrated=True, uncertainty=True)
    assert table['image_id'].tolist() == [rows['image_id'][k] for k in kept]
    np.testing.assert_allclose(table['q'], found['score'], rtol=1e-4)
    np.testing.assert_allclose(table['q_std'], found['std'], rtol=1e-4)
    assert 'calibrated to SIMULATED opinions' in meta['columns']['q']['origin']
    assert meta['columns']['q_std']['higher_is_better'] is False
    with pytest.raises(ValueError, match='has no calibration'):
        score.run(wanted | {'model': str(folder / 'model')}, tmp_path / 'none')
