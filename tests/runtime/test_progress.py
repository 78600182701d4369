"""The progress bar counts everywhere and draws on terminals only."""

import sys

from iqa_jax.runtime import progress


def test_silent_without_a_terminal(capsys):
    assert list(progress.progress(range(3), desc='work')) == [0, 1, 2]
    with progress.progress(total=5, initial=2, desc='work', unit='images') as bar:
        bar.update(3)
    assert capsys.readouterr() == ('', '')


def test_draws_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    with progress.progress(total=5, initial=2, desc='work', unit='images') as bar:
        bar.update(3)
    drawn = capsys.readouterr().err
    assert 'work' in drawn
    assert '5/5' in drawn
