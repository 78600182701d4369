"""R8: what every metric, model and distortion promises of its numbers, on seeded random cases.

    python benchmarks/reliability/numeric_laws.py [--cases=6] [--seed=0] [--metrics NAME ...]

`--cases` is the number of pairs for each metric: bundled photographs, cut at a random place to a
random size (one size for all cases of a metric, as each size compiles), and worsened by noise, blur
or a brighter half. A violation is a case beyond the bound; all of them must be 0. The laws:

identical       a picture with itself scores the ideal value, exactly, by both policies
symmetric       both orders score alike (1e-6 relative), where the metric claims it
batch           a pair scores in a batch as alone (1e-6 relative)
jit             under jax.jit as outside (1e-6 relative; see the exceptions)
bytes           uint8 scores as float / 255 (1e-6 relative; see the exceptions)
float64         within 1e-4 of the float64 port of the tests, relative to the larger of 1 and the
                score; `mdsi` with the tests' own tolerance near 0, where its root magnifies.
                No photograph needs another exception; of drawn waves see the docstring of `vif`
extreme         black, white, flat and pictures that differ in one pixel: score and gradient finite
                (an infinite PSNR of equal pictures is its ideal value)
nan             a NaN pixel is refused outside jit, and gives NaN inside it
golden          the authors' own values of tests/golden within the tests' tolerance, parity policy;
                where the original gives NaN or an infinity, the same
model           of a seeded model: batch and alone, uint8 and float, padded to a bucket and with its
                own size, relative to the larger of the score and the spread of scores (1e-5, and
                beyond 1e-6 explained: another shape is another program); a NaN pixel is refused
distortion      every type at every level: the same bytes for the same seed, alone and in a batch

Exceptions to 1e-6, explained: bytes, floats and traced functions are different programs, which
round differently, and where a metric compares, ranks, inverts or takes a root near 0, a rounding
shows. LOOSER has the bound that holds instead. Such cases are no violations, but they do not pass
in silence: `explained` counts those beyond 1e-6 of each law, and `worst` is the worst of all.
`gpu` is null: this program measures the CPU, and compares it with no other device.
"""

import argparse
import functools
import math
import os
import sys

import drill

os.environ['JAX_PLATFORMS'] = 'cpu'  # before JAX is imported
sys.path[:0] = [str(drill.ROOT), str(drill.ROOT / 'tests' / 'fr_metrics')]

import cases  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from iqa_jax import distortions, fr_metrics  # noqa: E402
from iqa_jax.images import io  # noqa: E402
from iqa_jax.models import tiling  # noqa: E402

PHOTOS = sorted((drill.ROOT / 'iqa_jax' / 'data' / 'photos').glob('*.png'))
CLOSE = 1e-6
# Another program, bytes or floats: MDSI's root near 0, medians and ranks of SFF, saliency of VSI,
# the small singular values of VIF, the logarithm of a small error.
LOOSER = {
    'sff': 1e-4, 'vif': 2e-5, 'vifp': 2e-5, 'vsi': 5e-5, 'ms_ssim': 3e-5, 'iw_ssim': 1e-5,
    'mdsi': 1e-5, 'psnr': 1e-5, 'ssim': 5e-6, 'fsim': 5e-6, 'gmsd': 5e-6, 'haarpsi': 5e-6,
    'nlpd': 5e-6, 'sr_sim': 5e-6, 'lpd': 5e-6,
}  # fmt: skip
MODEL_CLOSE = 1e-5
CHEAP = {'xla_backend_optimization_level': 0, 'xla_cpu_use_fusion_emitters': False}


class Tally:
    """Cases, violations and the worst figure of each law."""

    def __init__(self):
        self.laws: dict[str, dict] = {}

    def check(self, law: str, who: str, figure: float, bound: float, strict: float = 0.0) -> None:
        """Counts a case; beyond `strict` the bound explains it. NaN violates and is the worst."""
        new = {'cases': 0, 'violations': 0, 'explained': 0, 'worst': 0.0, 'of': '', 'violated': []}
        row = self.laws.setdefault(law, new)
        row['cases'] += 1
        row['explained'] += bool(strict and strict < figure <= bound)
        if not figure <= bound:
            row['violations'] += 1
            row['violated'] = sorted({*row['violated'], who})
            print(f'{law}: {who}: {figure:.3g} is beyond {bound:.3g}', file=sys.stderr)
        if not (figure <= row['worst'] or math.isnan(row['worst'])):
            row['worst'], row['of'] = float(f'{figure:.3g}'), who


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the larger of each pair, 0 where both are equal, NaN, Inf."""
    ours, theirs = (np.asarray(x, np.float64).reshape(-1) for x in (ours, theirs))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid='ignore'):
        gap = np.abs(ours - theirs) / np.maximum(np.abs(ours), np.abs(theirs))
    return float(np.where(same, 0.0, gap).max(initial=0.0))


def looser(name: str) -> float:
    """The bound between two programs of a metric."""
    return LOOSER[max((known for known in LOOSER if name.startswith(known)), key=len)]


def pairs_of(metric: fr_metrics.Metric, count: int, rng: np.random.Generator) -> tuple:
    """(references, distorted), uint8 [count, H, W, 3] of one random size."""
    least = max(metric.min_side, 24)
    height, width = (int(n) for n in rng.integers(least, least + 60, 2))
    references, distorted = [], []
    for _ in range(count):
        photo = io.decode(PHOTOS[rng.integers(len(PHOTOS))])
        top, left = (int(rng.integers(0, m - n)) for n, m in zip((height, width), photo.shape))  # noqa: B905
        image = photo[top : top + height, left : left + width]
        kind = rng.integers(3)
        if kind == 0:
            worse = image + rng.normal(0, rng.uniform(2, 30), image.shape)
        elif kind == 1:
            worse = (np.roll(image, 1, 1).astype(float) + image + np.roll(image, -1, 1)) / 3
        else:
            worse = image + rng.uniform(3, 40) * (np.arange(width) > width // 2)[:, None]
        references.append(image)
        distorted.append(np.clip(np.rint(worse), 0, 255).astype(np.uint8))
    return np.stack(references), np.stack(distorted)


def extremes(height: int, width: int, rng: np.random.Generator) -> tuple:
    """Pairs with no contrast, no difference or hardly any: uint8 [10, H, W, 3] each."""
    photo = io.decode(PHOTOS[rng.integers(len(PHOTOS))])[:height, :width]
    black, gray, white = (np.full_like(photo, value) for value in (0, rng.integers(1, 255), 255))
    pixel, speck = photo.copy(), gray.copy()
    at = int(rng.integers(height)), int(rng.integers(width))
    pixel[at] ^= 1
    speck[at] += 1
    pairs = [
        (black, black), (white, white), (gray, gray), (photo, photo), (black, white),
        (white, black), (gray, photo), (photo, gray), (photo, pixel), (gray, speck),
    ]  # fmt: skip
    return tuple(np.stack(images) for images in zip(*pairs, strict=True))


def laws_of_metric(name: str, count: int, rng: np.random.Generator, tally: Tally) -> None:
    """All laws but golden."""
    metric, parity = fr_metrics.metric(name), fr_metrics.metric(name, policy='parity')
    references, distorted = pairs_of(metric, count, rng)
    scores = np.asarray(metric(references, distorted))
    for policy in (metric, parity):
        for own in np.asarray(policy(references, references)):
            tally.check('identical', name, float(own != metric.ideal), 0)
    for i, pair in enumerate(zip(references, distorted, strict=True)):
        tally.check('batch', name, apart(metric(*pair), scores[i]), CLOSE)
        port = cases.PORTS[name](*pair)
        bound = max(1e-4, cases.tolerance(name, port)) if name.startswith('mdsi') else 1e-4
        tally.check('float64', name, abs(scores[i] - port) / max(1.0, abs(port)), bound)
    if metric.symmetric:
        swapped = np.asarray(metric(distorted, references))
        for ours, theirs in zip(scores, swapped, strict=True):
            tally.check('symmetric', name, apart(ours, theirs), CLOSE)
    floats = [x.astype(np.float32) / np.float32(255) for x in (references, distorted)]
    for ours, theirs in zip(scores, np.asarray(metric(*floats)), strict=True):
        tally.check('bytes', name, apart(ours, theirs), looser(name), CLOSE)
    slopes_and_nan(metric, references, distorted, scores, rng, tally)


def slopes_and_nan(metric, references, distorted, scores, rng, tally) -> None:
    """jit, extreme and nan: one program of value and gradient serves all three."""
    name = metric.name

    def value(reference, other):
        return metric(reference, other)[0]

    run = jax.jit(jax.vmap(jax.value_and_grad(value, (0, 1))), compiler_options=CHEAP)
    hard = extremes(*references.shape[1:3], rng)
    ours, theirs = (
        np.concatenate([x, y, x[:1]]).astype(np.float32) / np.float32(255)
        for x, y in zip((references, distorted), hard, strict=True)
    )
    theirs[-1, 5, 7, rng.integers(3)] = np.nan
    values, slopes = jax.device_get(run(ours, theirs))
    n, e = len(references), len(hard[0])
    for traced, score in zip(values[:n], scores, strict=True):
        tally.check('jit', name, apart(traced, score), looser(name), CLOSE)
    for i in range(n, n + e):
        finite = np.isfinite(values[i]) or values[i] == metric.ideal
        finite &= all(np.isfinite(slope[i]).all() for slope in slopes)
        tally.check('extreme', name, float(not finite), 0)
    for score in np.asarray(metric(*hard)):
        tally.check('extreme', name, float(not (np.isfinite(score) or score == metric.ideal)), 0)
    tally.check('nan', name, float(not np.isnan(values[-1])), 0)
    try:
        metric(ours[-1], theirs[-1])
        tally.check('nan', name, 1.0, 0)
    except ValueError as error:
        tally.check('nan', name, float('NaN' not in str(error)), 0)


def golden(names: list[str], tally: Tally) -> None:
    """The authors' own values of the pairs of the tests."""
    pairs = sorted({(row['ref_path'], row['dist_path']) for row in cases.ROWS})
    for pair in pairs:
        rows = [r for r in cases.ROWS if (r['ref_path'], r['dist_path']) == pair]
        want = {r['metric']: float(r['value']) for r in rows if r['metric'] in names}
        found = fr_metrics.metrics([*want], policy='parity')(*cases.golden_images(*pair))
        for name, value in want.items():
            own = float(found[name][0])
            if np.isfinite(value):
                allowed = cases.tolerance(name, value, flat='flat_' in pair[0])
                tally.check('golden', name, abs(own - value) / allowed, 1)
            else:
                same = own == value or (np.isnan(own) and np.isnan(value))
                tally.check('golden', name, float(not same), 0)


def laws_of_model(count: int, rng: np.random.Generator, tally: Tally) -> None:
    """What `score` of a model promises."""
    from iqa_jax import models
    from iqa_jax.training import saved_model

    spec = {'backbone': 'tiny', 'head': 'mlsp', 'normalise': 'layer'}
    module = models.build(**spec, outputs=1)
    start = jnp.zeros((1, 64, 64, 3))
    init = jax.jit(functools.partial(module.init, train=False))
    variables = jax.tree.map(np.asarray, init(jax.random.key(int(rng.integers(99))), start))
    model = saved_model.SavedModel(spec, ('quality',), variables, {})
    pictures = []
    for _ in range(count):
        photo = io.decode(PHOTOS[rng.integers(len(PHOTOS))])
        height, width = rng.integers(model.minimum_side, 200, 2)
        pictures.append(photo[:height, :width])
    together = model.score(pictures)
    spread = float(np.std(together))
    as_floats = model.score([x.astype(np.float32) / np.float32(255) for x in pictures])
    for i, picture in enumerate(pictures):
        for law, other in (
            ('model batch', model.score(picture)[0]),
            ('model bytes', as_floats[i]),
            ('model buckets', model.score(picture, bucket_step=1)[0]),
            ('model buckets', model.score(picture, bucket_step=2 * tiling.STEP)[0]),
        ):
            gap = abs(float(other - together[i])) / (max(spread, abs(float(together[i]))) or 1.0)
            tally.check(law, 'tiny', gap, MODEL_CLOSE, CLOSE)
        broken = picture.astype(np.float32) / 255
        broken[rng.integers(len(broken)), 3, 1] = np.nan
        try:
            model.score(broken)
            tally.check('model nan', 'tiny', 1.0, 0)
        except ValueError:
            tally.check('model nan', 'tiny', 0.0, 0)


def laws_of_distortions(names: list[str], rng: np.random.Generator, tally: Tally) -> None:
    """The same bytes for the same level and seed, alone and in a batch."""
    height, width = (int(n) for n in rng.integers(80, 140, 2))
    photos = [io.decode(PHOTOS[i])[:height, :width] for i in rng.choice(len(PHOTOS), 5)]
    images, levels = np.stack(photos), np.arange(1, 6)
    for name in names:
        number = distortions.get(name).number
        seeds = rng.integers(0, 2**62, 5)
        batch = distortions.distort_batch(images, number, levels, seeds)
        again = distortions.distort_batch(images[::-1], number, levels[::-1], seeds[::-1])[::-1]
        for i in range(5):
            alone = distortions.distort(images[i], name, int(levels[i]), int(seeds[i]))
            differ = int((alone != batch[i]).sum() + (again[i] != batch[i]).sum())
            tally.check('distortion', name, float(differ), 0)


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cases', type=int, default=6)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--metrics', nargs='+', default=list(fr_metrics.METRICS))
    parser.add_argument('--distortions', nargs='*', default=list(distortions.DISTORTIONS))
    parser.add_argument('--no-golden', action='store_true')
    options = parser.parse_args()
    tally = Tally()
    for name in options.metrics:  # some of them meet the cases that they meet among all
        rng = np.random.default_rng([options.seed, list(fr_metrics.METRICS).index(name)])
        laws_of_metric(name, options.cases, rng, tally)
    if not options.no_golden:
        golden(options.metrics, tally)
    laws_of_model(options.cases, np.random.default_rng([options.seed, 10_000]), tally)
    rng = np.random.default_rng([options.seed, 20_000])
    laws_of_distortions(options.distortions, rng, tally)
    violations = sum(row['violations'] for row in tally.laws.values())
    counts = {'cases': sum(row['cases'] for row in tally.laws.values()), 'violations': violations}
    counts |= {'metrics': len(options.metrics), 'gpu': None, 'laws': tally.laws}
    drill.finish('R8', options.seed, counts, ['violations'])


if __name__ == '__main__':
    main()
