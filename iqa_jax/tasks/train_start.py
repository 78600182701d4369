"""What a training starts with: its first state, and its step, compiled meanwhile."""

import functools

import jax

from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import parallel
from iqa_jax.tasks import train_checks, train_features, train_setup
from iqa_jax.training import steps

HARD_BLOCK = 1024  # the per-image counters grow in blocks, so that equal steps compile once


def first_state(
    program: tuple, config: dict, pipeline: Pipeline, sources: list, key: jax.Array, ahead: bool
) -> tuple[steps.TrainState, dict, dict]:
    """(state, what `train_features` has set aside, where the weights come from).

    Args:
      program: model, optimiser and `parallel.TrainStep`.
      config: of the training.
      pipeline: of its batches.
      sources: what it is trained on.
      key: raw PRNG key of the training.
      ahead: whether the step begins to compile here, as it will be called; a head that is trained
        on features compiles in a moment and does not.

    Raises:
      ValueError: `config.init_from` does not fit the model or the features.
    """
    model, tx, train_step = program
    init = train_setup.initializer(model, config)
    create = functools.partial(
        steps.create_state,
        tx=tx,
        ohem=config['ohem'],
        images=-(-len(pipeline) // HARD_BLOCK) * HARD_BLOCK,
        loss_state=train_setup.loss_state(config),
        key=key,
    )
    fresh = init.eval_shape(jax.random.key(config['seed']))  # one trace serves both threads
    batch = pipeline.shapes()
    if batch is not None:
        train_checks.check_prefixes(config, fresh['params'])  # before anything compiles

    def init_meanwhile(key_of_weights: jax.Array) -> dict:
        if ahead and batch is not None:
            train_step.begin(lambda: (jax.eval_shape(create, fresh), batch, key))
        return init(key_of_weights)

    variables, origin = train_setup.initial_variables(init_meanwhile, config, sources)
    variables, aside = train_features.set_aside(variables, sources, config)
    train_checks.check_prefixes(config, variables['params'])
    state = parallel.jit_once(create)(variables)  # one program, not one for every shape
    state = state.replace(opt_state=train_setup.initial_optimizer(state.opt_state, config))
    return state, aside, origin
