"""The denoiser of distortion 15: a blind grey network of DnCNN's kind.

    python -m iqa_jax.main --config configs/train_denoiser.py --workdir runs/denoiser

`--config.photos=DIR` takes your own photographs (512x384 or larger); '' is the bundled ones.
`:smoke` is a tiny form. Its files are those that the package ships (iqa_jax/distortions/data).

PSNR in dB on the 3 photographs held out, at sigma 15, 25 and 50: denoised 31.80, 29.47 and 26.49;
noisy 25.08, 20.89 and 15.43; by the best Gaussian filter 29.44, 27.21 and 24.75. One core of an
AMD EPYC, shared with other work: 31 min.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    smoke = arg == 'smoke'
    return ConfigDict(
        {
            'task': 'train_denoiser',
            'root': '',
            # --- data ---
            'photos': '',
            'size': (48, 64) if smoke else (384, 512),  # height, width
            'held_out': 3,  # photographs that are only measured on
            'patch': 16 if smoke else 40,  # even
            'batch_size': 4 if smoke else 16,
            'sigma_max': 55,  # of 255; every patch draws its own sigma from 0 to this
            # --- network ---
            'layers': 3 if smoke else 10,
            'channels': 8 if smoke else 32,
            # --- optimiser ---
            'total_steps': 4 if smoke else 20000,
            'warmup_steps': 1 if smoke else 100,
            'schedule': 'cosine',
            'learning_rate': 4e-3,
            'decay_at': (),
            'decay_factor': 1.0,
            'clip_norm': 1.0,
            # --- housekeeping ---
            'eval_sigmas': (25,) if smoke else (15, 25, 50),  # of 255
            'eval_steps': 2 if smoke else 2000,
            'checkpoint_steps': 2 if smoke else 500,
            'log_steps': 2 if smoke else 100,
            'seed': 0,
        }
    )
