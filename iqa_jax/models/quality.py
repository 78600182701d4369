"""The quality model: a backbone, pooling, normalisation and a regression head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from iqa_jax.models import heads, padding

MINIMUM_SIDE = 32


def minimum_side(backbone: nn.Module) -> int:
    """Smallest side in pixels that a backbone reads: its own `minimum_side` if it states one."""
    return getattr(backbone, 'minimum_side', MINIMUM_SIDE)


def exact_when_padded(backbone: nn.Module) -> bool:
    """Whether padding leaves features as they are; a backbone for which it does not says so."""
    return getattr(backbone, 'exact_when_padded', True)


class QualityModel(nn.Module):
    """Predict `outputs` numbers per picture; `build` makes one from names.

    `pooling` is a row of `heads.POOLINGS`, `taps` are the feature maps that it reads beside the
    last one, of which a backbone may have its own `pool`. `cells` turns pooled grids into vectors.
    `uncertainty` True adds a layer whose softplus is the standard deviation; with 'exp' the
    regressor has twice the outputs, the predictions and then the logarithms of their variances.
    With `frozen_statistics` the backbone normalises by its running statistics in training too,
    which suits small batches of a pretrained network. The predictions are means over `members`, of
    which the regressor has `outputs` each, member by member.
    """

    backbone: nn.Module
    regressor: nn.Module
    normalise: nn.Module
    pooling: str = 'gap'
    taps: tuple[str, ...] = ()
    cells: nn.Module | None = None
    uncertainty: bool | str = False
    frozen_statistics: bool = False
    members: int = 1

    def setup(self):
        if self.uncertainty is True:
            self.spread = nn.Dense(self.regressor.outputs // self.members)

    def extract(
        self, images: jax.Array, train: bool, valid: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pictures [N,H,W,3] float32 in [0,1] -> (pooled [N,F] float32, maps).

        Of the pooling grid5 it is [N,5,5,F].

        valid: int32 [N,2], height and width of the part of each picture that is pooled, from its
        top left corner; the rest is padding. None pools everything. ValueError on sides below
        `minimum_side(backbone)`.
        """
        side = minimum_side(self.backbone)
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < side:
            raise ValueError(
                f'a model with the backbone {type(self.backbone).__name__} reads pictures '
                f'[N,H,W,3] with sides of at least {side}, not {images.shape}'
            )

        def inside(x: jax.Array) -> jax.Array | None:
            return heads.valid_part(x, valid, images.shape[1:3])

        with padding.unseen(valid, images.shape[1:3]):
            last, out = self.backbone(images, train and not self.frozen_statistics)
        pooling = heads.POOLINGS[self.pooling]
        pooled = [pooling.tap(out[name], inside(out[name])) for name in self.taps]
        if pooling.last is not None:
            pool = getattr(self.backbone, 'pool', pooling.last)
            pooled.append(pool(last, inside(last)))
        return jnp.concatenate(pooled, axis=-1), out

    def regress(self, features: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pooled [N,F] or [N,5,5,F] -> (prediction [N,outputs], what there is of 'std' [N,outputs]
        and 'members' [N,members,outputs]).
        """
        x = self.normalise(features, train)
        x = x if self.cells is None else self.cells(x)
        prediction, out = self.regressor(x, train), {}
        if self.members > 1:
            out = {'members': prediction.reshape(len(prediction), self.members, -1)}
            prediction = out['members'].mean(1)
        if not self.uncertainty:
            return prediction, out
        if self.uncertainty == 'exp':
            prediction, log_variance = jnp.split(prediction, 2, axis=-1)
            return prediction, {'std': jnp.exp(log_variance / 2)}
        return prediction, {**out, 'std': nn.softplus(self.spread(x)) + 1e-4}

    def __call__(
        self, images: jax.Array, train: bool, valid: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Pictures -> (prediction [N,outputs], every block's maps, 'features', perhaps 'std')."""
        features, out = self.extract(images, train, valid)
        prediction, spread = self.regress(features, train)
        return prediction, {**out, 'features': features, **spread}
