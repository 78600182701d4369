"""Denoising as a distortion (KADID type 15) and the blind grey network behind it.

The network is of DnCNN's kind (Zhang et al., 2017): 3x3 convolutions with batch normalisation and
ReLU that estimate the noise of a grey image of unknown noise level, which is then subtracted. The
original's weights cannot be had, so these are our own (tasks/train_denoiser.py). For speed it has
10 layers of 32 channels instead of 20 of 64, and they work on the four half-size phases of the
image instead of the image, as FFDNet's do (Zhang et al., 2018). So they see 42 pixels far, where
the original's 20 layers see 41, at a thirty-fifth of its multiplications.
"""

import functools
import hashlib
import importlib.resources
import io
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from iqa_jax.distortions import noise

NOISE_VARIANCES = (0.01, 0.03, 0.05, 0.1, 0.15)
LAYERS, CHANNELS = 10, 32
WEIGHTS_FILE = 'data/denoiser.npz'
# As code, so that other weights count as another program everywhere.
WEIGHTS_SHA256 = '86c2182c545786661108d170f926ab5a3129cccc2da92be9d89149338d61d78c'
EPSILON = 1e-5  # of batch normalisation

Weights = dict[str, np.ndarray]


def denoise(image: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
    """KADID type 15: Gaussian noise on float32 [H, W, 3] in [0, 1], clipped, then denoised.

    Planes R, G, B are denoised one by one; the result may leave [0, 1]. Raises ValueError if the
    weights are damaged. Source: KADID-10k's script, with our own network.
    """
    noisy = noise.add_gaussian(image, NOISE_VARIANCES, level, key)
    return remove_noise(shipped_weights(), noisy.transpose(2, 0, 1)).transpose(1, 2, 0)


def remove_noise(weights: Weights, planes: jax.Array) -> jax.Array:
    """Denoises float32 planes [N, H, W] in [0, 1] of any size; the result is not clipped."""
    height, width = planes.shape[1:]
    even = jnp.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode='edge')
    x = to_phases(even)
    last = len(weights) // 2 - 1
    for i in range(last + 1):
        kernel = jnp.asarray(weights[f'kernel_{i:02d}'], jnp.float32)
        x = lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            'SAME',
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            precision=lax.Precision.HIGHEST,  # rounded inputs would be noise of their own
        )
        x = x + jnp.asarray(weights[f'bias_{i:02d}'], jnp.float32)
        x = nn.relu(x) if i < last else x
    return planes - from_phases(x)[:, :height, :width]


class NoiseEstimator(nn.Module):
    """The network as it is trained: phases [N, h, w, 4] to the noise in them, the same shape.

    Attributes:
      layers: convolutions, at least 3; all but the first and the last have batch normalisation.
      channels: of the maps between them.
      axis_name: of the devices that share a batch's statistics, None for one device.
    """

    layers: int = LAYERS
    channels: int = CHANNELS
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        phases = x.shape[-1]
        init = nn.initializers.he_normal()
        for i in range(self.layers - 1):
            inner = i > 0  # batch normalisation brings the bias
            x = nn.Conv(
                self.channels, (3, 3), use_bias=not inner, kernel_init=init, name=f'conv_{i:02d}'
            )(x)
            if inner:
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.99,
                    epsilon=EPSILON,
                    axis_name=self.axis_name,
                    name=f'norm_{i:02d}',
                )(x)
            x = nn.relu(x)
        # Begins near zero, as the noise is: from the usual scale it takes hundreds of steps back.
        small = nn.initializers.variance_scaling(1e-4, 'fan_in', 'normal')
        return nn.Conv(phases, (3, 3), kernel_init=small, name=f'conv_{self.layers - 1:02d}')(x)


def to_phases(planes: jax.Array) -> jax.Array:
    """[N, 2h, 2w] to [N, h, w, 4], the pixels of each 2x2 block as channels."""
    n, height, width = planes.shape
    blocks = planes.reshape(n, height // 2, 2, width // 2, 2)
    return blocks.transpose(0, 1, 3, 2, 4).reshape(n, height // 2, width // 2, 4)


def from_phases(phases: jax.Array) -> jax.Array:
    """The inverse of `to_phases`."""
    n, height, width, _ = phases.shape
    blocks = phases.reshape(n, height, width, 2, 2).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(n, 2 * height, 2 * width)


def fold(params: dict, batch_stats: dict) -> Weights:
    """A trained network as kernels HWIO and biases by layer, batch normalisation folded in."""
    weights = {}
    for i in range(len(params) - len(batch_stats)):
        conv = params[f'conv_{i:02d}']
        kernel, bias = np.asarray(conv['kernel']), np.asarray(conv.get('bias', 0))
        if (name := f'norm_{i:02d}') in params:
            statistics = batch_stats[name]
            gain = params[name]['scale'] / np.sqrt(statistics['var'] + EPSILON)
            kernel, bias = kernel * gain, params[name]['bias'] - gain * statistics['mean']
        weights[f'kernel_{i:02d}'], weights[f'bias_{i:02d}'] = kernel, np.asarray(bias)
    return weights


def encode_weights(weights: Weights) -> bytes:
    """The bytes of a .npz file of float16 arrays; equal weights give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.float16(x) for name, x in weights.items()})
    return buffer.getvalue()


def decode_weights(data: bytes) -> Weights:
    """Float32 weights from the bytes of `encode_weights`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: np.float32(arrays[name]) for name in arrays.files}


def read_weights(path: Path) -> Weights:
    """The weights of a file; raises ValueError unless its SHA-256 is `WEIGHTS_SHA256`."""
    data = path.read_bytes() if path.is_file() else b''
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256:
        state = f'is damaged (SHA-256 {digest})' if data else 'is missing or empty'
        raise ValueError(f'{path}, the weights of distortion 15, {state}; install iqa_jax again.')
    return decode_weights(data)


@functools.cache
def shipped_weights() -> Weights:
    """The weights of this package, read once; NumPy arrays, as traced ones could not be kept."""
    return read_weights(Path(str(importlib.resources.files('iqa_jax.distortions'))) / WEIGHTS_FILE)
