"""Where the outputs of a fresh model start."""

import jax
import jax.numpy as jnp
import numpy as np

FIRST_SPREAD = 0.1  # of the outputs, in spreads of the targets


def at_targets(variables: dict, targets: np.ndarray) -> dict:
    """Variables of a fresh model whose outputs lie around the targets.

    Opinions around 60 are hundreds of Adam's steps away from outputs around 0. At the full spread
    what the random layers say, and dropout does to it, would outweigh what there is to learn.

    Args:
      variables: of a model with one output, or sub-head, per target, or per target and member.
      targets: [N, K], of which the mean and a tenth of the standard deviation are taken.
    """
    regressor = dict(variables['params']['regressor'])
    mean = jnp.asarray(targets.mean(axis=0, dtype=np.float64), jnp.float32)
    spread = jnp.asarray(FIRST_SPREAD * targets.std(axis=0, dtype=np.float64), jnp.float32)
    if 'output' in regressor:
        output = regressor['output']
        regressor['output'] = {'kernel': output['kernel'] * spread, 'bias': output['bias'] + mean}
    else:
        last = sum(name.startswith('kernel_') for name in regressor) - 1
        members = len(regressor[f'bias_{last}']) // len(mean)
        regressor[f'kernel_{last}'] *= jnp.tile(spread, members)[:, None, None]
        regressor[f'bias_{last}'] += jnp.tile(mean, members)[:, None]
    params = variables['params'] | {'regressor': jax.tree.map(jnp.asarray, regressor)}
    return variables | {'params': params}
