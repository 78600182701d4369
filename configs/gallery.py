"""One photograph at every level of every distortion, as one picture to look at.

    python -m iqa_jax.main --config configs/gallery.py --workdir runs/gallery

`--config.photo=FILE` takes a photograph of yours (512x384 or larger); '' is a bundled one. `:smoke`
is a tiny form. 2 cores of an AMD EPYC: 12 s.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'gallery',
            'root': '',
            'photo': '',
            'size': (96, 128) if smoke else (384, 512),  # height, width; distorted at this size
            'crop': (48, 64) if smoke else (144, 192),  # the middle of it that is shown
            'types': ('gaussian_blur', 'white_noise') if smoke else (),  # (): all there are
            'levels': (1, 5) if smoke else (1, 2, 3, 4, 5),
            'seed': 0,
        }
    )
