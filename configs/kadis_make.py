"""KADIS from your own photographs: one distortion type each at five levels, eleven proxies.

    python -m iqa_jax.main --config configs/kadis_make.py --workdir runs/kadis

`--config.photos=DIR` takes your folder; '' is the bundled photographs, a small world to try it on.
`--config.types_per_photo=0` makes all types of every photograph, as KADID-10k has them.
`--config.shard=0/4` makes a quarter of the shards, on one of four machines that share the workdir;
without it the rest is made and all is joined.
`:smoke` is a tiny form.

2 cores of an AMD EPYC: 40 ms per image of 512x384, so 700,000 images take 8 hours, in 1.0 GiB.
"""

from ml_collections import ConfigDict

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
            'database': 'kadis',
            'size': (192, 256) if smoke else (384, 512),  # height, width; () keeps every size
            'types': ('jpeg', 'pixelate') if smoke else (),  # () is all of them
            'levels': (1, 2, 3, 4, 5),
            'types_per_photo': 1,  # 0: every type on every photograph
            'split_shares': (8, 1, 1, 0),  # train, val, test, pool, by photograph
            'metrics': ('gmsd',) if smoke else METRICS,
            'equalisation': 'histogram',  # | 'minmax' | 'none'
            'knots': 256,
            'images': 'recipe',  # made again when read | 'png' | 'webp' | 'array_record'
            'photos_per_shard': 50,
            'shard': '',  # 'i/n': only every n-th shard from the i-th, nothing joined
            'estimate_images': 700_000,  # says how long so many images would take
            'tfds_runner': '',  # | 'local' | a Beam runner: also writes a tfds data set
            'beam_options': (),  # command-line options of that runner
            # Above 0 pictures are decoded in child processes, each file within the limits.
            'decode': {'processes': 0, 'seconds': 20.0, 'memory_mib': 2048},
            'seed': 0,
        }
    )
