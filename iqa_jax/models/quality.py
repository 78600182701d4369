"""The quality model: a backbone, pooling, normalisation and a regression head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import heads

MINIMUM_SIDE = 32


class QualityModel(nn.Module):
    """Predict `outputs` numbers per picture; `build` makes one from names.

    `pooling` is a row of `heads.POOLINGS`, `taps` are the feature maps that it reads beside the
    last one. `cells` turns pooled grids into vectors. With `frozen_statistics` the backbone
    normalises by its running statistics in training too, which suits small batches of a pretrained
    network.
    """

    backbone: nn.Module
    regressor: nn.Module
    normalise: nn.Module
    pooling: str = 'gap'
    taps: tuple[str, ...] = ()
    cells: nn.Module | None = None
    uncertainty: bool = False
    frozen_statistics: bool = False

    def setup(self):
        if self.uncertainty:
            self.spread = nn.Dense(self.regressor.outputs)

    def extract(
        self, images: jax.Array, train: bool, valid: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pictures [N,H,W,3] float32 in [0,1], sides >= 32 -> (pooled [N,F] float32, maps).

        Of the pooling grid5 it is [N,5,5,F].

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
        pooling = heads.POOLINGS[self.pooling]
        pooled = [pooling.tap(out[name], inside(out[name])) for name in self.taps]
        if pooling.last is not None:
            pooled.append(pooling.last(last, inside(last)))
        return jnp.concatenate(pooled, axis=-1), out

    def regress(self, features: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pooled [N,F] or [N,5,5,F] -> (prediction [N,outputs], {} or {'std': [N,outputs]})."""
        x = self.normalise(features, train)
        x = x if self.cells is None else self.cells(x)
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
