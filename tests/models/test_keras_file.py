"""Keras files: every layout gives the same names, and nothing outside of a file is followed."""

import sys

import numpy as np
import pytest

from iqa_jax.models import weight_files
from iqa_jax.models.keras_file import read_keras

h5py = pytest.importorskip('h5py')

KERNEL = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
VECTOR = np.arange(4, dtype=np.float32)
# Created in this order in a session that had seen nine convolutions before.
LAYERS = {
    'conv2d_9': {'kernel': KERNEL},
    'batch_normalization': {'beta': VECTOR, 'moving_mean': VECTOR + 1, 'moving_variance': VECTOR},
    'conv2d_10': {'kernel': KERNEL + 1, 'bias': VECTOR + 2},
    'head': {'kernel': KERNEL + 2},
}
NAMES = {'conv2d_9': '#0 conv2d_9', 'conv2d_10': '#1 conv2d_10'}
NAMES |= {'batch_normalization': '#0 batch_normalization', 'head': 'head'}


def write_legacy(file, root='', end=':0'):
    for layer, weights in LAYERS.items():
        for name, array in weights.items():
            file[f'{root}{layer}/{layer}/{name}{end}'] = array


def write_model(file):
    write_legacy(file, 'model_weights/', '')
    file['optimizer_weights/adam/step'] = np.int64(3)


def write_new(file, named=True):
    counts = {}
    for layer, weights in LAYERS.items():
        kind = 'batch_normalization' if 'beta' in weights else 'conv2d'
        number = counts[kind] = counts.get(kind, -1) + 1
        group = file.create_group(
            f'layers/{kind}_{number}/vars' if number else f'layers/{kind}/vars'
        )
        if named:
            group.attrs['name'] = layer
        for index, array in enumerate(weights.values()):
            group[str(index)] = array
    file['optimizer/vars/0'] = np.int64(3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'net.h5'


@pytest.mark.parametrize('write', [write_legacy, write_model, write_new])
def test_layers_are_ranked_by_creation_in_every_layout(path, write):
    with h5py.File(path, 'w') as file:
        write(file)
    found = weight_files.read(path)
    expected = {}
    for layer, weights in LAYERS.items():
        for index, (name, array) in enumerate(weights.items()):
            expected[f'{NAMES[layer]}/{index if write is write_new else name}'] = array
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_layers_without_names_keep_their_number(path):
    with h5py.File(path, 'w') as file:
        write_new(file, named=False)
    found = read_keras(path)
    np.testing.assert_array_equal(found['layers/conv2d_1/1'], VECTOR + 2)
    np.testing.assert_array_equal(found['layers/conv2d_2/0'], KERNEL + 2)


def external_file(file, folder):
    file.create_dataset('d/kernel', (4,), 'f4', external=[(folder / 'secret', 0, 16)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((4,), 'f4')
    layout[:] = h5py.VirtualSource(folder / 'other.h5', 'a/kernel', (4,))
    file.create_virtual_dataset('d/kernel', layout)


def link(target):
    return lambda file, folder: file.__setitem__('d', target)


def references(file, folder):
    file['d/kernel'] = np.array([file['a'].ref], h5py.ref_dtype)


def circle(file, folder):
    file['a/again'] = file['a']


HOSTILE = {
    'external link': (link(h5py.ExternalLink('other.h5', '/a')), 'd is a link'),
    'soft link': (link(h5py.SoftLink('/a')), 'd is a link'),
    'external file': (external_file, 'd/kernel is not stored as plain numbers'),
    'virtual': (virtual, 'd/kernel is not stored as plain numbers'),
    'chunks': (
        lambda file, _: file.create_dataset('d/kernel', (1 << 40,), 'f4', chunks=(64,)),
        'd/kernel is not stored as plain numbers',
    ),
    'promise': (
        lambda file, _: file.create_dataset('d/kernel', (1 << 40,), 'f4'),
        'd/kernel says it has 1099511627776 values',
    ),
    'references': (references, 'd/kernel is not stored as plain numbers'),
    'text': (lambda file, _: file.__setitem__('d/kernel', 'x'), 'not stored as plain numbers'),
    'circle': (circle, 'nested more than 16 deep'),
    'type': (lambda file, _: file.__setitem__('d', np.dtype('f4')), 'neither a group nor an array'),
    'twice': (
        lambda file, _: file.__setitem__('a/b/kernel', VECTOR),
        'the file has a/kernel twice',
    ),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_what_keras_never_writes_is_refused(path, tmp_path, kind):
    change, sentence = HOSTILE[kind]
    (tmp_path / 'secret').write_bytes(bytes(16))
    for name in (path, tmp_path / 'other.h5'):
        with h5py.File(name, 'w') as file:
            file['a/kernel'] = VECTOR
    with h5py.File(path, 'a') as file:
        change(file, tmp_path)
    with pytest.raises(ValueError, match=rf'net\.h5: .*{sentence}'):
        read_keras(path)


def test_a_truncated_file_is_a_sentence(path):
    with h5py.File(path, 'w') as file:
        write_new(file)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'net\.h5: '):
            read_keras(path)


def test_an_empty_file_and_a_missing_package_are_sentences(path, monkeypatch):
    h5py.File(path, 'w').close()
    with pytest.raises(ValueError, match=r'net\.h5: the file holds no weights'):
        read_keras(path)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ValueError, match=r"net\.h5: .* needs h5py, .* extra 'pretrained': pip"):
        read_keras(path)
