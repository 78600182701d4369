"""What a trial asks: how many images it shows, which answers it takes, what they mean as votes."""

from collections.abc import Callable

ADJECTIVES = ('Bad', 'Poor', 'Fair', 'Good', 'Excellent')  # ITU-R BT.500, ITU-T P.910
CHOICES = {'left': 1.0, 'tie': 0.0, 'right': -1.0}


def _slider(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError('A rating is a number from 0 to 100.')
    return float(value)


def _category(value: object) -> float:
    if type(value) is not int or not 1 <= value <= len(ADJECTIVES):
        raise ValueError('A rating is a whole number from 1 (bad) to 5 (excellent).')
    return float(value)


def _choice(value: object) -> float:
    if not isinstance(value, str) or value not in CHOICES:
        raise ValueError("A choice is 'left', 'right' or 'tie'.")
    return CHOICES[value]


def _same(value: float) -> float:
    return value


def _spread(category: float) -> float:
    return 100 * (category - 1) / (len(ADJECTIVES) - 1)


def _percent(choice: float) -> float:
    return 100 * choice


# name: (images per trial, what the page sent -> number to store, number -> vote in 0..100 or, of
# pairs, preference for the left image in -100..100); a wrong answer is a ValueError.
DESIGNS: dict[str, tuple[int, Callable[[object], float], Callable[[float], float]]] = {
    'single_stimulus': (1, _slider, _same),  # continuous scale with five adjectives
    'acr5': (1, _category, _spread),  # absolute category rating
    'pair_choice': (2, _choice, _percent),  # two-alternative forced choice with tie
}


def find(name: str) -> tuple[int, Callable[[object], float], Callable[[float], float]]:
    """The row of DESIGNS; a ValueError that names the known ones."""
    if name not in DESIGNS:
        raise ValueError(f'config.people.design={name!r}; known are {", ".join(DESIGNS)}.')
    return DESIGNS[name]
