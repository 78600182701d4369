"""The table of databases; adding one is a reader and a row here."""

import dataclasses
from collections.abc import Callable

from iqa_jax.data.databases import (
    authentic,
    csiq,
    kadis700k,
    konstanz,
    pipal,
    plain,
    texas,
    tid2013,
    waterloo,
)


@dataclasses.dataclass(frozen=True)
class Database:
    """One published database.

    `read(folder, options)` gives a `layout.Found`. `references` and `images` are the official
    numbers, None where any is right. `scale` is (worst, best) opinion in the database's own units,
    which become 0 and 100; None where nobody rated, or the user has to say it. `spread` says what
    its column of spread holds: 'std', 'variance' or 'none'. `layout` names the official files.
    """

    name: str
    title: str
    read: Callable
    references: int | None
    images: int | None
    scale: tuple[float, float] | None
    layout: str
    homepage: str = ''
    citation: str = ''
    terms: str = 'read them on its page'
    spread: str = 'std'


_ROWS = (
    Database(
        'kadis700k',
        'KADIS-700k',
        kadis700k.read_kadis700k,
        140_000,
        700_000,
        None,
        'kadis700k_ref_imgs.csv, ref_imgs/, kadis700k_friqa.csv',
        'http://database.mmsp-kn.de/kadid-10k-database.html',
        'Lin, Hosu, Saupe: DeepFL-IQA, arXiv 2001.08113, 2020',
    ),
    Database(
        'kadid10k',
        'KADID-10k',
        konstanz.read_kadid10k,
        81,
        10_125,
        (1, 5),
        'dmos.csv, images/',
        'http://database.mmsp-kn.de/kadid-10k-database.html',
        'Lin, Hosu, Saupe: KADID-10k, QoMEX 2019',
        spread='variance',
    ),
    Database(
        'tid2013',
        'TID2013',
        tid2013.read_tid2013,
        25,
        3_000,
        (0, 9),
        'mos_with_names.txt, mos_std.txt, distorted_images/, reference_images/',
        'http://www.ponomarenko.info/tid2013.htm',
        'Ponomarenko et al.: Image database TID2013, Signal Processing: Image Communication 2015',
    ),
    Database(
        'live',
        'LIVE release 2',
        texas.read_live,
        29,
        779,
        (100, 0),
        'dmos_realigned.mat, refnames_all.mat, refimgs/, jp2k/, jpeg/, wn/, gblur/, fastfading/',
        'https://live.ece.utexas.edu/research/quality/subjective.htm',
        'Sheikh, Sabir, Bovik: A statistical evaluation, IEEE Trans. Image Processing 2006',
        'its copyright notice goes with every copy, and the laboratory is acknowledged',
    ),
    Database(
        'csiq',
        'CSIQ',
        csiq.read_csiq,
        30,
        866,
        (1, 0),
        'csiq.DMOS.xlsx, src_imgs/, dst_imgs/',
        '',
        'Larson, Chandler: Most apparent distortion, Journal of Electronic Imaging 2010',
    ),
    Database(
        'live_challenge',
        'LIVE In the Wild Challenge',
        texas.read_live_challenge,
        0,
        1_169,
        (0, 100),
        'Data/AllImages_release.mat, AllMOS_release.mat, AllStdDev_release.mat, Images/',
        'https://live.ece.utexas.edu/research/ChallengeDB/index.html',
        'Ghadiyaram, Bovik: Massive Online Crowdsourced Study, IEEE Trans. Image Processing 2016',
    ),
    Database(
        'koniq10k',
        'KonIQ-10k',
        konstanz.read_koniq10k,
        0,
        10_073,
        (1, 100),
        'koniq10k_distributions_sets.csv or koniq10k_scores_and_distributions.csv, '
        '1024x768/ or 512x384/',
        'http://database.mmsp-kn.de/koniq-10k-database.html',
        'Hosu, Lin, Sziranyi, Saupe: KonIQ-10k, IEEE Trans. Image Processing 2020',
    ),
    Database(
        'bid',
        'BID',
        authentic.read_bid,
        0,
        586,
        (0, 5),
        'DatabaseGrades.xlsx, DatabaseImage0001.JPG and on',
        '',
        'Ciancio et al.: No-reference blur assessment, IEEE Trans. Image Processing 2011',
    ),
    Database(
        'spaq',
        'SPAQ',
        authentic.read_spaq,
        0,
        11_125,
        (0, 100),
        'Annotations/MOS and Image attribute scores.xlsx, TestImage/',
        'https://github.com/h4nwei/SPAQ',
        'Fang et al.: Perceptual Quality Assessment of Smartphone Photography, CVPR 2020',
    ),
    Database(
        'biq2021',
        'BIQ2021',
        authentic.read_biq2021,
        0,
        12_000,
        (0, 1),
        'Train (Images and MOS).csv, Test (Images and MOS).csv, Images/',
        'https://github.com/nisarahmedrana/BIQ2021',
        'Ahmed, Asif: BIQ2021, Journal of Electronic Imaging 2022',
        'none stated by its authors',
    ),
    Database(
        'pipal',
        'PIPAL, training part',
        pipal.read_pipal,
        200,
        23_200,
        (800, 1900),  # Elo has no ends; these are round numbers around the ratings there are
        'Train_Ref/, Train_Dist/ or Distortion_1/ to Distortion_4/, Train_Label/',
        'https://github.com/HaomingCai/PIPAL-dataset',
        'Gu et al.: PIPAL, ECCV 2020',
    ),
    Database(
        'waterloo',
        'Waterloo Exploration',
        waterloo.read_waterloo,
        0,
        4_744,
        None,
        'pristine_images/',
        'https://ece.uwaterloo.ca/~k29ma/exploration/',
        'Ma et al.: Waterloo Exploration Database, IEEE Trans. Image Processing 2017',
    ),
    Database(
        'folder',
        'a folder and a table',
        plain.read_folder,
        None,
        None,
        None,
        'pictures and a CSV or Parquet table with file and mos',
        terms='yours',
    ),
)

DATABASES: dict[str, Database] = {row.name: row for row in _ROWS}


def get(name: str) -> Database:
    """The database of that name; raises a ValueError that lists those there are."""
    if name not in DATABASES:
        raise ValueError(f'config.name={name!r} is no database; known are {", ".join(DATABASES)}.')
    return DATABASES[name]
