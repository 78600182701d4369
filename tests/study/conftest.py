"""The open database of a tiny study."""

import contextlib

import pytest
import studies

from iqa_jax.study import schema


@pytest.fixture
def opened(tmp_path):
    """Makes a study and opens its database."""
    with contextlib.ExitStack() as stack:

        def make(design='single_stimulus', **changes):
            folder = studies.make(tmp_path / 'study', design, **changes)
            return stack.enter_context(contextlib.closing(schema.connect(folder / 'study.sqlite')))

        yield make
