"""The table of distortions under KADID's numbers; adding one is a function and a row here."""

import dataclasses
from collections.abc import Callable

from iqa_jax.distortions import (
    blur,
    brightness,
    colour,
    compression,
    denoiser,
    jitter,
    noise,
    palette,
    quantization,
    sharpness_contrast,
    spatial,
)


@dataclasses.dataclass(frozen=True)
class Distortion:
    """One distortion type.

    `function(image, level, key)` is pure on float32 [H, W, 3] in [0, 1] with a traced level 1..5
    and may leave [0, 1], which the stretch after it mends; where `host` is true it is a codec
    `function(image, level)` on uint8 [H, W, 3] instead. `approximation` says in a sentence where
    the result is known to differ from the original's, or is ''. Sides under `min_side` pixels
    and images of more than `max_pixels` are refused.
    """

    number: int
    name: str
    levels: tuple
    function: Callable = dataclasses.field(repr=False)
    stochastic: bool = False
    host: bool = False
    approximation: str = ''
    min_side: int = 1
    max_pixels: int = 2**31

    def refusal(self, height: int, width: int) -> str:
        """Why an image of this size cannot be distorted, or ''."""
        size = f'it is {width}x{height} pixels, and {self.name}'
        if min(height, width) < self.min_side:
            return f'{size} needs {self.min_side} per side'
        if height * width > self.max_pixels:
            return f'{size} takes at most {self.max_pixels:,} pixels'
        return ''


_ROWS = (
    Distortion(1, 'gaussian_blur', blur.GAUSSIAN_SIGMAS, blur.gaussian_blur),
    Distortion(2, 'lens_blur', blur.LENS_RADII, blur.lens_blur),
    Distortion(3, 'motion_blur', blur.MOTION_LENGTHS, blur.motion_blur, stochastic=True),
    Distortion(4, 'color_diffusion', colour.DIFFUSION_AMOUNTS, colour.color_diffusion),
    Distortion(
        5,
        'color_shift',
        colour.SHIFT_AMOUNTS,
        colour.color_shift,
        stochastic=True,
        min_side=2,
    ),
    Distortion(
        6,
        'color_quantization',
        palette.COLOR_COUNTS,
        palette.color_quantization,
        approximation="Wu's palette and Floyd-Steinberg dithering stand in for MATLAB's own.",
        max_pixels=palette.MOST_PIXELS,
    ),
    Distortion(7, 'saturation_hsv', colour.HSV_FACTORS, colour.saturation_hsv),
    Distortion(8, 'saturation_lab', colour.LAB_FACTORS, colour.saturation_lab),
    Distortion(
        9,
        'jpeg2000',
        compression.JPEG2000_RATIOS,
        compression.jpeg2000,
        host=True,
        approximation='OpenJPEG at the same byte rate stands in for the original encoder.',
        min_side=32,  # of the wavelet's five scales
    ),
    Distortion(10, 'jpeg', compression.JPEG_QUALITIES, compression.jpeg, host=True),
    Distortion(11, 'white_noise', noise.WHITE_VARIANCES, noise.white_noise, stochastic=True),
    Distortion(12, 'color_noise', noise.COLOR_VARIANCES, noise.color_noise, stochastic=True),
    Distortion(13, 'impulse_noise', noise.IMPULSE_DENSITIES, noise.impulse_noise, stochastic=True),
    Distortion(
        14,
        'multiplicative_noise',
        noise.MULTIPLICATIVE_VARIANCES,
        noise.multiplicative_noise,
        stochastic=True,
        approximation='The variance is documented; that the noise is uniform is from memory.',
    ),
    Distortion(
        15,
        'denoise',
        denoiser.NOISE_VARIANCES,
        denoiser.denoise,
        stochastic=True,
        approximation='The denoiser is a smaller network with weights of our own; levels 3 to 5 '
        "exceed the noise it was trained on, as the original's, and it leaves less of it there.",
    ),
    Distortion(16, 'brighten', brightness.BRIGHTEN_AMOUNTS, brightness.brighten),
    Distortion(17, 'darken', brightness.DARKEN_AMOUNTS, brightness.darken),
    Distortion(18, 'mean_shift', brightness.MEAN_SHIFTS, brightness.mean_shift),
    Distortion(19, 'jitter', jitter.JITTER_AMOUNTS, jitter.jitter, stochastic=True),
    Distortion(
        20,
        'non_eccentricity_patch',
        spatial.PATCH_COUNTS,
        spatial.non_eccentricity_patch,
        stochastic=True,
        min_side=3 * spatial.PATCH_SIDE,
    ),
    Distortion(21, 'pixelate', spatial.PIXELATE_STRENGTHS, spatial.pixelate),
    Distortion(
        22,
        'quantization',
        quantization.THRESHOLD_COUNTS,
        quantization.quantization,
        approximation='Thresholds are the exact Otsu optimum, where the original searches for it.',
    ),
    Distortion(
        23,
        'color_block',
        spatial.BLOCK_COUNTS,
        spatial.color_block,
        stochastic=True,
        min_side=spatial.BLOCK_SIDE,
    ),
    Distortion(
        24, 'high_sharpen', sharpness_contrast.SHARPEN_AMOUNTS, sharpness_contrast.high_sharpen
    ),
    Distortion(
        25,
        'contrast_change',
        sharpness_contrast.CONTRAST_AMOUNTS,
        sharpness_contrast.contrast_change,
    ),
)

DISTORTIONS: dict[str, Distortion] = {row.name: row for row in _ROWS}


def get(name_or_number: str | int) -> Distortion:
    """The distortion of that name or KADID number; raises ValueError that lists those there are."""
    for row in _ROWS:
        if name_or_number in (row.name, row.number):
            return row
    listing = ', '.join(f'{row.number} {row.name}' for row in _ROWS)
    raise ValueError(f'distortion {name_or_number!r} is unknown; choose one of: {listing}.')
