"""Training with a config or data that cannot work: one clear sentence each."""

import shutil
import threading

import numpy as np
import pytest

from configs import (
    ablate_ohem,
    deepfl_splits,
    split,
    train_annotators,
    train_deepfl,
    train_mlsp,
    train_ohem,
    train_proxies,
    train_ranking,
    train_unique,
)
from iqa_jax.data import manifest
from iqa_jax.images import io
from iqa_jax.tasks import train, train_checks, train_setup


def train_config(smoke, **changes):
    from configs import quickstart

    stage = quickstart.get_config('smoke').stages.pretrain.to_dict()
    del stage['folder']
    return stage | {'root': str(smoke)} | changes


FIDELITY = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
ONE_TARGET = {'loss': 'fidelity', 'targets': ('gmsd',)}

BINARY = FIDELITY | {'labels': 'binary'}
PAIRS = ONE_TARGET | {'loss_options': BINARY}
VOTES = {
    'loss': 'annotators', 'model': {'backbone': 'tiny', 'uncertainty': 'exp'},
    'loss_options': train_annotators.get_config('smoke').loss_options.to_dict(),
}  # fmt: skip
FILES = {'manifest': 'data/manifest.parquet', 'scores': 'data/proxies.parquet'}
OHEM = {
    'ratio': 0.5, 'mask': 'magnitude', 'refresh': 'fixed', 'twin_weight': 1.0,
    'consistency_weight': 1.0, 'stop_gradient': False, 'batch_stats': 'shared', 'crops': 'same',
    'layers': 'convolutions',
}  # fmt: skip


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'batch_size': 0}, 'config.batch_size=0 does not divide'),
        ({'crop': (400, 64)}, r'smaller than config\.crop'),
        ({'targets': ('vif',)}, 'no column vif'),
        ({'loss': 'huber'}, "config.loss='huber' is unknown"),
        ({'loss': 'fidelity', 'loss_options': {}}, r'config\.loss_options\.\w+ is missing'),
        ({'loss': 'fidelity', 'loss_options': FIDELITY}, 'ranks by one target, not 4'),
        (ONE_TARGET | {'loss_options': FIDELITY | {'labels': 'hard'}}, "labels='hard'; use one of"),
        (ONE_TARGET | {'loss_options': FIDELITY}, 'no mos_std for some images'),
        ({'loss_options': {'label': 'soft'}}, r'config\.loss_options\.label is not a key'),
        ({'log_steps': 0}, r'config\.log_steps=0; use 1 or more'),
        ({'input_threads': 0}, r'config\.input_threads=0; use 1 or more'),
        ({'prefetch_steps': 0}, r'config\.prefetch_steps=0; use 1 or more'),
        ({'total_steps': 0}, 'comes to no step'),
        ({'total_steps': 4, 'warmup_steps': 4}, 'config.warmup_steps=4 of 4 steps in all; lower'),
        ({'learning_rate': 0.0}, r'config\.learning_rate=0\.0; use a number above 0'),
        ({'clip_norm': float('nan')}, r'config\.clip_norm=nan; use a number above 0'),
        ({'weight_decay': -1e-4}, r'config\.weight_decay=-0\.0001; use 0 or more'),
        ({'rate_scales': {'regressor': -1}}, r'config\.rate_scales\.regressor=-1; use 0 or more'),
        ({'schedule': 'step'}, "config.schedule='step'; use one of constant, cosine"),
        ({'crop': (64,)}, r'config\.crop=\(64,\); give height and width'),
        (
            {'ohem': OHEM | {'consistency_weight': -1}},
            r'ohem\.consistency_weight=-1; use 0 or more',
        ),
        ({'init_from': 'imagenet'}, 'no package has weights of tiny; give a weight file'),
        (
            {'databases': {'a': FILES | {'weight': 0}}},
            r'config\.databases\.a\.weight=0; use a number above 0',
        ),
        (
            {'databases': {'a': FILES | {'weight': 1, 'higher_is_better': {'gmds': True}}}},
            r'a\.higher_is_better\.gmds is not one of config\.targets; they are ssim',
        ),
        ({'databases': {}}, r'config\.databases is empty'),
        ({'databases': {'a': {'manifest': 'data/manifest.parquet', 'scores': ''}}}, 'weight is'),
        ({'freeze': ('backbones',)}, r"config\.freeze names 'backbones'"),
        ({'model': {'backbone': 'tiny', 'width': 3}}, r'config\.model\.width is not a key'),
        ({'total_epochs': 2}, 'Set exactly one of config.total_steps'),
        ({'init_from': 'finetune/nothing'}, 'weights.msgpack'),
        ({'init_from': 'finetune/nothing.pth'}, r'nothing\.pth'),
        ({'ohem': {'ratio': 0.5}}, r'config\.ohem\.\w+ is missing'),
        ({'model': {'backbone': 'vgg'}}, "config.model.backbone is 'vgg'"),
        ({'model': {'head': 'gap'}, 'init_from': 'imagenet'}, 'config.model.backbone is None'),
        ({'eval_steps': -1}, r'config\.eval_steps=-1; use 0 \(once per epoch\) or more'),
        (
            VOTES | {'init_from': 'pretrain/model'},
            "holds a model with uncertainty False, config.model.uncertainty is 'exp'",
        ),
        ({'ohem': OHEM | {'mask': 'smallest'}}, "mask='smallest'; use one of magnitude, random"),
        ({'resize': 'half'}, "config.resize='half'; use one of '', unique"),
        ({'pairs_per_database': {'proxies': 9}}, 'which config.loss=mse does not read'),
        (PAIRS | {'pairs_per_database': {'a': 9}}, r'pairs_per_database\.a is not a key'),
        (PAIRS | {'pairs_per_database': {'proxies': 0}}, r'pairs_per_database\.proxies=0; use 1'),
        (PAIRS | {'pairs_per_database': {'proxies': 10**6}}, 'asks for 1000000 pairs of'),
        ({'init_optimizer': True}, 'init_optimizer=True needs the folder of a model'),
        ({'init_optimizer': True, 'init_from': 'finetune/model'}, 'no file .*optimizer.msgpack'),
    ],
)
def test_training_says_what_is_wrong(smoke, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.run(train_config(smoke, **changes), tmp_path / 'out')


PUBLISHED = [
    (train_annotators, ''), (train_deepfl, ''), (train_mlsp, ''), (train_mlsp, 'short'),
    (train_mlsp, 'power'), (train_mlsp, 'wide'), (train_ohem, ''), (train_proxies, ''),
    (train_ranking, ''), (train_unique, ''),
]  # fmt: skip


@pytest.mark.parametrize(('config', 'arg'), PUBLISHED, ids=lambda x: getattr(x, '__name__', x))
def test_the_whole_config_of_every_recipe_can_be_trained_with(config, arg):
    plain = config.get_config(arg).to_dict()
    trainings = [s for s in plain.get('stages', {'': plain}).values() if s['task'] == 'train']
    assert trainings
    for training in trainings:
        assert set(training) - {'root', 'folder'} == train.KEYS | {'task'}
        train_checks.check(training)


def test_the_second_stage_finds_what_its_commands_leave():
    splits = split.get_config('koniq10k')
    assert (
        splits.root == 'runs' and splits.databases.koniq10k.manifest == 'koniq10k/manifest.parquet'
    )
    for name, found in deepfl_splits.get_config('koniq10k').splits.items():
        assert found.test.koniq10k.manifest == f'deepfl/splits/{name}/koniq10k.parquet'
    assert len(deepfl_splits.get_config('koniq10k').splits) == splits['count']


@pytest.mark.parametrize(('config', 'arg'), [(ablate_ohem, 'grid'), (deepfl_splits, '')])
def test_every_variant_of_a_comparison_can_be_trained_with(config, arg):
    plain = config.get_config(arg).to_dict()
    assert len(plain['variants']) > 3
    for variant in plain['variants'].values():
        databases = variant.get('databases', {})
        given = plain['train'] | variant | {'databases': plain['train']['databases']}
        assert set(given) | {'seed'} == train.KEYS
        for name, changes in databases.items():
            given['databases'][name] |= changes
        train_checks.check(given)


def test_a_rate_that_is_too_high_has_an_error_of_its_own(smoke, tmp_path):
    config = train_config(smoke, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(train_setup.DivergedError, match='at step'):
        train.run(config, tmp_path / 'loss')
    # Where the loss is not looked at before validation.
    with pytest.raises(train_setup.DivergedError, match='validation score'):
        train.run(config | {'log_steps': 8, 'eval_steps': 2}, tmp_path / 'validation')


def test_a_damaged_image_ends_training_by_name_and_leaves_no_thread(smoke, tmp_path):
    shutil.copytree(smoke / 'data', tmp_path / 'data')
    columns = manifest.read(tmp_path / 'data/manifest.parquet')
    row = int(np.flatnonzero(columns['split'] == 'train')[0])
    with open(columns['file'][row], 'ab') as file:
        file.write(b'one byte more')
    config = train_config(tmp_path, databases={
        'one': {'manifest': 'data/manifest.parquet', 'scores': 'data/proxies.parquet', 'weight': 1}
    }, total_steps=100)  # fmt: skip
    with pytest.raises(io.ImageError) as error:
        train.run(config, tmp_path / 'out')
    assert columns['file'][row] in str(error.value) and 'SHA-256 differs' in str(error.value)
    assert not [t for t in threading.enumerate() if 'grain' in t.name]


def test_a_target_that_is_no_number_is_named(tmp_path):
    path = tmp_path / 'scores.csv'
    path.write_text('image_id,mine\na,x\n')
    rows = {'image_id': np.array(['a'], object)}
    database = {'scores': str(path), 'manifest': '', train_checks.DIRECTIONS: {'mine': False}}
    with pytest.raises(ValueError, match=r'Column mine of .*scores\.csv is not of numbers'):
        train_setup._targets(rows, database, {'targets': ('mine',), 'loss': 'mse'})
