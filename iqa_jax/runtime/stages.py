"""A stage of a run: what identifies it, whether it is done, and the one line that says so."""

import copy
import difflib
import functools
import hashlib
import json
import pathlib
import runpy
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import logging

from iqa_jax.runtime import artifacts, foreign, parallel, paths

Path = paths.AnyPath
CODE_SUFFIXES = ('.py', '.html', '.js', '.css', '.csv', '.npz', '.safetensors')


class Stage:
    """One stage in its folder; the same command again continues or does nothing.

    Args:
      name: of the stage, as the summary line shows it.
      workdir: folder of the stage; `stage.json` in it is what marks the stage as done.
      config: plain dict of everything that shapes the result, without paths.
      inputs: files that the stage reads; they count by content, not by name.

    Attributes:
      fingerprint: SHA-256 (hex) of name, config, inputs' digests, the package's source and the
        versions of the packages that can change a result.

    Raises:
      artifacts.MissingArtifact, artifacts.DamagedArtifact: an input is not there or not intact.
    """

    def __init__(
        self,
        name: str,
        workdir: Path,
        config: dict,
        inputs: Sequence[Path] = (),
    ):
        self.name = name
        self._config = config
        self._workdir = paths.as_path(workdir)
        self._summary = self._workdir / foreign.STAGE
        digests = [_digest(path) for path in inputs]
        self.fingerprint = artifacts.fingerprint([name, config, digests, code_identity()])

    def part(self, name: str) -> 'Stage':
        """The stage of one share of the work, in the folder `name` below this one."""
        own = copy.copy(self)
        own._config = self._config | {'part': name}
        own._workdir = self._workdir / name
        own._summary = own._workdir / foreign.STAGE
        own.fingerprint = artifacts.fingerprint([self.fingerprint, name])
        return own

    def done(self, intact: Callable[[], bool] | None = None) -> dict | None:
        """The summary of the finished stage if it is current and every output is intact.

        Process 0 decides for all. `intact` may look at files that are not committed one by one.
        """
        return parallel.from_main(lambda: self._known(intact))

    def _known(self, intact: Callable[[], bool] | None) -> dict | None:
        if not self._is_done(intact):
            return None
        print(f'{self.name}: up to date ({self._workdir})', file=sys.stderr)
        return json.loads(artifacts.read(self._summary))

    def _is_done(self, intact: Callable[[], bool] | None) -> bool:
        if not artifacts.is_current(self._summary, self.fingerprint):
            return False
        try:
            for output in artifacts.meta(self._summary)['meta']['outputs']:
                artifacts.meta(self._workdir / output)
        except (artifacts.MissingArtifact, artifacts.DamagedArtifact) as error:
            logging.warning('%s runs again: %s', self.name, error)
            return False
        if intact is not None and not intact():
            logging.warning('%s runs again: files of %s are gone.', self.name, self._workdir)
            return False
        return True

    def finish(self, summary: dict, outputs: Sequence[Path]) -> dict:
        """Commits the summary, which marks the stage as done, and prints it in one line.

        Args:
          summary: at least 'quarantined' (count), 'seconds', 'headline' (sentence) and 'artifact'
            (main file, relative to the workdir); its whole numbers are the counts of the line.
          outputs: committed files; the stage counts as done only while all of them are intact.

        Returns:
          The summary of process 0 as plain JSON values.
        """
        return parallel.from_main(lambda: self._finished(summary, outputs))

    def _finished(self, summary: dict, outputs: Sequence[Path]) -> dict:
        summary = json.loads(artifacts.canonical_json(summary))
        names = [paths.relative(path, self._workdir) for path in outputs]
        text = json.dumps(summary, indent=1, sort_keys=True) + '\n'
        meta = {'outputs': names, 'config': self._config, 'versions': artifacts.versions()}
        artifacts.commit(self._summary, text.encode(), fingerprint=self.fingerprint, meta=meta)
        counts = [f'{n:,} {key}' for key, n in summary.items() if type(n) is int]
        print(
            f'{self.name}: {", ".join(counts)}, {summary["seconds"]:.1f} s, '
            f'{summary["headline"]} -> {self._workdir / summary["artifact"]}',
            file=sys.stderr,
        )
        return summary


def code_identity() -> list:
    """What can change a result beside its inputs: SHA-256 of the package, versions of libraries."""
    return [_source_digest(), artifacts.versions()]


@functools.cache
def _source_digest() -> str:
    """SHA-256 of code, page templates, tables and weights; results of others are not ours."""
    package = pathlib.Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(f for f in package.rglob('*') if f.suffix in CODE_SUFFIXES):
        digest.update(f'{file.relative_to(package)}\0'.encode() + file.read_bytes())
    return digest.hexdigest()


def check_config(
    config: Mapping[str, Any], allowed: Mapping[str, Any] | Collection[str], where: str
) -> None:
    """Raises a ValueError for a key of `config` that is not in `allowed`, naming the nearest one.

    Args:
      config: possibly nested keys and their values.
      allowed: known keys; a mapping with a mapping or a set as value checks the nested keys too.
      where: what the message calls the config, such as 'config.model'.
    """
    for key, value in config.items():
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 3, 0.5)
            known = f'known are {", ".join(sorted(allowed))}.'
            hint = f'did you mean {" or ".join(near)}?' if near else known
            raise ValueError(f'{where}.{key} is not a key of this config; {hint}')
        nested = allowed[key] if isinstance(allowed, Mapping) else None
        if isinstance(value, Mapping) and isinstance(nested, Mapping | set | frozenset):
            check_config(value, nested, f'{where}.{key}')


def unknown_override(argv: list[str]) -> str:
    """The sentence about the first --config.KEY that the config file does not have, or ''."""
    given = [arg.partition('=') for arg in argv if arg.startswith('--config')]
    file = next((value for flag, _, value in given if flag == '--config'), '')
    if '--config' in argv[:-1]:
        file = argv[argv.index('--config') + 1]
    path, _, argument = file.partition(':')
    if not path:
        return ''
    config = runpy.run_path(path)['get_config'](*[argument] * bool(argument))
    for flag, _, _ in given:
        override: dict | None = None
        for key in reversed(flag.split('.')[1:]):
            override = {key: override}
        try:
            check_config(override or {}, config.to_dict(), 'config')
        except ValueError as error:
            return str(error)
    return ''


def _digest(path: Path) -> str:
    """SHA-256 of an input: verified when it is ours, of the bytes when another tool wrote it."""
    path = paths.as_path(path)
    if foreign.is_foreign(path):
        return paths.sha256(path)
    return artifacts.meta(path)['sha256']
