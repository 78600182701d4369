"""A stage is done only for the same config and inputs, and only while its outputs are intact."""

import json
import logging

import numpy as np
import pytest

from iqa_jax.runtime import artifacts, stages

SUMMARY = {
    'images': 1200,
    'quarantined': 3,
    'seconds': 12.34,
    'headline': 'SRCC 0.9',
    'artifact': 'scores.csv',
}


def finished(folder, config, inputs=()):
    stage = stages.Stage('score', folder, config, inputs=inputs)
    output = folder / 'sub' / 'scores.csv'
    artifacts.commit(output, b'a,b\n', fingerprint=stage.fingerprint)
    assert stage.finish(SUMMARY | {'best': np.float32(0.5)}, [output]) == SUMMARY | {'best': 0.5}
    return output


def test_done_after_finish_and_one_line_each(tmp_path, capsys):
    config = {'a': 1, 'b': {'c': [1, 2]}}
    assert stages.Stage('score', tmp_path, config).done() is None
    finished(tmp_path, config)
    line = capsys.readouterr().err
    assert line == (
        f'score: 1,200 images, 3 quarantined, 12.3 s, SRCC 0.9 -> {tmp_path}/scores.csv\n'
    )
    assert stages.Stage('score', tmp_path, config).done() == SUMMARY | {'best': 0.5}
    assert capsys.readouterr().err == f'score: up to date ({tmp_path})\n'
    assert json.loads((tmp_path / 'stage.json').read_text())['headline'] == 'SRCC 0.9'
    assert artifacts.meta(tmp_path / 'stage.json')['meta']['config'] == config


def test_what_changes_the_fingerprint(tmp_path, monkeypatch):
    ours, foreign = tmp_path / 'ours.csv', tmp_path / 'foreign.csv'
    artifacts.commit(ours, b'1')
    foreign.write_bytes(b'2')

    def mark(config=1, name='score', inputs=(ours, foreign)):
        return stages.Stage(name, tmp_path, {'k': config}, inputs).fingerprint

    first = mark()
    assert first == mark()
    moved = tmp_path / 'elsewhere' / 'other_name.csv'
    artifacts.commit(moved, b'1')
    assert mark(inputs=(moved, foreign)) == first  # content counts, names do not
    others = [mark(config=2), mark(name='train'), mark(inputs=(ours,))]
    artifacts.commit(ours, b'10')
    others.append(mark())
    artifacts.commit(ours, b'1')
    foreign.write_bytes(b'20')
    others.append(mark())
    foreign.write_bytes(b'2')
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, 'versions', lambda: {'jax': '99'})
        others.append(mark())
    monkeypatch.setattr(stages, '_source_digest', lambda: 'other code')
    others.append(mark())
    assert len({first, *others}) == len(others) + 1


def test_inputs_are_verified(tmp_path):
    with pytest.raises(artifacts.MissingArtifact, match=r'no file .*manifest\.parquet'):
        stages.Stage('train', tmp_path, {}, inputs=[tmp_path / 'manifest.parquet'])
    artifacts.commit(tmp_path / 'manifest.parquet', b'12345')
    (tmp_path / 'manifest.parquet').write_bytes(b'12346')
    with pytest.raises(artifacts.DamagedArtifact):
        stages.Stage('train', tmp_path, {}, inputs=[tmp_path / 'manifest.parquet'])


@pytest.mark.parametrize('how', ['delete', 'damage', 'no_sidecar', 'summary'])
def test_not_done_when_an_output_is_gone(tmp_path, caplog, how):
    output = finished(tmp_path, {})
    if how == 'delete':
        output.unlink()
    elif how == 'damage':
        output.write_bytes(b'a,c\n')
    elif how == 'no_sidecar':
        artifacts.sidecar_path(output).unlink()
    else:
        (tmp_path / 'stage.json').unlink()
    with caplog.at_level(logging.WARNING):
        assert stages.Stage('score', tmp_path, {}).done() is None
    assert how == 'summary' or 'score runs again:' in caplog.text


def test_a_moved_workdir_stays_done(tmp_path):
    finished(tmp_path / 'a', {})
    (tmp_path / 'a').rename(tmp_path / 'b')
    assert stages.Stage('score', tmp_path / 'b', {}).done() is not None


def test_check_config():
    known = {'batch_size': 1, 'ohem': {'ratio', 'refresh'}, 'name': 'x'}
    stages.check_config({'batch_size': 2, 'ohem': {'ratio': 0.5}, 'name': 'y'}, known, 'config')
    with pytest.raises(ValueError, match=r'config\.batchsize is not .* did you mean batch_size\?'):
        stages.check_config({'batchsize': 2}, known, 'config')
    with pytest.raises(ValueError, match=r'config\.ohem\.refrsh .* refresh\?'):
        stages.check_config({'ohem': {'refrsh': 2}}, known, 'config')
    with pytest.raises(ValueError, match=r'known are batch_size, name, ohem\.'):
        stages.check_config({'zzz': 2}, set(known), 'config')
