"""A SIMULATED panel of raters: a hidden quality, and the votes people might have given for it.

Nothing here is human data. Every table made here carries `simulated` = True, so that a figure made
with simulated people can never be mistaken for one made with real ones.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import scipy.special

_SENSITIVITY = 0.45  # spread of the log exponent by which a type bends the proxies
_SEVERITY = 0.6  # spread of the log odds by which a type is judged harsher or milder
_CONTENT = 2.5  # standard deviation of a content's offset, points of 100
_WORST, _PRISTINE = 6.0, 94.0  # quality at full and at no loss, before the content's offset
_NOISE_SPREAD = 0.25  # spread of the log of the raters' noise


def _keys(*words: object) -> np.ndarray:
    """A uint64 [1] that stands for `words`, whatever else is in the set."""
    text = '\x1f'.join(map(str, words)).encode()
    return np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), '<u8')


def _many_keys(*words: object, names: Sequence) -> np.ndarray:
    """Uint64 [len(names)], one key for each name."""
    return np.concatenate([np.empty(0, np.uint64), *(_keys(*words, name) for name in names)])


def _uniform(key: np.ndarray) -> np.ndarray:
    """Float64 in (0, 1), a pure function of each uint64 of `key` (the SplitMix64 finaliser)."""
    key = np.array(key, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    key ^= key >> np.uint64(31)
    return ((key >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52


def _normal(key: np.ndarray) -> np.ndarray:
    return scipy.special.ndtri(_uniform(key))


def hidden_quality(
    types: np.ndarray,
    levels: np.ndarray,
    proxies: np.ndarray,
    ref_ids: Sequence[str],
    seed: int,
) -> np.ndarray:
    """SIMULATED true quality, float64 [N] in 0..100, higher better, of distorted images.

    `types` and `levels` int [N] (0: pristine), `ref_ids` [N], `proxies` [N, K] equalised, higher
    better, in 0..1, ignored for pristine images. The loss 1 - mean proxy is raised to a power, and
    its odds multiplied by a factor, that belong to the distortion type, as if people saw some types
    differently from every metric and from their mean; and each content shifts all its images a
    little. All draws depend on the seed and the type or content alone, not on the other images.
    Raises ValueError.
    """
    types, levels = np.asarray(types), np.asarray(levels)
    proxies = np.asarray(proxies, np.float64)
    if proxies.ndim != 2 or not len(proxies) == len(types) == len(levels) == len(ref_ids):
        raise ValueError('types, levels, ref_ids and the rows of proxies must be equally many.')
    pristine = types == 0
    if (pristine != (levels == 0)).any():
        raise ValueError('Type 0 and level 0 both mean pristine; some image has only one of them.')
    distorted = proxies[~pristine]
    if not ((distorted >= 0) & (distorted <= 1)).all():
        raise ValueError('Proxies of distorted images must be equalised, in 0..1 and not NaN.')
    loss = np.zeros(len(types))
    kinds, kind = np.unique(types[~pristine], return_inverse=True)
    exponent = np.exp(_SENSITIVITY * _normal(_many_keys(seed, 'exponent', names=kinds)))
    factor = np.exp(_SEVERITY * _normal(_many_keys(seed, 'factor', names=kinds)))
    bent = (1 - distorted.mean(1)) ** exponent[kind]
    loss[~pristine] = factor[kind] * bent / (1 + (factor[kind] - 1) * bent)
    contents, content = np.unique(np.asarray(ref_ids, str), return_inverse=True)
    offset = _CONTENT * _normal(_many_keys(seed, 'content', names=contents))
    return np.clip(_PRISTINE - (_PRISTINE - _WORST) * loss + offset[content], 0, 100)


def simulate_votes(
    image_ids: Sequence[str],
    quality: np.ndarray,
    *,
    raters: int,
    bias_std: float,
    noise_std: float,
    spammer_fraction: float,
    votes_per_image: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """SIMULATED votes of `raters` people on images of `quality` [N] in 0..100: a votes table.

    A rater votes quality + bias + noise, clipped to 0..100, with bias ~ N(0, bias_std) and noise of
    the rater's own standard deviation, log-normal around `noise_std`; a share `spammer_fraction`
    votes at random. Each image is seen by `votes_per_image` raters. Columns: rater_id, image_id,
    trial (int32, place in the rater's session), vote (float32), simulated (all True), a rater's
    rows in the order of trials. Who rates an image, and the vote, depend on the seed, the rater and
    the image (id and quality) alone; only the trial depends on the set. Raises ValueError.
    """
    quality = np.asarray(quality, np.float64)
    if quality.shape != (len(image_ids),) or len(set(image_ids)) != len(image_ids):
        raise ValueError('image_ids must be unique and as many as quality values.')
    if not ((quality >= 0) & (quality <= 100)).all():
        raise ValueError('quality must be in 0..100 and not NaN.')
    if not 1 <= votes_per_image <= raters:
        raise ValueError(f'votes_per_image must be in 1..raters={raters}, not {votes_per_image}.')
    names = np.array([f'simulated_{number:03d}' for number in range(raters)], object)
    bias = bias_std * _normal(_many_keys(seed, 'bias', names=names))
    noise = noise_std * np.exp(_NOISE_SPREAD * _normal(_many_keys(seed, 'noise', names=names)))
    spammer = _uniform(_many_keys(seed, 'spammer', names=names)) < spammer_fraction

    def trials(purpose):  # uint64 [N, raters]
        images = _many_keys(seed, purpose, names=image_ids)
        return images[:, None] ^ _many_keys(seed, purpose, names=names)

    votes = quality[:, None] + bias + noise * _normal(trials('vote'))
    votes = np.where(spammer, 100 * _uniform(trials('spam')), votes.clip(0, 100))
    panel = np.argsort(_uniform(trials('panel')), axis=1)[:, :votes_per_image]
    image = np.repeat(np.arange(len(quality)), votes_per_image)
    rater = panel.reshape(-1)
    order = np.lexsort((_uniform(trials('session'))[image, rater], rater))
    image, rater = image[order], rater[order]
    first = np.searchsorted(rater, np.arange(raters))
    return {
        'rater_id': names[rater],
        'image_id': np.array(image_ids, object)[image],
        'trial': (np.arange(len(rater)) - first[rater]).astype(np.int32),
        'vote': votes[image, rater].astype(np.float32),
        'simulated': np.ones(len(rater), bool),
    }
