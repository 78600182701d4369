"""The trainer of distortion 15: it learns, continues after a kill, and says what is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import train_denoiser as config_file
from iqa_jax.data.patches import Patches, planes
from iqa_jax.distortions import denoiser
from iqa_jax.runtime import artifacts
from iqa_jax.tasks import train_denoiser


def smoke_config(**changes) -> dict:
    return config_file.get_config('smoke').to_dict() | changes


@pytest.fixture
def photos(tmp_path):
    """A folder of four smooth pictures of 64x48, one that is too small and one that is none."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    y, x = np.mgrid[:48, :64]
    for i in range(4):
        waves = [np.sin(x / (9 + i + c)) + np.cos(y / (7 + 2 * i + c)) for c in range(3)]
        picture = np.uint8(127 + 60 * np.stack(waves, axis=-1))
        Image.fromarray(picture).save(folder / f'photo_{i}.png')
    Image.fromarray(picture[:20]).save(folder / 'small.png')
    (folder / 'text.png').write_text('not a picture')
    return folder


def test_a_killed_run_continues_and_ends_with_the_same_bytes(main, tmp_path):
    arguments = ['--config', 'configs/train_denoiser.py:smoke', '--workdir', str(tmp_path / 'a')]
    killed = main(*arguments, IQA_JAX_CRASH_AT='train_denoiser.checkpoint:1')
    assert killed.returncode == -9 and not (tmp_path / 'a/denoiser.npz').exists()
    done = main(*arguments)
    assert done.returncode == 0, done.stderr
    assert 'continues at step 2 of 4' in done.stderr
    summary = train_denoiser.run(smoke_config(), tmp_path / 'b')
    for name in ('denoiser.npz', 'metrics.jsonl'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    again = train_denoiser.run(smoke_config(), tmp_path / 'a')
    assert again['headline'] == summary['headline'] and 'PSNR' in again['headline']


def test_it_learns_and_writes_what_it_learned(photos, tmp_path):
    config = smoke_config(
        photos=str(photos), held_out=1, total_steps=300, eval_steps=300, checkpoint_steps=300,
        batch_size=8, learning_rate=1e-2, warmup_steps=10,
    )  # fmt: skip
    summary = train_denoiser.run(config, tmp_path / 'out')
    assert (summary['photos'], summary['quarantined']) == (4, 2)
    listed = (tmp_path / 'out/quarantine.csv').read_text()
    assert 'small.png' in listed and 'text.png' in listed
    record = json.loads(artifacts.read(tmp_path / 'out/denoiser.json'))
    data = artifacts.read(tmp_path / 'out/denoiser.npz')
    assert record['sha256'] == artifacts.meta(tmp_path / 'out/denoiser.npz')['sha256']
    weights = denoiser.decode_weights(data)
    assert record['parameters'] == sum(x.size for x in weights.values())
    assert len(record['held_out']) == 1 and record['held_out'][0].startswith('photo_')
    measured = record['psnr']['25']
    assert measured['denoised'] > measured['noisy'] + 3
    assert measured['gaussian_filter'] > measured['noisy']


def test_patches_are_those_of_the_step_whoever_loads_them():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(2)]
    patches = Patches(pictures, batch_size=6, size=20, seed=3)
    batch = patches.batch(5)['patch']
    assert batch.shape == (6, 20, 20) and batch.dtype == np.uint8
    rows = [patches.batch(5, slice(i, i + 3))['patch'] for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(rows), batch)
    np.testing.assert_array_equal(next(patches.batches(5, 6))['patch'], batch)
    assert not np.array_equal(patches.batch(6)['patch'], batch)
    known = {
        turned.tobytes()
        for picture in pictures
        for plane in planes(picture)
        for left in range(11)
        for quarter in range(4)
        for turned in _both_ways(np.rot90(plane[:, left : left + 20], quarter))
    }
    assert all(patch.tobytes() in known for patch in batch)


def _both_ways(patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return patch, patch[:, ::-1]


def test_planes_are_red_green_blue_and_gray():
    photo = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]])
    np.testing.assert_array_equal(
        planes(photo)[:, 0], [[255, 0, 0, 9], [0, 255, 0, 9], [0, 0, 255, 9], [76, 150, 29, 9]]
    )


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'patch': 15}, r'config\.patch=15; use an even number of at most 48'),
        ({'patch': 64}, r'config\.patch=64; use an even number of at most 48'),
        ({'layers': 2}, r'config\.layers=2; use 3 or more'),
        ({'held_out': 0}, r'config\.held_out=0; use 1 or more'),
        ({'held_out': 21}, r'21 of the 21 pictures .* can be used.*held_out=21'),
        ({'sigma_max': 0}, r'config\.sigma_max=0; use more than 0'),
        ({'eval_steps': 0}, r'config\.eval_steps=0; use 1 or more'),
        ({'batch_size': 0}, r'config\.batch_size=0 does not divide'),
        ({'photos': '/no/such/folder'}, 'is not a folder'),
        ({'schedule': 'linear'}, r"config\.schedule='linear' is unknown"),
        ({'sigmas': 3}, r'config\.sigmas is not a key'),
        ({'learning_rate': 1e30, 'clip_norm': 1e30}, 'lower config.learning_rate'),
    ],
)
def test_bad_configs_are_answered_in_a_sentence(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train_denoiser.run(smoke_config(**changes), tmp_path / 'out')
