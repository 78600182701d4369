"""Memory that runs out when a case says so, in place of a machine that is really short of it."""

import logging


class Shortage:
    """Makes computations fail as the case says, and counts what fails and what is logged."""

    def __init__(self):
        self.capacity, self.failing, self.error = float('inf'), -1, 'jax'
        self.calls, self.halved, self.fit, self.lines = 0, 0, 0, 0

    def start(
        self,
        capacity: float = float('inf'),
        failing: int = -1,
        error: str = 'jax',
        alone: bool = False,
    ) -> None:
        """Begins a case: all counts are 0 and every budget is whole again, or of one image."""
        from iqa_jax.data import labelling
        from iqa_jax.tasks import feature_shards, score_pairs, train_setup
        from iqa_jax.training import scoring

        self.__init__()
        self.capacity, self.failing, self.error = capacity, failing, error
        for room in (labelling, feature_shards, score_pairs, train_setup, scoring):
            room.AT_ONCE._pixels = 0 if alone else float('inf')

    def install(self) -> None:
        """Puts itself around every computation that may be halved, and every training step."""
        from iqa_jax.runtime import memory
        from iqa_jax.tasks import train

        parts, program = memory.AtOnce.parts, train._program

        def watched_parts(budget, compute, count, wanted, size):
            def watched(first, last):
                try:
                    self.fail((last - first) * size[0] * size[1])
                    return compute(first, last)
                except Exception as error:
                    if memory.is_exhausted(error):
                        self.halved += last - first > 1
                    raise

            for first, last, part in parts(budget, watched, count, wanted, size):
                if isinstance(part, memory.DoesNotFit):
                    self.fit += self._fits(watched, first, last)
                yield first, last, part

        def watched_program(key):
            model, tx, step = program(key)

            def watched(*arguments):
                self.fail(0)
                return step(*arguments)

            watched.begin = step.begin
            return model, tx, watched

        memory.AtOnce.parts, train._program = watched_parts, watched_program
        handler = logging.Handler()
        handler.emit = self._count
        logging.getLogger('absl').addHandler(handler)

    def fail(self, pixels: int) -> None:
        """Raises if the case says so for the next computation, of that many pixels."""
        import jax

        self.calls += 1
        if pixels > self.capacity or self.calls - 1 == self.failing:
            if self.error == 'memory':
                raise MemoryError('Unable to allocate (injected)')
            raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory (injected)')

    def _fits(self, compute, first: int, last: int) -> bool:
        """Whether what is about to be quarantined can be computed after all."""
        from iqa_jax.runtime import memory

        memory.release()
        try:
            compute(first, last)
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
            return False
        return True

    def _count(self, record) -> None:
        self.lines += 'at once: it goes on with' in record.getMessage()
