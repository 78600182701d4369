"""No crash point is missing from the registry that the drills go through."""

import pathlib
import re

import iqa_jax
from iqa_jax.runtime import crash_points

CALL = re.compile(r"crash_point\(f?'([\w.{}]+)'")


def test_every_crash_point_of_the_package_is_registered():
    package = pathlib.Path(iqa_jax.__file__).parent
    found = {name for file in package.rglob('*.py') for name in CALL.findall(file.read_text())}
    calls = sum(file.read_text().count('crash_point(') for file in package.rglob('*.py'))
    named = sum(len(CALL.findall(file.read_text())) for file in package.rglob('*.py'))
    assert calls == named + 1  # the definition; no name is made in another way
    found |= {n.format(part=part) for n in found if '{part}' in n for part in ('data', 'meta')}
    found = {name for name in found if '{' not in name}
    assert found == set(crash_points.ALL)
    assert len(crash_points.ALL) == len(set(crash_points.ALL))
