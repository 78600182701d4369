"""Distorted images, full-reference scores and equalised proxies from a folder of photographs.

    python -m iqa_jax.main --config configs/make_data.py --workdir runs/quickstart/data

`--config.photos=DIR` takes your own photographs (512x384 or larger); '' is the bundled ones.
`:smoke` is a tiny form. 2 cores of an AMD EPYC: 76 s for 1,596 images of 21 photographs
alone, 132 s while other work shared them.
"""

from ml_collections import ConfigDict

TYPES = (
    'gaussian_blur', 'lens_blur', 'motion_blur', 'saturation_hsv', 'saturation_lab', 'jpeg',
    'white_noise', 'color_noise', 'impulse_noise', 'brighten', 'darken', 'mean_shift', 'pixelate',
    'high_sharpen', 'contrast_change',
)  # fmt: skip

METRICS = (
    'ssim', 'ms_ssim', 'iw_ssim', 'mdsi', 'vsi', 'fsimc', 'gmsd', 'sff', 'sr_sim', 'haarpsi',
    'nlpd',
)  # fmt: skip


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'make_data',
            'root': '',
            'photos': '',
            'database': 'kadis_like',
            'size': (192, 256) if smoke else (384, 512),  # height, width
            'types': ('gaussian_blur', 'jpeg', 'white_noise') if smoke else TYPES,
            'levels': (1, 2, 3, 4, 5),
            'types_per_photo': 0,  # 0: every type on every photograph; KADIS-700k has 1
            'split_shares': (11, 2, 4, 4),  # train, val, test, pool, by photograph
            'metrics': ('ssim', 'ms_ssim', 'gmsd', 'mdsi') if smoke else METRICS,
            'equalisation': 'histogram',  # | 'minmax' | 'none'
            'knots': 256,
            'images': 'png',  # | 'webp' | 'array_record' | 'recipe' (made again when read)
            'photos_per_shard': 1,
            'shard': '',  # 'i/n': only every n-th shard from the i-th, nothing joined
            'estimate_images': 0,  # says how long so many images would take
            'tfds_runner': '',  # | 'local' | a Beam runner: also writes a tfds data set
            'beam_options': (),  # command-line options of that runner
            # Above 0 pictures are decoded in child processes, each file within the limits.
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
            'seed': 0,
        }
    )
