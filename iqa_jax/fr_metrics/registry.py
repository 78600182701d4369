"""The table of full-reference metrics; a new metric is one file and one row."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from iqa_jax.fr_metrics import bank
from iqa_jax.fr_metrics.bank import Metric
from iqa_jax.fr_metrics.fsim import fsim
from iqa_jax.fr_metrics.gmsd import gmsd
from iqa_jax.fr_metrics.haarpsi import haarpsi, haarpsi_gray
from iqa_jax.fr_metrics.iw_ssim import iw_ssim
from iqa_jax.fr_metrics.mdsi import mdsi
from iqa_jax.fr_metrics.nlpd import nlpd
from iqa_jax.fr_metrics.psnr import psnr, psnr_gray
from iqa_jax.fr_metrics.sff import sff
from iqa_jax.fr_metrics.sr_sim import sr_sim
from iqa_jax.fr_metrics.ssim import ms_ssim, ssim
from iqa_jax.fr_metrics.vif import vif
from iqa_jax.fr_metrics.vifp import vifp
from iqa_jax.fr_metrics.vsi import vsi

VERIFIED = "verified: equals the authors' code and published MATLAB values"
RUN = "original run: equals the authors' code; no independent MATLAB value is known"

_ssim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(-1.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=False,
    min_side=11,
    below_min_side=-math.inf,
    source='Wang, Bovik, Sheikh and Simoncelli, TIP 2004; ssim.m (2009)',
    status=VERIFIED,
)
_ms_ssim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=False,
    min_side=176,
    below_min_side=-math.inf,
    source='Wang, Simoncelli and Bovik, Asilomar 2003; msssim.m',
    status="verified: equals the authors' code; the product clamps negative means at 0",
)
_gmsd = functools.partial(
    Metric,
    higher_is_better=False,
    range=(0.0, 1.0),
    ideal=0.0,
    symmetric=True,
    colour=False,
    min_side=3,
    source='Xue, Zhang, Mou and Bovik, TIP 2014; GMSD.m',
    status=VERIFIED,
)
_mdsi = functools.partial(
    Metric,
    higher_is_better=False,
    range=(0.0, 1.0),
    ideal=0.0,
    symmetric=False,
    colour=True,
    min_side=2,
    source='Ziaei Nafchi, Shahkolaei, Hedjam and Cheriet, IEEE Access 2016; MDSI.m',
    status=VERIFIED,
)
_fsim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=True,
    min_side=3,
    source='Zhang, Zhang, Mou and Zhang, TIP 2011; FeatureSIM.m',
    status=VERIFIED,
)
_haarpsi = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=True,
    min_side=2,
    source='Reisenhofer, Bosse, Kutyniok and Wiegand, SPIC 2018; HaarPSI.m',
    status="verified: equals the authors' code and a published MATLAB value",
)
_psnr = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, math.inf),
    ideal=math.inf,
    symmetric=True,
    colour=True,
    min_side=2,
    source='10 log10(255^2 / mean squared error)',
    status='verified: equals published MATLAB values',
)
_vsi = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=True,
    min_side=2,
    source='Zhang, Shen and Li, TIP 2014; VSI.m with its SDSP saliency',
    status=RUN,
)
_sr_sim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=True,
    colour=True,
    min_side=5,
    source='Zhang and Li, ICIP 2012; SR_SIM.m',
    status=VERIFIED,
)
_sff = functools.partial(
    Metric,
    higher_is_better=True,
    range=(-1.0, 1.0),
    ideal=1.0,
    symmetric=False,
    colour=True,
    min_side=9,
    source='Chang, Yang, Gan and Wang, TIP 2013; SFF package 2.0',
    status=RUN,
)
_vifp = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, math.inf),
    ideal=1.0,
    symmetric=False,
    colour=False,
    min_side=41,
    source='Sheikh and Bovik, TIP 2006; vifp_mscale.m',
    status=VERIFIED,
)
_vif = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, math.inf),
    ideal=1.0,
    symmetric=False,
    colour=False,
    min_side=72,
    below_min_side=math.nan,
    source="Sheikh and Bovik, TIP 2006; vifvec.m with matlabPyrTools' sp5Filters",
    status=VERIFIED,
)
_iw_ssim = functools.partial(
    Metric,
    higher_is_better=True,
    range=(0.0, 1.0),
    ideal=1.0,
    symmetric=False,
    colour=False,
    min_side=176,
    below_min_side=-math.inf,
    source='Wang and Li, TIP 2011; iwssim.m',
    status="verified: equals the authors' code and published MATLAB values; the product clamps "
    'negative means at 0',
)
_nlpd = functools.partial(
    Metric,
    higher_is_better=False,
    range=(0.0, math.inf),
    ideal=0.0,
    symmetric=True,
    colour=False,
    min_side=2,
    source='Laparra, Balle, Berardino and Simoncelli, Electronic Imaging 2016; NLP_dist.m',
    status=VERIFIED,
)

METRICS = {
    metric.name: metric
    for metric in (
        _ssim('ssim', ssim),
        _ssim('ssim_fullres', functools.partial(ssim, downsample=False)),
        _ssim('ssim_floatgray', functools.partial(ssim, rounded=False), status=RUN),
        _ms_ssim('ms_ssim', ms_ssim, status=RUN),
        _ms_ssim('ms_ssim_floatgray', functools.partial(ms_ssim, rounded=False), status=RUN),
        _ms_ssim('ms_ssim_wtdsum', functools.partial(ms_ssim, product=False), range=(-1.0, 1.0)),
        _iw_ssim('iw_ssim', iw_ssim),
        _iw_ssim('iw_ssim_floatgray', functools.partial(iw_ssim, rounded=False), status=RUN),
        _gmsd('gmsd', gmsd),
        _gmsd('gmsd_floatgray', functools.partial(gmsd, rounded=False), status=RUN),
        _mdsi('mdsi', mdsi),
        _mdsi('mdsi_mult', functools.partial(mdsi, weighted_sum=False)),
        _fsim('fsim', fsim, status=RUN),
        _fsim('fsimc', functools.partial(fsim, chromatic=True)),
        _haarpsi('haarpsi', haarpsi),
        _haarpsi('haarpsi_gray', haarpsi_gray, colour=False, status=RUN),
        _haarpsi('haarpsi_nosub', functools.partial(haarpsi, subsample=False), status=RUN),
        _vsi('vsi', vsi),
        _sr_sim('sr_sim', sr_sim),
        _sff('sff', sff),
        _vifp('vifp', vifp),
        _vifp('vifp_floatgray', functools.partial(vifp, rounded=False)),
        _vif('vif', vif),
        _vif('vif_floatgray', functools.partial(vif, rounded=False), status=RUN),
        _psnr('psnr', psnr),
        _psnr('psnr_gray', psnr_gray, colour=False, status=RUN),
        _psnr(
            'psnr_floatgray', functools.partial(psnr_gray, rounded=False), colour=False, status=RUN
        ),
        _nlpd('nlpd', nlpd),
        _nlpd('nlpd_floatgray', functools.partial(nlpd, rounded=False), status=RUN),
        _nlpd('lpd', functools.partial(nlpd, normalized=False), status=RUN),
    )
}


def metric(name: str, *, policy: str = 'safe') -> Metric:
    """The metric called `name`; raises ValueError for an unknown name or policy.

    With the 'safe' policy nothing is NaN: where the original divides 0 by 0, as many do for flat
    images, equal images score the ideal value. 'parity' gives what the original gives, NaN and
    -Inf included. Images too small for a metric are an error, but where the original answers them
    'parity' does too.
    """
    if name not in METRICS:
        raise ValueError(f'unknown metric {name!r}; the known ones are {", ".join(METRICS)}')
    if policy not in bank.POLICIES:
        raise ValueError(f'policy must be one of {", ".join(bank.POLICIES)}, not {policy!r}')
    if policy == 'safe':
        return METRICS[name]
    return dataclasses.replace(METRICS[name], policy=policy)


def metrics(
    names: Sequence[str], *, policy: str = 'safe'
) -> Callable[[bank.Images, bank.Images], bank.Scores]:
    """A function like a Metric that scores all `names` in one compiled pass: dict of float32 [N].

    Raises ValueError for unknown names, and when called for what a Metric refuses.
    """
    if isinstance(names, str):
        raise ValueError(f'metrics() takes a list of names; for one it is [{names!r}]')
    wanted = tuple(dict.fromkeys(str(name) for name in names))
    if not wanted:
        raise ValueError('metrics() needs at least one name')
    for name in wanted:
        metric(name, policy=policy)  # refuses what is not known
    return functools.partial(bank.scorer(tuple(METRICS[name] for name in wanted)), policy=policy)
