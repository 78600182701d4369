"""The shape of the package: imports go down, devices in one file, files and functions short."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / 'iqa_jax'
FILES = sorted(PACKAGE.rglob('*.py'))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

DIRECT = {
    'main': {'tasks'},
    'tasks': {'evaluation', 'study', 'competition', 'training', 'data'},
    'evaluation': {'training', 'competition', 'data'},
    'study': {'data'},
    'competition': {'data'},
    'training': {'models'},
    'models': {'images'},
    'data': {'distortions', 'fr_metrics', 'images'},
    'fr_metrics': {'images'},
    'distortions': {'images'},
    'images': set(),
    'runtime': set(),
}
# tasks wires rooms together and so may import every room below it, not only the nearest.
ALLOWED = {room: below | {room, 'runtime', 'version'} for room, below in DIRECT.items()}
ALLOWED['tasks'] |= set(DIRECT) - {'main'}
ALLOWED['images'] -= {'runtime'}
ALLOWED |= {'__init__': {'version'}, 'version': set()}

PROCESS_NAMES = {'process_index', 'process_count', 'process_id', 'distributed', 'multihost_utils'}
DEVICE_NAMES = PROCESS_NAMES | {
    'pmap',
    'shard_map',
    'devices',
    'local_devices',
    'device_count',
    'local_device_count',
    'sharding',
    'device_put',
}
KNOWN = {  # file -> what it alone may take from JAX
    'runtime/parallel.py': DEVICE_NAMES - PROCESS_NAMES,
    'runtime/processes.py': PROCESS_NAMES,
}
TRAINING_LOOP = ('tasks/train.py', 'run')
FILE_LINES, FUNCTION_LINES, LOOP_LINES = 300, 60, 150


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported_modules(tree: ast.AST, path: pathlib.Path) -> set[str]:
    """Dotted names that the file imports, anywhere in it, import_module('...') included."""
    package = ['iqa_jax', *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = '.'.join([*base, *([node.module] if node.module else [])])
            found |= {base} | {f'{base}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            first = node.args[0]
            if name in ('import_module', '__import__') and isinstance(first, ast.Constant):
                found.add(first.value)
    return found


def rooms_imported(tree: ast.AST, path: pathlib.Path) -> set[str]:
    """Rooms of ours that the file imports; 'iqa_jax' itself counts as the room '__init__'."""
    names = [n.split('.') for n in imported_modules(tree, path) if n.split('.')[0] == 'iqa_jax']
    known = set(ALLOWED) - {'__init__'}
    rooms = {parts[1] for parts in names if len(parts) > 1 and parts[1] in known}
    face = any(len(parts) > 1 and parts[1] not in known for parts in names)
    alone = names and not rooms
    return rooms | ({'__init__'} if face or alone else set())


def device_names(tree: ast.AST) -> set[str]:
    """Names of DEVICE_NAMES that the file takes from jax."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith('jax.'):
            found |= DEVICE_NAMES & set(ast.unparse(node).split('.'))
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'jax':
            found |= DEVICE_NAMES & {*node.module.split('.'), *(a.name for a in node.names)}
    return found


def own_lines(function: ast.AST) -> int:
    """Lines of a function without the functions defined inside it, which are counted themselves."""
    inner = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node is not function
    ]
    covered = {line for node in inner for line in range(node.lineno, node.end_lineno + 1)}
    return function.end_lineno - function.lineno + 1 - len(covered)


@pytest.mark.parametrize('path', FILES, ids=IDS)
def test_imports_go_down(path):
    tree, room = ast.parse(path.read_text(encoding='utf-8')), room_of(path)
    above = rooms_imported(tree, path) - ALLOWED[room]
    assert not above, f'{room} may not import {sorted(above)}'
    roots = {name.split('.')[0] for name in imported_modules(tree, path)}
    assert not roots & {'tensorflow', 'tf', 'keras', 'torch', 'torchvision'}


@pytest.mark.parametrize('path', FILES, ids=IDS)
def test_one_file_knows_devices_and_one_processes(path):
    known = KNOWN.get(path.relative_to(PACKAGE).as_posix(), set())
    assert device_names(ast.parse(path.read_text(encoding='utf-8'))) <= known


@pytest.mark.parametrize('path', FILES, ids=IDS)
def test_sizes(path):
    text, name = path.read_text(encoding='utf-8'), path.relative_to(PACKAGE).as_posix()
    assert len(text.splitlines()) <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            limit = LOOP_LINES if (name, node.name) == TRAINING_LOOP else FUNCTION_LINES
            lines = own_lines(node)
            assert lines <= limit, f'{node.name} has {lines} lines, more than {limit}'


def test_every_room_is_in_the_table():
    assert {room_of(path) for path in FILES} <= set(ALLOWED)
    assert not list(PACKAGE.rglob('utils.py'))


@pytest.mark.parametrize(
    ('room', 'source', 'rooms'),
    [
        ('images', 'from iqa_jax.models import x', {'models'}),
        ('images', 'def f():\n    import iqa_jax.tasks.train', {'tasks'}),
        ('images', 'from iqa_jax import data, runtime', {'data', 'runtime'}),
        ('images', 'from ..training import steps', {'training'}),
        ('images', 'from .io import decode', {'images'}),
        ('images', 'import importlib\nimportlib.import_module("iqa_jax.study")', {'study'}),
        ('images', 'from iqa_jax import metric', {'__init__'}),
        ('images', 'import iqa_jax', {'__init__'}),
        ('images', 'import iqa_jaxx.tasks, jax', set()),
    ],
)
def test_the_checker_sees(room, source, rooms):
    assert rooms_imported(ast.parse(source), PACKAGE / room / 'file.py') == rooms


def test_the_device_checker_sees():
    assert device_names(ast.parse('f = jax.pmap(g)')) == {'pmap'}
    assert device_names(ast.parse('from jax import devices')) == {'devices'}
    assert device_names(ast.parse('jax.distributed.initialize()')) == {'distributed'}
    assert device_names(ast.parse('parallel.process_index(); jax.jit(f)')) == set()


def test_main_needs_neither_tensorflow_nor_torch():
    code = 'import sys, iqa_jax.main; print(*sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert not {'tensorflow', 'torch'} & set(done.stdout.split())
