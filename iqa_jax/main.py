"""Runs one stage: python -m iqa_jax.main --config=configs/NAME.py --workdir=DIR.

`--config.KEY=VALUE` overrides a key. The same command again continues a stopped run. Exit codes:
0 done, 1 an error, 2 a wrong command line, 3 done with quarantined files, 130 and 143 stopped.
"""

import importlib
import pathlib
import sys

from iqa_jax.runtime import signals

if __name__ == '__main__':
    signals.leave_at_once()  # the imports take seconds

from absl import app, flags, logging
from ml_collections import config_flags

from iqa_jax.runtime import artifacts, encoding, endings, parallel, stages

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file('config', help_string='Config file, FILE.py or FILE.py:ARGUMENT.')
flags.DEFINE_string('workdir', None, 'Folder of everything that the stage reads back or writes.')
flags.DEFINE_bool('distributed', False, 'Join the other processes of a cluster.')
flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0, if not detected.')
flags.DEFINE_integer('num_processes', None, 'Number of processes, if not detected.')
flags.DEFINE_integer('process_id', None, 'Number of this process, if not detected.')

PACKAGE = str(pathlib.Path(__file__).parent)


def main(argv: list[str]) -> int:
    """Runs the task of the config and returns the exit code."""
    if FLAGS.verbosity < logging.DEBUG:
        # Our progress, but not that of every library that logs through absl.
        handler = logging.get_absl_handler()
        handler.addFilter(lambda r: r.levelno > 20 or r.pathname.startswith(PACKAGE))
    try:
        code = _run()
    except (Exception, KeyboardInterrupt) as error:
        signals.leave_at_once()  # no second signal comes between
        # While the error lives, and with it the frames of a compilation that was interrupted: XLA
        # goes on with it in a thread, which breaks without them (SIGSEGV, jax 0.10.2).
        endings.leave(*endings.of(error))
    parallel.end(code, '')
    return code


def _run() -> int:
    """The exit code of a run that comes to its end."""
    parallel.initialize(
        FLAGS.distributed, FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id
    )
    # After JAX, whose own handler of SIGTERM would only take a note of it.
    signals.listen(parallel.end)
    if FLAGS.distributed:
        mine = [str(FLAGS.config), stages.code_identity()]
        parallel.check_alike(artifacts.fingerprint(mine))
    task = importlib.import_module(f'iqa_jax.tasks.{FLAGS.config.task}')
    summary = task.run(FLAGS.config, FLAGS.workdir)
    signals.leave_at_once()
    return 3 if isinstance(summary, dict) and summary.get('quarantined', 0) > 0 else 0


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; a wrong command line ends in one sentence and exit code 2."""
    FLAGS.set_default('verbosity', logging.INFO)
    try:
        _refuse_remote_config(argv)
        rest = FLAGS(argv)
        if rest[1:]:
            raise ValueError(f'{rest[1]!r} is not a flag; write --config.KEY=VALUE to override.')
        if FLAGS.config is None or not FLAGS.workdir:
            raise ValueError('Give --config=FILE.py and --workdir=DIR.')
        _check_task(FLAGS.config.get('task'))
        return rest
    except (AttributeError, KeyError) as error:
        sentence = stages.unknown_override(argv) or str(error)
    except (ValueError, OSError, flags.Error) as error:
        # Of a config file's own ValueError the sentence, of its other errors the whole traceback.
        sentence = str(error).rpartition('ValueError: ')[2].strip()
        if 'Traceback' not in sentence:
            sentence = ' '.join(sentence.split())
    print(f'Error: {sentence}', file=sys.stderr)
    sys.exit(2)


def _check_task(name: str | None) -> None:
    files = pathlib.Path(PACKAGE, 'tasks').glob('*.py')
    known = sorted(f.stem for f in files if '\ndef run(' in f.read_text(encoding='utf-8'))
    if name not in known:
        raise ValueError(f'config.task={name!r} is not a task; known are {", ".join(known)}.')


def _refuse_remote_config(argv: list[str]) -> None:
    """Raises a ValueError for a config file in an object store: it is a program with imports."""
    for flag, following in zip(argv, [*argv[1:], ''], strict=True):
        name, _, value = flag.partition('=')
        if name == '--config' and '://' in (file := value or following):
            raise ValueError(f'--config={file} is in an object store; copy it to this machine.')


if __name__ == '__main__':
    encoding.use_utf8()
    app.run(main, flags_parser=_parse)
