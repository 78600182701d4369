"""What a training starts with: its first state, and its step, compiled meanwhile."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

import jax
from absl import logging

from iqa_jax.data.pipeline import Pipeline
from iqa_jax.runtime import parallel
from iqa_jax.tasks import train_checks, train_features, train_setup
from iqa_jax.training import steps

HARD_BLOCK = 1024  # the per-image counters grow in blocks, so that equal steps compile once


def first_state(
    program: tuple, config: dict, pipeline: Pipeline, sources: list, key: jax.Array
) -> tuple[steps.TrainState, dict, dict]:
    """(state, what `train_features` has set aside, where the weights come from).

    Args:
      program: model, optimiser and `parallel.TrainStep`, which is compiled when this returns.
      config: of the training.
      pipeline: of its batches.
      sources: what it is trained on.
      key: raw PRNG key of the training.

    Raises:
      ValueError: `config.init_from` does not fit the model or the features.
    """
    model, tx, train_step = program
    images = -(-len(pipeline) // HARD_BLOCK) * HARD_BLOCK
    init = train_setup.initializer(model, config)
    create = functools.partial(
        steps.create_state,
        tx=tx,
        ohem=config['ohem'],
        images=images,
        loss_state=train_setup.loss_state(config),
        key=key,
    )
    fresh = init.eval_shape(jax.random.key(config['seed']))  # traced once for both threads
    batch = pipeline.shapes()

    def compile_step() -> None:
        if batch is not None:  # a head on features compiles in a moment
            train_step.compile(jax.eval_shape(create, fresh), batch, key)

    with _meanwhile(compile_step):
        variables, origin = train_setup.initial_variables(init, config, sources)
        variables, aside = train_features.set_aside(variables, sources, config)
        train_checks.check_prefixes(config, variables['params'])
        state = parallel.jit_once(create)(variables)  # one program, not one for every shape
        state = state.replace(opt_state=train_setup.initial_optimizer(state.opt_state, config))
    return state, aside, origin


@contextlib.contextmanager
def _meanwhile(compile_step: Callable[[], None]) -> Iterator[None]:
    """Runs it in a thread during the block; an error of the block does not wait for it.

    Python itself waits for the thread before it ends, as a compiler must not be left running then.
    """

    def work() -> None:
        try:
            compile_step()
        except Exception as error:  # the first step fails alike, where it is understood
            logging.debug('The step did not compile ahead.', exc_info=error)

    thread = threading.Thread(target=work, name='compile')
    thread.start()
    yield
    thread.join()
