"""Durations, learning rates and optimisers from a config."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

UNITS = ('steps', 'epochs', 'examples')
SCHEDULES = ('constant', 'cosine', 'steps', 'epochs')


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


def learning_rate(
    config: dict, total: int, warmup: int, steps_per_epoch: int = 1
) -> optax.Schedule:
    """Linear warm-up, then constant, cosine to zero, or `decay_factor` at each of `decay_at`.

    `decay_at` are shares of the steps after the warm-up with `schedule='steps'`, and epochs of the
    run, from 0, with `'epochs'`.
    """
    kind, peak = config['schedule'], config['learning_rate']
    if kind not in SCHEDULES:
        raise ValueError(f'config.schedule={kind!r} is unknown; use one of {", ".join(SCHEDULES)}.')
    rest = max(1, total - warmup)
    if kind == 'cosine':
        after = optax.cosine_decay_schedule(peak, rest)
    elif kind in ('steps', 'epochs'):
        # The schedules that are joined count from the end of the warm-up.
        scale, start = (rest, 0) if kind == 'steps' else (steps_per_epoch, warmup)
        at = {int(place * scale) - start: config['decay_factor'] for place in config['decay_at']}
        if min(at, default=1) < 1:
            raise ValueError(
                f'config.decay_at={tuple(config["decay_at"])} begins before the warm-up ends; '
                'raise it or lower config.warmup_steps.'
            )
        after = optax.piecewise_constant_schedule(peak, at)
    else:
        after = optax.constant_schedule(peak)
    return optax.join_schedules([optax.linear_schedule(peak / 10, peak, warmup), after], [warmup])


def optimizer(config: dict, rate: optax.Schedule) -> optax.GradientTransformation:
    """Adam, with frozen and slowed-down parts.

    `weight_decay` is coupled (added to the gradient before Adam, as torch's Adam does) unless
    `decoupled_weight_decay`; the parameters of a loss never decay. `freeze` lists path prefixes
    that do not train; `rate_scales` maps path prefixes to factors of the learning rate.
    """
    scales = dict(config['rate_scales'])
    decay = optax.add_decayed_weights(config['weight_decay'], _decays)
    adam = _per_parameter(optax.scale_by_adam())
    parts = [adam, decay] if config['decoupled_weight_decay'] else [decay, adam]

    def train(scale: float) -> optax.GradientTransformation:
        return optax.chain(*parts, optax.scale_by_learning_rate(lambda step: scale * rate(step)))

    transforms = {'train': train(1.0), 'frozen': optax.set_to_zero()}
    transforms |= {prefix: train(scale) for prefix, scale in scales.items()}

    def label(path: tuple, _: jax.Array) -> str:
        name = _name(path)
        if name.startswith(tuple(config['freeze'])):
            return 'frozen'
        return next((prefix for prefix in scales if name.startswith(prefix)), 'train')

    def labels(params: dict) -> dict:
        return jax.tree_util.tree_map_with_path(label, params)

    def frozen(params: dict) -> dict:
        return jax.tree.map(lambda name: name == 'frozen', labels(params))

    # Frozen gradients are zeroed before the norm is taken.
    zero = optax.masked(optax.set_to_zero(), frozen)
    clip = optax.clip_by_global_norm(config['clip_norm'])
    return optax.chain(zero, clip, optax.partition(transforms, labels))


def stop_frozen(params: dict, freeze: Sequence[str]) -> dict:
    """The same parameters, of which those under a prefix of `freeze` let no gradient through."""

    def stop(path: tuple, leaf: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(leaf) if _name(path).startswith(tuple(freeze)) else leaf

    return jax.tree_util.tree_map_with_path(stop, params)


def adam_states(opt_state: optax.OptState) -> dict[str, dict[str, jax.Array]]:
    """Adam's state of every parameter that trains: {path: {'count', 'mu', 'nu'}}."""
    states = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=_is_adam)
    return {_name(path): state._asdict() for path, state in states if _is_adam(state)}


def continue_adam(opt_state: optax.OptState, saved: dict[str, dict]) -> optax.OptState:
    """A fresh optimiser state with the saved `adam_states` of the parameters that have one.

    Others start fresh with a count of their own, as in torch's Adam, and so does the schedule.

    Raises:
      ValueError: no parameter has a saved state of its shape.
    """
    taken = []

    def take(path: tuple, state: optax.OptState) -> optax.OptState:
        found = saved.get(_name(path)) if _is_adam(state) else None
        if found is None or found['mu'].shape != state.mu.shape:
            return state
        taken.append(path)
        return optax.ScaleByAdamState(**{k: jnp.asarray(v) for k, v in found.items()})

    continued = jax.tree_util.tree_map_with_path(take, opt_state, is_leaf=_is_adam)
    if not taken:
        raise ValueError(
            'config.init_optimizer=True, but no parameter that trains has a saved optimiser state '
            'of its shape; set it to False.'
        )
    return continued


def _per_parameter(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """The transformation for every array by itself, so that each has its own count of steps."""

    def init(params: dict) -> dict:
        return jax.tree.map(tx.init, params)

    def update(updates: dict, state: dict, params: dict | None = None) -> tuple[dict, dict]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        both = [tx.update(x, s) for x, s in zip(leaves, tree.flatten_up_to(state), strict=True)]
        return tree.unflatten([x for x, _ in both]), tree.unflatten([s for _, s in both])

    return optax.GradientTransformation(init, update)


def _is_adam(state: optax.OptState) -> bool:
    return isinstance(state, optax.ScaleByAdamState)


def _decays(params: dict) -> dict:
    """Whether weight decay applies: to all but what belongs to the loss."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not _name(path).startswith('loss/'), params
    )


def _name(path: tuple) -> str:
    """'backbone/stem/kernel' of a parameter's path, also of its path inside an optimiser state."""
    start = max((i + 1 for i, k in enumerate(path) if not hasattr(k, 'key')), default=0)
    return '/'.join(str(k.key) for k in path[start:])
