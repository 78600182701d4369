"""Training with a config or data that cannot work: one clear sentence each."""

import pytest

from iqa_jax.tasks import train


def train_config(smoke, **changes):
    from configs import quickstart

    stage = quickstart.get_config('smoke').stages.pretrain.to_dict()
    del stage['folder']
    return stage | {'root': str(smoke)} | changes


FIDELITY = {'labels': 'soft', 'hinge_weight': 1.0, 'hinge_margin': 0.025}
ONE_TARGET = {'loss': 'fidelity', 'targets': ('gmsd',)}


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
        ({'total_steps': 0}, 'comes to no step'),
        ({'databases': {}}, r'config\.databases is empty'),
        ({'databases': {'a': {'manifest': 'data/manifest.parquet', 'scores': ''}}}, 'weight is'),
        ({'freeze': ('backbones',)}, r"config\.freeze names 'backbones'"),
        ({'model': {'backbone': 'tiny', 'width': 3}}, r'config\.model\.width is not a key'),
        ({'total_epochs': 2}, 'Set exactly one of config.total_steps'),
        ({'init_from': 'finetune/nothing'}, 'weights.msgpack'),
        ({'ohem': {'ratio': 0.5}}, r'config\.ohem\.\w+ is missing'),
        ({'model': {'backbone': 'vgg'}}, "config.model.backbone is 'vgg'"),
        ({'learning_rate': 1e30, 'clip_norm': 1e30}, 'lower config.learning_rate'),
    ],
)
def test_training_says_what_is_wrong(smoke, tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train.run(train_config(smoke, **changes), tmp_path / 'out')
