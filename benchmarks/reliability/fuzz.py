"""Random words, values and files of one seed, for readers of what a stranger may write."""

import pathlib

import numpy as np

WORDS = [
    '', '0', '1', '-1', '1.5', 'nan', 'inf', '1e999', '9' * 30, '9' * 400, '0x1', 'True', 'None',
    'a', 'A b', 'é', '日本', '🙂', '\0', '\ufeff', '\r', '\n', '\t', '"', '""', "'", ',', ';', '{',
    '}', '[', ']', ':', '\\', '..', '../..', '/dev/null', '#', '%s', 'image_id', 'ref_id', 'file',
    'sha256', 'split', 'test', 'pool', 'type', 'level', 'seed', 'mos', 'votes', 'component',
    'reference', 'distorted', 'reason', 'content', 'database', 'columns', 'meta', 'previous',
    'check', 'size', 'fingerprint', 'files', 'leaves', '[title]', '[consent]', '[questionnaire]',
    '[instructions]', '[thanks]', 'age | Your age | number 1 120', 'a | b | yes / no',
]  # fmt: skip


class Fuzz:
    """Random values of one seed, in a folder in memory where there is one."""

    def __init__(self, seed: int, folder: pathlib.Path):
        self.rng, self.folder = np.random.default_rng(seed), folder
        self._draws: list[float] = []

    def below(self, n: int) -> int:
        """A whole number in 0..n-1."""
        if not self._draws:
            self._draws = self.rng.random(4096).tolist()
        return int(self._draws.pop() * n)

    def one(self, items: list) -> object:
        """One of the items."""
        return items[self.below(len(items))]

    def text(self, most: int = 12) -> str:
        """Words without order."""
        return ''.join(self.one(WORDS) for _ in range(self.below(most)))

    def value(self, depth: int = 3) -> object:
        """Something that JSON or Python can hold."""
        kind = self.below(12 if depth else 8)
        if kind < 4:
            return self.one(WORDS)
        if kind < 8:
            return self.one(
                [0, 1, -1, 2**31, -(2**70), 0.5, float('nan'), float('inf'), None, True]
            )
        if kind < 10:
            return {str(self.one(WORDS)): self.value(depth - 1) for _ in range(self.below(5))}
        items = [self.value(depth - 1) for _ in range(self.below(5))]
        return items if kind == 10 else tuple(items)

    def csv(self, names: list[str]) -> bytes:
        """A table with some of the columns, more or less a table."""
        header = [
            self.one(names) if self.below(8) else self.one(WORDS) for _ in range(1 + self.below(5))
        ]
        if self.below(3):
            header = list(dict.fromkeys([names[0], *header]))
        lines = [header]
        for number in range(self.below(6)):
            row = [str(self.one(WORDS)) for _ in header]
            row[0] = f'i{number}' if self.below(4) else row[0]
            lines.append(row if self.below(12) else row[1:])
        end = self.one(['\n', '\n', '\n', '\r\n', '\r', '\n\n'])
        data = end.join(','.join(map(str, line)) for line in lines).encode()
        return self.broken(data) if not self.below(5) else data

    def broken(self, data: bytes) -> bytes:
        """The bytes after up to five mishaps."""
        made = bytearray(data)
        for _ in range(self.below(6)):
            at, length = self.below(len(made) + 1), 1 + self.below(16)
            kind = self.below(6)
            if kind == 0 and at < len(made):
                made[at] ^= 1 << self.below(8)
            elif kind == 1:
                del made[at:]
            elif kind == 2:
                del made[at : at + length]
            elif kind == 3:
                made[at:at] = made[at : at + length]
            elif kind == 4:
                made[at : at + length] = bytes([self.below(256)]) * length
            else:
                made[at:at] = str(self.one(WORDS)).encode()
        return bytes(made)

    def file(self, name: str, data: bytes) -> pathlib.Path:
        """Writes a file that may have been there."""
        path = self.folder / name
        path.write_bytes(data)
        return path
