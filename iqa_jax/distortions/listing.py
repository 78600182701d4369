"""The registry as a table to read: what `iqa_jax.distortions()` gives."""

import types

from iqa_jax.distortions import registry


class Listing(tuple):
    """Registry rows in KADID's order, shown as a table at a prompt."""

    __slots__ = ()

    def __repr__(self) -> str:
        """One line per type: number, name, five level values, S if stochastic, approximation."""
        cells = [
            (f'{row.number:2d}', row.name, ' '.join(f'{value:g}' for value in row.levels))
            for row in self
        ]
        widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)]
        lines = [
            f'{"  ".join(map(str.ljust, line, widths))}  {"S" if row.stochastic else " "}  '
            f'{row.approximation}'.rstrip()
            for line, row in zip(cells, self, strict=True)
        ]
        return '\n'.join(lines)


class CallableModule(types.ModuleType):
    """A module that lists the distortions when called."""

    def __call__(self) -> Listing:
        """All `Distortion` rows by number; a tuple, printed as a table with S for stochastic."""
        return Listing(sorted(registry.DISTORTIONS.values(), key=lambda row: row.number))
