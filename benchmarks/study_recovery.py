"""How well votes of SIMULATED panels give back the hidden quality, the spammers and the intervals.

    python benchmarks/study_recovery.py                     # quality over 15..85, noise 10
    python benchmarks/study_recovery.py --range=15          # images much alike: 35..65
    python benchmarks/study_recovery.py --spammers=0.25

For each design, over seeded panels: spammers found and honest raters blamed by `spammers.find`;
root mean square error of each method after removing the panel's common level, which no vote tells;
in how many panels maximum likelihood beats the plain mean; and how many 95 % intervals hold the
truth. Prints a table in Markdown.
"""

import argparse

import numpy as np

from iqa_jax.study import panel, scaling, spammers

DESIGNS = (  # raters, images, votes per image
    (15, 20, 15), (15, 60, 15), (15, 200, 15), (24, 20, 24), (24, 60, 24), (24, 200, 24),
    (24, 60, 12), (24, 200, 8), (40, 20, 40), (40, 60, 40), (40, 200, 40), (40, 60, 15),
    (40, 200, 10), (40, 200, 5),
)  # fmt: skip
METHODS = (
    ('mean', False), ('bias_bt500', False), ('zscore', False), ('ml', False), ('ml', True),
)  # fmt: skip
INTERVALS = (('bias_bt500', False), ('ml', True))


def true_spammers(ids: list[str], quality: np.ndarray, rules: dict) -> tuple[dict, set[str]]:
    """Votes, and who made them up: whose votes differ from those of the panel without spammers."""
    votes = panel.simulate_votes(ids, quality, **rules)
    honest = panel.simulate_votes(ids, quality, **rules | {'spammer_fraction': 0.0})
    return votes, set(votes['rater_id'][votes['vote'] != honest['vote']].tolist())


def one_panel(design: tuple[int, int, int], options, seed: int) -> dict:
    """Counts, errors and coverages of one panel."""
    raters, images, each = design
    rng = np.random.default_rng([seed, raters, images])
    quality = rng.uniform(50 - options.range, 50 + options.range, images)
    rules = {'raters': raters, 'bias_std': 6.0, 'noise_std': options.noise, 'seed': seed}
    rules |= {'spammer_fraction': options.spammers, 'votes_per_image': each}
    votes, guilty = true_spammers([f'i{i:03d}' for i in range(images)], quality, rules)
    found = spammers.find(votes)
    truth = np.isin(found['rater_id'].astype(str), sorted(guilty))
    errors, inside = {}, {}
    for method, drop in METHODS:
        table = scaling.mos_from_votes(votes, method=method, drop_spammers=drop)[0]
        if method == 'zscore':  # its own scale: the line that fits the truth best
            known = np.isfinite(table['mos'])
            line = np.polyfit(table['mos'][known], quality[known], 1)
            errors[method, drop] = np.sqrt(
                np.nanmean((np.polyval(line, table['mos']) - quality) ** 2)
            )
            continue
        shift = np.nanmean(table['mos'] - quality)
        errors[method, drop] = np.sqrt(np.nanmean((table['mos'] - shift - quality) ** 2))
        if (method, drop) in INTERVALS:
            held = (table['low'] - shift < quality) & (quality < table['high'] - shift)
            inside[method, drop] = held[np.isfinite(table['low'])].mean()
    flagged = found['spammer']
    return {
        'spammers': truth.sum(),
        'honest': (~truth).sum(),
        'hits': (flagged & truth).sum(),
        'blamed': (flagged & ~truth).sum(),
        'errors': [errors[key] for key in METHODS],
        'inside': [inside[key] for key in INTERVALS],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--panels', type=int, default=40)
    parser.add_argument('--range', type=float, default=35.0, help='of quality about 50')
    parser.add_argument('--noise', type=float, default=10.0)
    parser.add_argument('--spammers', type=float, default=0.1)
    options = parser.parse_args()
    name = {False: '', True: ' less spammers'}
    heads = [f'{method}{name[drop]}' for method, drop in METHODS]
    print('| raters | images | votes each | found | blamed |', ' | '.join(heads), end=' | ')
    print('ml beats mean |', ' | '.join(f'in 95 %: {m}{name[d]}' for m, d in INTERVALS), '|')
    print('|' + '---|' * (6 + len(METHODS) + len(INTERVALS)))
    for design in DESIGNS:
        done = [one_panel(design, options, seed) for seed in range(options.panels)]
        total = {key: sum(x[key] for x in done) for key in ('spammers', 'honest', 'hits', 'blamed')}
        errors = np.array([x['errors'] for x in done])
        cells = [
            *map(str, design),
            f'{100 * total["hits"] / total["spammers"]:.0f} % of {total["spammers"]}',
            f'{100 * total["blamed"] / total["honest"]:.1f} % of {total["honest"]}',
            *(f'{value:.2f}' for value in errors.mean(0)),
            f'{100 * (errors[:, 3] < errors[:, 0]).mean():.0f} %',
            *(f'{100 * x:.0f} %' for x in np.mean([x['inside'] for x in done], axis=0)),
        ]
        print('| ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
    main()
