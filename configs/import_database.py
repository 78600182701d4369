"""A rated database in its official layout, or any folder with a table, as the one manifest.

    python -m iqa_jax.main --config configs/import_database.py --workdir runs/quickstart/imported

reads a table of pictures and opinions, here the one of the quickstart's study.
`--config.name=kadid10k --config.folder=DIR` reads a database by its name; docs/import_database.md
lists them. Nothing is copied: the manifest names your files.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """arg: '' or 'smoke'."""
    return ConfigDict(
        {
            'task': 'import_database',
            'root': '',
            'name': 'folder',  # | 'kadid10k', 'tid2013', 'live', 'csiq', 'koniq10k', ...
            'folder': 'runs/quickstart/rate',
            'table': 'rated.parquet',  # of 'folder' only; '': the folder's only CSV
            'database': '',  # begins ids; '': config.name; a 'folder' without ids must have one
            # --- opinions ---
            'scale': (),  # (worst, best) of the table, of 'folder' only; (): a manifest's 0, 100
            'spread': '',  # | 'std', 'variance', 'none': what its column holds; '': as known
            # --- splits ---
            'splits': 'official',  # where there are any | 'dealt'
            'split_shares': (7, 1, 2, 0),  # train, val, test, pool, by reference content
            'seed': 0,
            # --- checks ---
            'check': 'decode',  # every picture | 'digest': its bytes | 'presence'
            'allow_partial': False,  # True: other numbers than the official ones are a warning
            'tripwire_pairs': 64,  # scored to see whether opinions are flipped; 0: none
            'threads': 2,
            # --- of the authors' scores (KADIS-700k) ---
            'equalisation': 'histogram',  # | 'minmax' | 'none'
            'knots': 256,
            # --- also as a TensorFlow Datasets data set, in ArrayRecord files ---
            'array_record': arg == 'smoke',
        }
    )
