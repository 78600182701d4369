"""Figures of gMAD pairs beside their table: two models against each other, and contact sheets."""

from pathlib import Path

import numpy as np

from iqa_jax.data import tables
from iqa_jax.data.store import ImageStore
from iqa_jax.evaluation.figures_contact_sheet import contact_sheet
from iqa_jax.evaluation.figures_contests import figures_to_draw
from iqa_jax.evaluation.figures_pairs import pair_figure
from iqa_jax.runtime import artifacts


def draw(
    config: dict, pool: tables.Table | None, pairs: tables.Table, workdir: Path, fingerprint: str
) -> tuple[list[Path], dict[str, str], int]:
    """Writes `config.figures` figures and, with `config.sheets`, all pairs on contact sheets.

    Returns:
      (files written, id -> reason of images that could not be shown, figures left out).

    Raises:
      ValueError: figures are asked for without a manifest that says where the images are.
    """
    if not config['figures'] and not config['sheets']:
        return [], {}, 0
    if pool is None:
        raise ValueError(
            'config.figures and config.sheets need config.manifest, which says where the images '
            'are; without one set them to 0 and False.'
        )
    store = ImageStore(pool)
    row_of = {image_id: row for row, image_id in enumerate(pool['image_id'].tolist())}

    def load(image_id: str) -> np.ndarray:
        return store.load([row_of[image_id]])[0]

    levels = config['levels'] if isinstance(config['levels'], int) else None
    written, missing = [], {}

    def keep(name: str, drawn: dict) -> None:
        missing.update({entry['file']: entry['reason'] for entry in drawn['missing']})
        written.append(workdir / 'figures' / f'{name}.png')
        artifacts.commit(written[-1], drawn['png'], fingerprint=fingerprint)

    figures, left = figures_to_draw(pairs, levels=levels, limit=config['figures'])
    for number, figure in enumerate(figures, 1):
        keep(f'pair_{number:03d}', pair_figure(figure, load, levels=levels))
    if config['sheets']:
        for number, page in enumerate(contact_sheet(pairs, load, levels=levels), 1):
            keep(f'sheet_{number:02d}', page)
    return written, missing, left
