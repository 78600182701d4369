"""The only file that knows pmap and devices; what it tells of processes is in `processes`.

State is a plain pytree without a device axis: it is replicated over the devices of the process by
`place`, enters the mapped step with in_axes=None and leaves it with out_axes=None, donated. What
leaves must therefore be equal on all devices: take `mean` of gradients, metrics and statistics.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from iqa_jax.runtime.processes import (  # noqa: F401  other rooms know this file only
    agree,
    alone,
    barrier,
    blame,
    check_alike,
    check_same,
    end,
    exchange,
    from_main,
    gather_bytes,
    initialize,
    is_main,
    process_count,
    process_index,
)

AXIS = 'batch'  # also the mesh axis of `place`: another name there would recompile at step 2
_largest: list[dict[tuple, int]] = []  # of every `eval_step`


def device_count() -> int:
    """Number of devices of all processes; config.batch_size is a multiple of it."""
    return jax.device_count()


def local_device_count() -> int:
    """Number of devices of this process, among which it divides what it scores."""
    return jax.local_device_count()


def check_batch_size(batch_size: int) -> None:
    """Raises a ValueError when the global batch cannot be divided among all devices."""
    devices = jax.device_count()
    if batch_size < 1 or batch_size % devices:
        near = max(devices, batch_size // devices * devices)
        raise ValueError(
            f'config.batch_size={batch_size} does not divide among {devices} devices; '
            f'use a multiple of {devices}, such as {near}.'
        )


def local_rows(batch_size: int) -> slice:
    """The rows of a global batch that this process loads and passes to its train step."""
    check_batch_size(batch_size)
    share, k = batch_size // process_count(), process_index()
    return slice(k * share, (k + 1) * share)


def place(tree: Any) -> Any:
    """Copies a tree to every device of this process; what is there already is not copied."""
    return jax.device_put(tree, _replicated())


def place_batch(batch: Any) -> Any:
    """Copies a process's share [b, ...] to its devices, as [local devices, b / local devices, ...].

    What `TrainStep` would do itself; done earlier and in another thread, the copy costs a step
    nothing. What is there already is not copied. Raises a ValueError if b does not divide.
    """
    if _is_placed(batch, _divided()):
        return batch
    return jax.device_put(_split(batch, _batch_length(batch)), _divided())


def fetch(tree: Any) -> Any:
    """The tree as NumPy arrays in host memory."""
    return jax.device_get(tree)


def send(tree: Any) -> Any:
    """NumPy arrays as arrays of the default device; jnp.asarray would compile for each shape."""
    return jax.device_put(tree)


def mean(tree: Any) -> Any:
    """Mean over all devices of all processes inside a mapped function, identity outside one."""
    return jax.lax.pmean(tree, AXIS) if _is_mapped() else tree


def gather(tree: Any) -> Any:
    """Arrays [b, ...] of all devices as [devices * b, ...], in batch order; identity outside."""
    return jax.lax.all_gather(tree, AXIS, axis=0, tiled=True) if _is_mapped() else tree


def draw(sample: Callable[[tuple[int, ...]], jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Random numbers `sample(shape)` for the rows [b, ...] of this device.

    Inside a mapped function every device draws for the whole global batch and keeps its own rows: a
    row's numbers are the same on any number of devices. The key in `sample` must be the same on all
    of them. Outside one it is `sample(shape)`.
    """
    devices = jax.lax.psum(1, AXIS) if _is_mapped() else 1
    if devices == 1:
        return sample(shape)
    rows = shape[0]
    drawn = sample((devices * rows, *shape[1:]))
    return jax.lax.dynamic_slice_in_dim(drawn, jax.lax.axis_index(AXIS) * rows, rows)


def reproducible_jit(fn: Callable) -> Callable:
    """`jax.jit` whose result has the same bits on every run, for programs with FFTs.

    XLA's CPU backend deals the lines of an FFT to whatever threads are free, and a line's rounding
    depends on its neighbours (24 of 100 runs differed in the last bits, jax 0.10.2); one thread is
    also faster there at the sizes of pictures.
    """
    single = {'xla_cpu_multi_thread_eigen': False}
    return jax.jit(fn, compiler_options=single if jax.default_backend() == 'cpu' else None)


def jit_once(fn: Callable) -> Callable:
    """`jax.jit` of a program that runs once, as for first weights: little of the compiler's effort.

    XLA's CPU backend needs 8 s instead of 13 s for the weights of EfficientNet-Lite0
    (processor time, jax 0.10.2).
    """
    little = {'xla_backend_optimization_level': 1}
    return jax.jit(fn, compiler_options=little if jax.default_backend() == 'cpu' else None)


class TrainStep:
    """Maps `fn(state, batch, key) -> (state, metrics)` over all devices of all processes.

    Called with (state, batch, key): state as `place` returns it, donated, so that it and the device
    arrays it was placed from are invalid afterwards; batch a tree of host arrays [b, ...], the rows
    of this process, or what `place_batch` made of it; key one raw PRNG key, the same everywhere. It
    raises a ValueError if b does not divide among the devices.
    """

    def __init__(self, fn: Callable):
        self._mapped = jax.pmap(
            fn, axis_name=AXIS, in_axes=(None, 0, None), out_axes=(None, None), donate_argnums=0
        )
        self._compiling: threading.Thread | None = None

    def __call__(self, state: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
        if self._compiling is not None:
            self._compiling.join()
            self._compiling = None
        batch = place_batch(batch)
        if not _is_placed(state, _replicated()):
            state = place(state)
        state, metrics = self._mapped(state, batch, place(key))
        # On the CPU every step in flight holds its own temporary memory, and two in flight in
        # several processes wait for each other for ever (seen with gloo, jax 0.10.2).
        if jax.default_backend() == 'cpu':
            jax.block_until_ready(metrics)
        return state, metrics

    def begin(self, arguments: Callable[[], tuple[Any, Any, Any]]) -> None:
        """Begins to `compile` for such arguments in a thread, for which the next call waits.

        So does Python before it ends, as a compiler must not be left running then. What it raises
        is dropped: the call fails alike, where that is understood. Of several processes none
        begins, as pmap takes shapes in one process only.
        """
        if process_count() > 1:
            return

        def work() -> None:
            try:
                self.compile(*arguments())
            except Exception as error:
                logging.debug('A step does not compile ahead.', exc_info=error)

        self._compiling = threading.Thread(target=work, name='compile a step')
        self._compiling.start()

    def compile(self, state: Any, batch: Any, key: Any) -> None:
        """Compiles for arguments of such shapes and dtypes, so that the first call only runs."""
        devices = jax.local_device_count()

        def shape(x: Any, sharding: NamedSharding, split: bool) -> jax.ShapeDtypeStruct:
            shape = (devices, x.shape[0] // devices, *x.shape[1:]) if split else x.shape
            weak = getattr(x, 'weak_type', False)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding, weak_type=weak)

        state, key = jax.tree.map(lambda x: shape(x, _replicated(), False), (state, key))
        batch = jax.tree.map(lambda x: shape(x, _divided(), True), batch)
        self._mapped.lower(state, batch, key).compile()


def eval_step(fn: Callable) -> Callable:
    """Maps `fn(state, batch) -> tree of [b, ...]` over the devices of this process only.

    No collective joins the processes, so each may score its own images at its own pace.

    Returns:
      A function of (state, batch): batch a tree of host arrays [B, ...] of any B >= 1; returns the
      tree of NumPy arrays [B, ...] in order. Short batches are padded with copies of their last row
      to the largest B seen since `pad_afresh`, so that the last batch does not compile anew.
    """
    mapped = jax.pmap(fn, AXIS, in_axes=(None, 0), devices=jax.local_devices())
    largest: dict[tuple, int] = {}  # padded batch length of each set of image shapes
    _largest.append(largest)

    def call(state: Any, batch: Any) -> Any:
        n, devices = _batch_length(batch), jax.local_device_count()
        if n == 0:
            raise ValueError('An evaluation batch holds no images.')
        shapes = tuple((np.shape(x)[1:], x.dtype) for x in jax.tree.leaves(batch))
        length = max(-(-n // devices) * devices, largest.pop(shapes, 0))
        padded = jax.tree.map(
            lambda x: np.concatenate([x, np.repeat(x[-1:], length - n, 0)]), batch
        )
        if not _is_placed(state, _replicated()):
            state = place(state)
        result = jax.device_get(mapped(state, _split(padded, length)))
        largest[shapes] = length  # now that memory has sufficed for it
        return jax.tree.map(lambda x: x.reshape(length, *x.shape[2:])[:n], result)

    return call


def pad_afresh() -> None:
    """Forgets the batches that `eval_step` has seen.

    The last bits of a score depend on the length of its padded batch. A shard that begins so has
    the same bits whichever process makes it, and after whatever.
    """
    for lengths in _largest:
        lengths.clear()


def lanes(fn: Callable) -> Callable:
    """Maps `fn(state, shared, chunk) -> state` over the devices of this process, a state for each.

    It takes trees of arrays [local devices, ...], `shared` apart; the states are donated.
    """
    mapped = jax.pmap(fn, AXIS, in_axes=(0, None, 0), donate_argnums=0, devices=jax.local_devices())

    def call(states: Any, shared: Any, chunk: Any) -> Any:
        if not _is_placed(states, _divided()):  # as they leave, or the second call compiles again
            states = jax.device_put(states, _divided())
        return mapped(states, shared, chunk)

    return call


@functools.cache
def _replicated() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())


@functools.cache
def _divided() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))


def _is_placed(tree: Any, sharding: NamedSharding) -> bool:
    """Looks at one leaf only: a state and a batch are placed as a whole."""
    leaves = jax.tree.leaves(tree)
    return not leaves or getattr(leaves[0], 'sharding', None) == sharding


def _is_mapped() -> bool:
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # how JAX says that the axis is not bound
        return False
    return True


def _batch_length(batch: Any) -> int:
    lengths = sorted({np.shape(x)[0] for x in jax.tree.leaves(batch)})
    if len(lengths) != 1:
        raise ValueError(f'The arrays of a batch have different lengths: {lengths}.')
    return lengths[0]


def _split(batch: Any, length: int) -> Any:
    """[b, ...] to [devices, b / devices, ...], a view."""
    devices = jax.local_device_count()
    if length % devices:
        raise ValueError(
            f'A batch of {length} images does not divide among the {devices} devices of this '
            f'process; make config.batch_size a multiple of {jax.device_count()}.'
        )
    shape = (devices, length // devices)
    return jax.tree.map(lambda x: np.reshape(x, (*shape, *np.shape(x)[1:])), batch)
