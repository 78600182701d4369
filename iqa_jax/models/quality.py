"""The quality model: a backbone, pooling, normalisation and a regression head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import heads

MINIMUM_SIDE = 32


class QualityModel(nn.Module):
    """Predict `outputs` numbers per picture; `build` makes one from names.

    `taps` are the feature maps whose spatial mean and standard deviation enter the pooled vector;
    without taps it is the global average of the last map. With `frozen_statistics` the backbone
    normalises by its running statistics in training too, which suits small batches of a pretrained
    network.
    """

    backbone: nn.Module
    regressor: nn.Module
    normalise: nn.Module
    taps: tuple[str, ...] = ()
    uncertainty: bool = False
    frozen_statistics: bool = False

    def setup(self):
        if self.uncertainty:
            self.spread = nn.Dense(self.regressor.outputs)

    def extract(
        self, images: jax.Array, train: bool, valid: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pictures [N,H,W,3] float32 in [0,1], sides >= 32 -> (pooled [N,F] float32, maps).

        valid: int32 [N,2], height and width of the part of each picture that is pooled, from its
        top left corner; the rest is padding. None pools everything.
        """
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < MINIMUM_SIDE:
            raise ValueError(
                f'a model reads pictures [N,H,W,3] with sides of at least {MINIMUM_SIDE}, '
                f'not {images.shape}'
            )

        def inside(x: jax.Array) -> jax.Array | None:
            return heads.valid_part(x, valid, images.shape[1:3])

        last, out = self.backbone(images, train and not self.frozen_statistics)
        pooled = [heads.mean_and_std(out[name], inside(out[name])) for name in self.taps]
        average = heads.global_average(last, inside(last))
        return jnp.concatenate([*pooled, average], axis=-1) if pooled else average, out

    def regress(self, features: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pooled vectors [N,F] -> (prediction [N,outputs] float32, {} or {'std': [N,outputs]})."""
        x = self.normalise(features, train)
        prediction = self.regressor(x, train)
        if not self.uncertainty:
            return prediction, {}
        return prediction, {'std': nn.softplus(self.spread(x)) + 1e-4}

    def __call__(
        self, images: jax.Array, train: bool, valid: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pictures -> (prediction [N,outputs], every block's maps, 'features', perhaps 'std')."""
        features, out = self.extract(images, train, valid)
        prediction, spread = self.regress(features, train)
        return prediction, {**out, 'features': features, **spread}
