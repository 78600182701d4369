"""VGG-16 (Simonyan & Zisserman, ICLR 2015): thirteen 3x3 convolutions in five stages."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import layers
from iqa_jax.models.preprocess import preprocess

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
PAD_1 = ((1, 1), (1, 1))


class VGG(nn.Module):
    """Backbone [N,H,W,3] float32 in [0,1] -> (last map [N,H/32,W/32,512], all convolutions' maps).

    Maps are named as in the paper, conv3_2 the second of stage 3, and taken after the ReLU; the
    last one is 'pool5'. `batch_norm` puts batch norm between each convolution and its ReLU.
    """

    stages: tuple[tuple[int, ...], ...] = STAGES
    batch_norm: bool = False
    preprocess: str = 'imagenet'
    momentum: float = 0.9
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    # An odd last row leaves a pooling without padding only where the picture ends there.
    exact_when_padded = False

    def taps(self) -> tuple[str, ...]:
        """Names of the maps that make the MLSP vector: every convolution's output."""
        return tuple(
            f'conv{stage}_{index}'
            for stage, widths in enumerate(self.stages, 1)
            for index in range(1, len(widths) + 1)
        )

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Normalise by `preprocess`, then run all stages; each ends with a 2x2 max pool."""
        out = {}
        x = preprocess(images, self.preprocess)
        for stage, widths in enumerate(self.stages, 1):
            for index, features in enumerate(widths, 1):
                name = f'{stage}_{index}'
                x = layers.Conv(
                    features, 3, 1, PAD_1, bias=True, dtype=self.dtype, name=f'conv{name}'
                )(x)
                if self.batch_norm:
                    norm = layers.BatchNorm(1e-5, self.momentum, self.axis_name, name=f'bn{name}')
                    x = norm(x, train)
                x = out[f'conv{name}'] = nn.relu(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        out[f'pool{len(self.stages)}'] = x
        return x, out
