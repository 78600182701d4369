"""What the tests of the full-reference metrics share: golden rows, float64 ports, hard pairs."""

import csv
import functools
import pathlib

import float64_fsim
import float64_haarpsi
import float64_iw_ssim
import float64_nlpd
import float64_sff
import float64_sr_sim
import float64_ssim
import float64_vif
import float64_vsi
import numpy as np

from iqa_jax import fr_metrics
from iqa_jax.images import io

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'fr'
ROWS = list(csv.DictReader((GOLDEN / 'golden.csv').open()))
part = functools.partial  # short, for the table below

# Functions float64 of two [H,W,3] in 0..255; those with a gray image also take rounded=False.
PORTS = {
    'psnr': float64_haarpsi.psnr,
    'psnr_gray': float64_haarpsi.psnr_gray,
    'psnr_floatgray': part(float64_haarpsi.psnr_gray, rounded=False),
    'ssim': float64_ssim.ssim,
    'ssim_fullres': part(float64_ssim.ssim, downsample=False),
    'ssim_floatgray': part(float64_ssim.ssim, rounded=False),
    'ms_ssim': float64_ssim.ms_ssim,
    'ms_ssim_floatgray': part(float64_ssim.ms_ssim, rounded=False),
    'ms_ssim_wtdsum': part(float64_ssim.ms_ssim, product=False),
    'iw_ssim': float64_iw_ssim.iw_ssim,
    'iw_ssim_floatgray': part(float64_iw_ssim.iw_ssim, rounded=False),
    'mdsi': float64_ssim.mdsi,
    'mdsi_mult': part(float64_ssim.mdsi, weighted_sum=False),
    'vsi': float64_vsi.vsi,
    'fsim': float64_fsim.fsim,
    'fsimc': part(float64_fsim.fsim, chromatic=True),
    'gmsd': float64_ssim.gmsd,
    'gmsd_floatgray': part(float64_ssim.gmsd, rounded=False),
    'sff': float64_sff.sff,
    'sr_sim': float64_sr_sim.sr_sim,
    'haarpsi': float64_haarpsi.haarpsi,
    'haarpsi_gray': float64_haarpsi.haarpsi_gray,
    'haarpsi_nosub': part(float64_haarpsi.haarpsi, subsample=False),
    'nlpd': float64_nlpd.nlpd,
    'nlpd_floatgray': part(float64_nlpd.nlpd, rounded=False),
    'lpd': part(float64_nlpd.nlpd, normalize=False),
    'vifp': float64_vif.vifp,
    'vifp_floatgray': part(float64_vif.vifp, rounded=False),
    'vif': float64_vif.vif,
    'vif_floatgray': part(float64_vif.vif, rounded=False),
}
NAMES = list(fr_metrics.METRICS)
# One of each code path that has a slope of its own; the other rows are their rounding variants.
FAMILIES = (
    'psnr', 'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'mdsi_mult', 'vsi', 'fsimc', 'gmsd', 'sff',
    'sr_sim', 'haarpsi', 'nlpd', 'vifp', 'vif',
)  # fmt: skip
# Rounding variants that take long to compile: some tests leave them out.
SLOW_VARIANTS = {
    'iw_ssim_floatgray', 'ms_ssim_floatgray', 'ms_ssim_wtdsum', 'vif_floatgray', 'vifp_floatgray',
}  # fmt: skip
# What the specification allows in float32, and for pairs of flat images.
TOLERANCES = {
    'psnr': (1e-4, 1e-4),
    'ssim': (3e-5, 2e-4),
    'ms_ssim': (3e-5, 2e-4),
    'iw_ssim': (1e-4, 1e-4),
    'vsi': (2e-5, 5e-5),
    'fsim': (5e-6, 5e-6),
    'gmsd': (2e-6, 2e-6),
    'sff': (1e-4, 1e-3),
    'sr_sim': (5e-6, 5e-6),
    'haarpsi': (2e-5, 2e-5),
    'nlpd': (2e-6, 2e-5),
    'lpd': (2e-6, 2e-5),
    'vifp': (2e-4, 2e-4),
    'vif': (1e-4, 1e-4),
}


def tolerance(name, value, flat=False):
    """Absolute error allowed in float32."""
    if name.startswith('mdsi'):
        # The outer fourth root magnifies errors near 0.
        return 3e-5 if value > 0.1 else 2e-3 if value > 0.02 else 2e-2
    family = max((f for f in TOLERANCES if name.startswith(f)), key=len)
    return TOLERANCES[family][flat]


def ideal(name):
    metric = fr_metrics.metric(name)
    return np.inf if name.startswith('psnr') else float(metric.higher_is_better)


@functools.cache
def golden_images(*paths):
    return tuple(io.decode(GOLDEN / path) for path in paths)


def photo(height, width):
    """A photograph; drawn pictures of smooth waves have singular covariances."""
    image = golden_images('ref/chelsea_255x341.png')[0]
    margins = [(0, max(0, n - m)) for n, m in zip((height, width), image.shape[:2], strict=True)]
    return np.pad(image, [*margins, (0, 0)], 'symmetric')[-height:, -width:]


def noisy(image, amount, seed=1):
    noise = np.random.default_rng(seed).normal(0, amount, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def size(name):
    """Small sides the metric takes: powers of two, or float64 FFTs of flat images are not 0."""
    sides = {41: (64, 64), 72: (129, 150), 176: (177, 190)}
    return sides.get(fr_metrics.metric(name).min_side, (32, 64))


@functools.cache
def hard_pairs(height, width):
    """{name: (reference, distorted)} uint8 that divide by zero or hardly differ, and plain ones."""
    image = photo(height, width)
    black, gray, lighter, white = (np.full_like(image, v) for v in (0, 100, 101, 255))
    coloured = np.full_like(image, 0) + np.array([10, 90, 200], np.uint8)
    one_pixel, speck = image.copy(), gray.copy()
    one_pixel[7, 9] ^= 1
    speck[20, 21] += 1
    half_black, half_white = image.copy(), image.copy()
    half_black[:, : width // 2] = 0
    half_white[: height // 2] = 255
    faint = np.round(128 + 0.03 * (image - 128.0)).astype(np.uint8)  # hardly any contrast
    stripes = np.repeat(image[:, :1], width, 1)  # leaves covariances singular
    whole = np.repeat(image[..., 1:2], 3, -1)  # gray as it is, so that rounding changes nothing
    return {
        'identical': (image, image),
        'gray_itself': (gray, gray),
        'black_itself': (black, black),
        'white_itself': (white, white),
        'coloured_itself': (coloured, coloured),
        'black_white': (black, white),
        'white_black': (white, black),
        'flat_one_level': (gray, lighter),
        'flat_noisy': (gray, noisy(gray, 4)),
        'noisy_flat': (noisy(gray, 4), gray),
        'coloured_noisy': (coloured, noisy(coloured, 4)),
        'photo_black': (image, black),
        'black_photo': (black, image),
        'photo_flat': (image, gray),
        'coloured_photo': (coloured, image),
        'half_black': (image, half_black),
        'from_half_black': (half_black, image),
        'half_white': (image, half_white),
        'from_half_white': (half_white, image),
        'faint': (faint, image),
        'speck': (speck, noisy(speck, 4)),
        'stripes': (stripes, noisy(stripes, 9)),
        'one_pixel': (image, one_pixel),
        'one_level': (image, np.minimum(image, 254) + np.uint8(1)),
        'inverted': (image, 255 - image),
        'noise_4': (image, noisy(image, 4)),
        'noise_12': (image, noisy(image, 12)),
        'swapped': (noisy(image, 12), image),
        'noise_40': (image, noisy(image, 40)),
        'whole_gray': (whole, noisy(whole[..., :1], 12).repeat(3, -1)),
    }


def batch(pairs):
    """Two arrays [N,H,W,3] of a dict of pairs."""
    return tuple(np.stack(images) for images in zip(*pairs.values(), strict=True))
