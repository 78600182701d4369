"""Durations, learning rates and optimisers from a config."""

import jax
import optax

UNITS = ('steps', 'epochs', 'examples')
SCHEDULES = ('constant', 'cosine', 'steps')


def duration(config: dict, name: str, batch_size: int, steps_per_epoch: int) -> int:
    """Steps of `{name}_steps`, `{name}_epochs` or `{name}_examples`, whichever the config has.

    Raises:
      ValueError: none of them or more than one is set.
    """
    given = [unit for unit in UNITS if config.get(f'{name}_{unit}') is not None]
    if len(given) != 1:
        options = ', '.join(f'config.{name}_{unit}' for unit in UNITS)
        raise ValueError(f'Set exactly one of {options}; {len(given)} are set.')
    value = config[f'{name}_{given[0]}']
    factor = {'steps': 1.0, 'epochs': steps_per_epoch, 'examples': 1.0 / batch_size}[given[0]]
    return max(0, round(value * factor))


def learning_rate(config: dict, total: int, warmup: int) -> optax.Schedule:
    """Linear warm-up, then constant, cosine to zero, or `decay_factor` at each `decay_at` share."""
    kind, peak = config['schedule'], config['learning_rate']
    if kind not in SCHEDULES:
        raise ValueError(f'config.schedule={kind!r} is unknown; use one of {", ".join(SCHEDULES)}.')
    rest = max(1, total - warmup)
    if kind == 'cosine':
        after = optax.cosine_decay_schedule(peak, rest)
    elif kind == 'steps':
        at = {int(share * rest): config['decay_factor'] for share in config['decay_at']}
        after = optax.piecewise_constant_schedule(peak, at)
    else:
        after = optax.constant_schedule(peak)
    return optax.join_schedules([optax.linear_schedule(peak / 10, peak, warmup), after], [warmup])


def _decayed(params: dict) -> dict:
    """True for the model's weights: decay would pull what the loss learns, such as rates, to 0."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key != 'loss', params)


def optimizer(config: dict, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam, with frozen and slowed-down parts.

    `weight_decay` is coupled (added to the gradient before Adam, as torch's Adam does) unless
    `decoupled_weight_decay`; parameters of the loss have none. `freeze` lists path prefixes that do
    not train; `rate_scales` maps path prefixes to factors of the learning rate.
    """
    freeze = tuple(config['freeze'])
    scales = dict(config['rate_scales'])
    decay = optax.add_decayed_weights(config['weight_decay'], _decayed)
    parts = (
        [optax.scale_by_adam(), decay]
        if config['decoupled_weight_decay']
        else [decay, optax.scale_by_adam()]
    )

    def train(scale: float) -> optax.GradientTransformation:
        return optax.chain(*parts, optax.scale_by_learning_rate(lambda step: scale * rate(step)))

    transforms = {'train': train(1.0), 'frozen': optax.set_to_zero()}
    transforms |= {prefix: train(scale) for prefix, scale in scales.items()}

    def label(path: tuple, _: jax.Array) -> str:
        name = '/'.join(str(getattr(k, 'key', k)) for k in path)
        if any(name.startswith(prefix) for prefix in freeze):
            return 'frozen'
        return next((prefix for prefix in scales if name.startswith(prefix)), 'train')

    def labels(params: dict) -> dict:
        return jax.tree_util.tree_map_with_path(label, params)

    def frozen(params: dict) -> dict:
        return jax.tree.map(lambda name: name == 'frozen', labels(params))

    # Frozen gradients are zeroed before the norm is taken, so XLA need not compute them at all.
    zero = optax.masked(optax.set_to_zero(), frozen)
    clip = optax.clip_by_global_norm(config['clip_norm'])
    return optax.chain(zero, clip, optax.partition(transforms, labels))
