"""The train step and the scoring step: pure functions of (state, batch, key)."""

from collections.abc import Callable, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from iqa_jax.runtime import parallel
from iqa_jax.training import losses, pruning, schedules

_STREAM = 0  # of what a step draws on all devices alike


@flax.struct.dataclass
class TrainState:
    """Everything that a restart needs, without a device axis.

    Attributes:
      step: int32 number of finished steps.
      params, batch_stats, opt_state: of the full model; params['loss'] are the loss's own, if any.
      mask: bool tree of the twin, {} without one.
      twin_batch_stats: the twin's own statistics, {} when they are shared.
      hard_sum, hard_count: [images] summed |full - twin| and how often, by image index.
      loss_state: what the loss carries from step to step.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    mask: Any
    twin_batch_stats: Any
    hard_sum: jax.Array
    hard_count: jax.Array
    loss_state: Any


def create_state(
    variables: dict,
    tx: optax.GradientTransformation,
    ohem: dict | None,
    images: int,
    loss_state: Any = (),
    key: jax.Array | None = None,
) -> TrainState:
    """A fresh state; the twin's first mask is of the initial weights, or of `key` if random."""
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    dual = ohem is not None and ohem['batch_stats'] == 'dual'
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        mask={} if ohem is None else pruning.make_mask(params, ohem, key, 0),
        twin_batch_stats=jax.tree.map(jnp.copy, batch_stats) if dual else {},
        hard_sum=jnp.zeros(images if ohem else 0, jnp.float32),
        hard_count=jnp.zeros(images if ohem else 0, jnp.int32),
        loss_state=loss_state,
    )


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [..., 3] to float32 in [0, 1]; float images are in [0, 1] already."""
    return images.astype(jnp.float32) / (255.0 if images.dtype == jnp.uint8 else 1.0)


def _make_forward(model: nn.Module) -> Callable:
    """Builds `forward(params, batch_stats, batch, key) -> (prediction, maps, new batch_stats)`.

    Its `image` names the entry of the batch that holds the images.
    """

    def forward(params, batch_stats, batch, key, image='image'):
        is_pooled = 'features' in batch
        (prediction, out), updated = model.apply(
            {'params': params, 'batch_stats': batch_stats},
            batch['features'] if is_pooled else to_float(batch[image]),
            train=True,
            rngs={'dropout': key},
            mutable=['batch_stats'],
            method='regress' if is_pooled else None,
        )
        return prediction, out, updated.get('batch_stats', {})

    return forward


def _make_objective(
    forward: Callable,
    loss_fn: losses.Loss,
    loss_options: dict,
    ohem: dict | None,
    freeze: Sequence[str],
) -> Callable:
    """Builds `objective(params, state, mask, batch, key) -> (loss, what the step needs beside)`."""

    def loss_of(prediction, out, batch, own, loss_state):
        def one(member):
            return loss_fn.apply(member, out, batch, loss_options, own, loss_state)

        if 'members' not in out:
            return one(prediction)
        # Each member has its own loss: that of their mean would let them err in turns.
        of_each = jax.vmap(one, in_axes=1)(out['members'])
        return jax.tree.map(lambda x: x.mean(0), of_each)

    def objective(params, state, mask, batch, key):
        params = schedules.stop_frozen(params, freeze)
        full_key, twin_key = jax.random.split(key)
        own = params.get('loss', {})
        prediction, out, stats = forward(params, state.batch_stats, batch, full_key)
        loss, loss_state = loss_of(prediction, out, batch, own, state.loss_state)
        aux = {
            'loss_full': loss,
            'batch_stats': stats,
            'twin_batch_stats': {},
            'loss_state': loss_state,
        }
        if ohem is None:
            return loss, aux
        dual = ohem['batch_stats'] == 'dual'
        twin_prediction, twin_out, twin_stats = forward(
            pruning.apply_mask(params, mask),
            state.twin_batch_stats if dual else stats,
            batch,
            twin_key,
            'image_twin' if 'image_twin' in batch else 'image',
        )
        aim = jax.lax.stop_gradient(prediction) if ohem['stop_gradient'] else prediction
        consistency = jnp.mean(jnp.square(aim - twin_prediction))
        aux |= {
            'consistency': consistency,
            'disagreement': jnp.mean(jnp.abs(prediction - twin_prediction), axis=-1),
            'batch_stats': stats if dual else twin_stats,
            'twin_batch_stats': twin_stats if dual else {},
        }
        # A weight of zero leaves a term out: nothing is computed for it.
        if ohem['consistency_weight']:
            loss = loss + ohem['consistency_weight'] * consistency
        if ohem['twin_weight']:
            aux['loss_twin'], _ = loss_of(twin_prediction, twin_out, batch, own, state.loss_state)
            loss = loss + ohem['twin_weight'] * aux['loss_twin']
        return loss, aux

    return objective


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    loss_fn: losses.Loss,
    loss_options: dict,
    ohem: dict | None,
    freeze: Sequence[str] = (),
) -> Callable:
    """Builds `step(state, batch, key) -> (state, metrics)`; batches are of images or of features.

    With `ohem`, the same step runs the twin (params * mask) on `image_twin` if the batch has it,
    and L = L_full + twin_weight * L_twin + consistency_weight * mean (f - f_twin)^2, the mean over
    images and outputs. Both branches take gradients from both losses, but with `stop_gradient` the
    full one takes none from the consistency; a masked weight gets none from the twin. Shared batch
    statistics are updated by the full branch and then by the twin, dual ones by one branch each.

    `freeze` lists path prefixes that get no gradient, so that no pass back to them is computed;
    their batch statistics move as ever.
    """

    objective = _make_objective(_make_forward(model), loss_fn, loss_options, ohem, freeze)

    def step(state: TrainState, batch: dict, key: jax.Array) -> tuple[TrainState, dict]:
        mask = state.mask
        if ohem is not None and ohem['refresh'] == 'step':
            mask = pruning.make_mask(state.params, ohem, key, state.step)
        key = jax.random.fold_in(jax.random.fold_in(key, state.step), _STREAM)
        (loss, aux), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, state, mask, batch, key
        )
        grads, loss = parallel.mean(grads), parallel.mean(loss)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        metrics = {'loss': loss, 'gradient_norm': optax.tree.norm(grads)}
        hard_sum, hard_count = state.hard_sum, state.hard_count
        if ohem is not None:
            index, gap = parallel.gather((batch['index'], aux['disagreement']))
            hard_sum = hard_sum.at[index].add(gap)
            hard_count = hard_count.at[index].add(1)
            shown = ('loss_full', 'loss_twin', 'consistency')
            metrics |= {name: parallel.mean(aux[name]) for name in shown if name in aux}
            metrics |= {'disagreement': jnp.mean(gap)}
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=parallel.mean(aux['batch_stats']),
            opt_state=opt_state,
            mask=mask,
            twin_batch_stats=parallel.mean(aux['twin_batch_stats']),
            hard_sum=hard_sum,
            hard_count=hard_count,
            loss_state=parallel.mean(aux['loss_state']),
        )
        return state, metrics

    return step


def make_score_step(model: nn.Module, twin: bool) -> Callable:
    """Builds `score(variables, batch) -> {'prediction': [B, K], ...}`, of images or of features.

    `variables` holds params and batch_stats and, for `twin`, twin_params and twin_batch_stats; the
    result then has `twin` [B, K] too. A model with uncertainty adds `std` [B, K]. `valid` of the
    batch, if there, is the part of each padded image that counts.
    """

    def score(variables: dict, batch: dict) -> dict:
        if 'features' in batch:
            inputs, options = batch['features'], {'method': 'regress'}
        else:
            inputs, options = to_float(batch['image']), {'valid': batch.get('valid')}
        full = {'params': variables['params'], 'batch_stats': variables['batch_stats']}
        prediction, out = model.apply(full, inputs, train=False, **options)
        result = {'prediction': prediction} | {k: out[k] for k in ('std',) if k in out}
        if twin:
            pruned = {
                'params': variables['twin_params'],
                'batch_stats': variables['twin_batch_stats'],
            }
            result['twin'] = model.apply(pruned, inputs, train=False, **options)[0]
        return result

    return score


def make_extract_step(model: nn.Module) -> Callable:
    """Builds `extract(variables, batch) -> {'features': [B, ...] float32}` for whole images."""

    def extract(variables: dict, batch: dict) -> dict:
        images = to_float(batch['image'])
        return {'features': model.apply(variables, images, train=False, method='extract')[0]}

    return extract
