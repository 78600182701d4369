"""The words of a study, which its owner writes: consent, questionnaire, instructions, thanks."""

import importlib.resources
import math
import unicodedata
from pathlib import Path

from iqa_jax.runtime.paths import as_path

SECTIONS = ('title', 'consent', 'questionnaire', 'instructions', 'thanks')
_LONGEST = 60_000  # characters


def read(path: str | Path) -> dict:
    """Reads a text file of sections; '' is the bundled one.

    A line `[consent]` begins a section, a blank line a new paragraph. Each line of [questionnaire]
    is `name | question | kind`, with kind `number LOW HIGH`, `text`, or choices divided by `/`; a
    name that ends in ? may be left open. Nothing is HTML: pages show every character as it is.

    Returns:
      {'title', 'consent', 'instructions', 'thanks' (lists of paragraphs), 'questionnaire':
      [{'name', 'question', 'required', 'kind', 'low', 'high', 'choices'}]}

    Raises:
      ValueError: no such file, an unknown or missing section, or a question that cannot be read.
    """
    where = path or 'the bundled texts'
    try:
        text = (as_path(path) if path else _bundled()).read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'config.people.texts={path} cannot be read as UTF-8: {error}.') from error
    if len(text) > _LONGEST:
        raise ValueError(f'{where} has {len(text)} characters, more than {_LONGEST}.')
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        name = line.strip()[1:-1]
        if line.startswith('[') and line.rstrip().endswith(']'):
            if name not in SECTIONS or name in parts:
                raise ValueError(f'{where}: [{name}] is twice or is none of {", ".join(SECTIONS)}.')
            lines = parts.setdefault(name, [])
        elif parts:
            lines.append(line.strip())
        elif line.strip():
            raise ValueError(f'{where} must begin with a section such as [title].')
    if missing := [name for name in SECTIONS if name not in parts]:
        raise ValueError(f'{where} lacks the section [{missing[0]}].')
    found = {name: _paragraphs(parts[name]) for name in SECTIONS if name != 'questionnaire'}
    if not found['title'] or not found['consent']:
        raise ValueError(f'{where}: [title] and [consent] must not be empty.')
    questions = [_question(line, where) for line in parts['questionnaire'] if line]
    if len({q['name'] for q in questions}) < len(questions):
        raise ValueError(f'{where}: two questions have the same name.')
    return found | {'questionnaire': questions}


def check_answers(questions: list[dict], given: object) -> dict:
    """The answers to a questionnaire, checked; a ValueError that names the question otherwise."""
    if not isinstance(given, dict) or set(given) - {q['name'] for q in questions}:
        raise ValueError('The answers are not those of this questionnaire.')
    found = {}
    for question in questions:
        value = given.get(question['name'], '')
        if value != '' or question['required']:
            found[question['name']] = _checked(question, value)
    return found


def _checked(question: dict, value: object) -> object:
    kind = question['kind']
    if kind == 'number':
        good = type(value) in (int, float) and question['low'] <= value <= question['high']
    elif kind == 'choice':
        good = isinstance(value, str) and value in question['choices']
    else:
        # Not isprintable: it refuses the joiners that several scripts are written with.
        good = isinstance(value, str) and 0 < len(value) <= 500
        good = good and not any(unicodedata.category(c) in ('Cc', 'Cs') for c in value)
    if not good:
        raise ValueError(f'Please answer the question "{question["question"]}".')
    return value


def _question(line: str, where: str | Path) -> dict:
    parts = [part.strip() for part in line.split('|')]
    if len(parts) != 3 or not all(parts):
        raise ValueError(f'{where}: write "name | question | kind", not "{line}".')
    name, question, kind = parts
    if not name.rstrip('?'):
        raise ValueError(f'{where}: the question of "{line}" has no name.')
    found = {'name': name.rstrip('?'), 'question': question, 'required': not name.endswith('?')}
    found |= {'low': 0.0, 'high': 0.0, 'choices': []}
    if kind == 'text':
        return found | {'kind': 'text'}
    if kind.startswith('number '):
        try:
            low, high = map(float, kind.split()[1:])
        except ValueError:
            low, high = math.nan, math.nan
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f'{where}: write "number LOW HIGH", not "{kind}".')
        return found | {'kind': 'number', 'low': low, 'high': high}
    choices = [choice.strip() for choice in kind.split('/')]
    if len(choices) < 2 or not all(choices):
        raise ValueError(f'{where}: "{kind}" is no kind of answer; see docs/rating_page.md.')
    return found | {'kind': 'choice', 'choices': choices}


def _paragraphs(lines: list[str]) -> list[str]:
    return [' '.join(part.split('\n')) for part in '\n'.join(lines).strip().split('\n\n') if part]


def _bundled() -> Path:
    return Path(str(importlib.resources.files('iqa_jax.study') / 'page' / 'texts.txt'))
