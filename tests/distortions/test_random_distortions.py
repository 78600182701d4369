"""Random distortions: moments over seeds against the original's, and the draws themselves."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iqa_jax.distortions import blur, colour, distort_batch, get, jitter, spatial

SEEDS = np.arange(100, 106)
CHANNELS = 'rgb'


def statistics(image: np.ndarray, distorted: np.ndarray) -> dict[str, float]:
    """The columns of noise_metrics.csv for one distorted image."""
    error = distorted.astype(float) - image
    found = {
        'psnr': 10 * np.log10(255**2 / np.mean(error**2)),
        'frac_changed': (error != 0).any(axis=-1).mean(),
        'frac_0': (distorted == 0).mean(),
        'frac_255': (distorted == 255).mean(),
    }
    for i, channel in enumerate(CHANNELS):
        mean, deviation = error[..., i].mean(), error[..., i].std()
        found[f'd{channel}_mean'] = mean
        found[f'd{channel}_std'] = deviation
        found[f'd{channel}_kurt'] = ((error[..., i] - mean) ** 4).mean() / deviation**4
    return found


@pytest.mark.parametrize('photo', ['coffee', 'chelsea'])
@pytest.mark.parametrize('number', [11, 12, 13, 14])
def test_noise_has_the_moments_of_the_original(golden, golden_folder, photo, number):
    with open(golden_folder / 'noise_metrics.csv') as file:
        rows = [r for r in csv.DictReader(file) if (r['image'], r['type']) == (photo, str(number))]
    image = golden(f'{photo}/ref')
    for level in range(1, 6):
        batch = np.stack([image] * len(SEEDS))
        distorted = distort_batch(batch, number, np.full(len(SEEDS), level), SEEDS)
        ours = [statistics(image, one) for one in distorted]
        theirs = [row for row in rows if row['level'] == str(level)]
        for key in ours[0]:
            a = np.array([found[key] for found in ours])
            b = np.array([float(row[key]) for row in theirs])
            # Four seeds tell a spread badly, so the larger of both counts.
            spread = max(a.std(ddof=1), b.std(ddof=1)) * np.hypot(len(a) ** -0.5, len(b) ** -0.5)
            assert abs(a.mean() - b.mean()) <= 4 * spread + 0.005 * abs(b.mean()) + 1e-4, key


def test_jitter_is_as_strong_as_the_original(golden):
    image = golden('coffee/ref').astype(float).ravel()

    def residual(distorted):
        # The stretch hangs on two extreme samples; a straight-line fit takes it out.
        slope, offset = np.polyfit(image, distorted.ravel(), 1)
        return np.std((distorted.ravel() - offset) / slope - image)

    for level in range(1, 6):
        ours = distort_batch(golden('coffee/ref')[None], 19, [level], [0])[0]
        expected = residual(golden(f'coffee/19_{level:02d}_s1'))
        assert residual(ours) == pytest.approx(expected, rel=0.05)


def test_jitter_displaces_by_cubic_convolution():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (20, 24, 3)).astype(np.float32)
    rows, cols = np.full((2, 20, 24), [[[2.0]], [[-3.0]]], np.float32)
    moved = jitter.displace(jnp.asarray(image), jnp.asarray(rows), jnp.asarray(cols))
    padded = np.pad(image, ((0, 2), (3, 0), (0, 0)), 'edge')
    np.testing.assert_allclose(moved, padded[2:, :24], atol=1e-6)
    # Cubic convolution keeps parabolas, away from the border.
    y, x = np.mgrid[:20, :24]
    rows, cols = rng.uniform(-2, 2, (2, 20, 24)).astype(np.float32)
    curve = np.stack([(y + x) / 40, (y / 20) ** 2, (x / 24) ** 2 - y / 20], -1)
    moved = jitter.displace(*(jnp.asarray(v, jnp.float32) for v in (curve, rows, cols)))
    y, x = y + rows, x + cols
    expected = np.stack([(y + x) / 40, (y / 20) ** 2, (x / 24) ** 2 - y / 20], -1)
    inside = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(moved[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'module'),
    [
        ('motion_blur', blur),
        ('color_shift', colour),
        ('non_eccentricity_patch', spatial),
        ('color_block', spatial),
    ],
)
def test_a_replayable_type_is_its_draw_applied(small_images, name, module):
    image, key = jnp.float32(small_images[0]) / 255, jax.random.key(5)
    draws = jax.jit(getattr(module, f'draw_{name}'))(key)
    applied = jax.jit(getattr(module, f'apply_{name}'))(image, 4, draws)
    np.testing.assert_array_equal(jax.jit(get(name).function)(image, 4, key), applied)


def test_draws_cover_their_range():
    keys = jax.random.split(jax.random.key(0), 4000)
    angles = np.asarray(jax.vmap(blur.draw_motion_blur)(keys))
    assert set(angles) == set(range(181))
    directions = np.asarray(jax.vmap(colour.draw_color_shift)(keys))
    assert directions.min() > 0 and directions.max() <= 1
    blocks = np.asarray(jax.vmap(spatial.draw_color_block)(keys[:100]))
    assert blocks.shape == (100, 10, 5) and blocks.min() >= 0 and blocks.max() < 1


def test_impulses_strike_samples_not_pixels(small_images):
    changed = (
        distort_batch(small_images[:1], 13, [5], [1])[0]
        != distort_batch(small_images[:1], 13, [1], [1])[0]
    )
    assert changed.any(axis=-1).sum() > 1.5 * changed.all(axis=-1).sum()
