"""The report: one self-contained HTML file from one plain dict.

`render(context)` draws every figure and fills `report.html`. The page fetches nothing, runs no
script, follows the reader's light or dark theme and gives the same bytes for the same context.

The context. Required: `title` (str) and `simulated` (bool: the ratings come from the simulated
panel). The rest is optional; a section without data says so. An *interval* is (value, low, high),
NaN where unknown. `simulated` inside a part overrides the top one for that part.

    title, simulated
    subtitle       str, one or two sentences under the title
    facts          {label: str}, small print of the header (date, device, config)
    tiles          [{'label', 'value': interval | float, 'kind': 'score'|'percent'|'count'|
                   'seconds', 'before': interval | float (optional), 'note', 'simulated'}]
    stages         [{'name', 'does', 'seconds': float, 'counts': {label: int},
                   'repeats': bool (part of every active round)}], in order
    gallery        {'reference': uint8 [H, W, 3], 'rows': [{'number': int, 'name', 'note',
                   'images': [uint8 [H, W, 3]] * 5 (levels 1..5)}]}
    proxies        {metric: {'raw': [N], 'equalised': [N], 'higher_is_better': bool}}
    training       [{'name', 'curves': {'loss'|'val_srcc'|'disagreement': (steps, values)},
                   'simulated'}]
    results        [{'name': rated set, 'rows': [{'model', 'kind': str such as 'blind model',
                   'srcc', 'krcc', 'plcc' (raw), 'plcc_mapped', 'rmse': intervals, 'n', 'refs',
                   'trained_images', 'trained_references': int or None (optional),
                   'groups': {group of types: {'n', 'srcc': interval}} (optional)}],
                   'simulated'}]
    families       {type: family}, colours of the scatter plots (optional)
    scatters       [{'model', 'set', 'prediction': [N], 'mos': [N], 'type': [N] of str,
                   'target': str, what 'mos' holds (MOS unless given),
                   'curve': (x [M], y [M]) fitted logistic or None, 'simulated'}]
    per_distortion {'types': [T], 'models': [M], 'srcc': [T, M], 'n': [T], 'set': str,
                   'simulated'}
    gmad           [{'round': str (optional), 'defender', 'attacker', 'level': int,
                   'best': picture, 'worst': picture, 'simulated'}],
                   picture = {'image': uint8, 'image_id', 'defender_score', 'attacker_score',
                   'mos', 'mos_std', 'type', 'severity': int}; 'best' is the attacker's best
    hard_examples  [{'image': uint8, 'image_id', 'disagreement', 'type', 'severity'}]
    active         [{'label', 'set', 'measure', 'before': interval, 'after': interval, 'n',
                   'difference': interval of after - before (optional), 'ties', 'unrated',
                   'unscored': pairs that do not count (optional), 'n_before': pairs of the old
                   model where each has its own (optional), 'simulated'}]
    active_history [{'label', 'measure', 'model', 'round': int, 'value': interval, 'n',
                   'simulated'}], every model that was kept on every set
    active_rounds  [{'round': str, 'pairs', 'images', 'ratings', 'raters', 'excluded': counts,
                   'minutes', 'agreement': float, 'pairs_right': interval, 'trained', 'kept': bool,
                   'guard': {name: {'before', 'after': float}}, 'simulated'}]
    active_stopped str, why no further round followed
    observers      [{'name': str, 'summary': {label: str | float}, 'raters': [{'rater', 'votes',
                   'excluded': bool, 'reason', 'srcc', 'bias', 'spread'}], 'simulated'}
    quarantine     [{'stage', 'file', 'reason'}]
    provenance     {'command': str, 'config': dict | str, 'versions': {name: str},
                   'digests': {file: sha256}}
"""

import functools

import jinja2

from iqa_jax.evaluation import page_format, page_sections

SECTIONS = {
    'loop': 'The loop',
    'gallery': 'Distortions',
    'proxies': 'Proxy scores',
    'training': 'Training',
    'results': 'Results',
    'per_distortion': 'By distortion',
    'gmad': 'gMAD pairs',
    'hard_examples': 'Hard examples',
    'active': 'Active rounds',
    'observers': 'Observers',
    'quarantine': 'Quarantine',
    'provenance': 'Provenance',
}
KEYS = {
    *('title', 'subtitle', 'simulated', 'facts', 'tiles', 'stages', 'gallery', 'proxies'),
    *('training', 'results', 'families', 'scatters', 'per_distortion', 'gmad', 'hard_examples'),
    *('active', 'active_history', 'active_rounds', 'active_stopped', 'observers'),
    *('quarantine', 'provenance'),
}


@functools.cache
def _template() -> jinja2.Template:
    """Returns the compiled template; undefined names are errors, every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('iqa_jax.evaluation', ''),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=page_format.number,
        signed=page_format.signed,
        count=page_format.count,
        seconds=page_format.seconds,
        quantity=page_format.quantity,
    )
    return environment.get_template('report.html')


def render(context: dict) -> str:
    """Returns the report as HTML; the context is described in this module's docstring.

    Raises ValueError for an unknown key or a missing `title` or `simulated`.
    """
    unknown = sorted(set(context) - KEYS)
    if unknown:
        raise ValueError(
            f'the report context has no key {unknown[0]!r}; use one of {sorted(KEYS)}.'
        )
    for key in ('title', 'simulated'):
        if key not in context:
            raise ValueError(f'the report context lacks {key!r}; set it.')
    views = page_sections.build(context)
    return _template().render(
        title=context['title'],
        subtitle=context.get('subtitle') or '',
        simulated=bool(context['simulated']),
        facts=context.get('facts') or {},
        sections=SECTIONS,
        **views,
    )
