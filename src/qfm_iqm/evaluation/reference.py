"""Computes a model's reference statistics: percentile, interval, out-of-distribution detector.

All three are computed on rated photos that the model was not trained on, so that they also hold for
new photos of that kind. The photos are divided into halves by content: how often the interval holds
is measured on each half by the interval of the other; one half sets the detector's limit, and the
other measures how often it is wrong.

Shapes: N images, F pixel statistics.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from qfm_iqm.arrays import Doubles, Indices
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.evaluate import Progress, score_rated
from qfm_iqm.image.decode import in_eight_bits, read_image
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.pixel_features import NAMES, pixel_statistics
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import distort_tensor, resize_and_pad
from qfm_iqm.metrics.calibration import conformal_half_widths, coverage
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.reference import Interval, OODDetector, ReferenceStatistics

Watch = Callable[[Iterator[list[Doubles]], int], Iterator[list[Doubles]]]

QUANTILES = 101
SOFT = 20  # one in this many training photos is also used as a blurred copy
FALSE_ALARMS = 0.015  # target share of photos that are marked out of distribution
SEEN = 1000  # most training photos used to fit the detector
LEAST = 100  # fewest images for reference statistics
_SHRINKAGE = 0.05  # shrinkage of the estimated correlations towards zero


def find_reference_statistics(
    model: QualityModel,
    held_out: RatedTable,
    root: Path,
    *,
    seen: RatedTable,
    population: str,
    level: float = 0.9,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> ReferenceStatistics:
    """Computes a model's reference statistics.

    Args:
        model: the model; existing reference statistics in its card are not used.
        held_out: rated photos that the model was not trained on.
        root: base folder of the names.
        seen: training photos; the detector is fitted on at most `SEEN` of them.
        population: description of `held_out`.
        level: target coverage of the interval.
        device: a torch device name; None takes a GPU if there is one.
        progress: wraps the iterator over score rows; also gets their number.
        watch: wraps the iterator over pixel statistics; also gets their number.

    Raises:
        TableError: there are fewer than 100 photos, no labels, or unreadable photos.
    """
    if len(held_out) < LEAST:
        raise TableError(
            f"Reference statistics need at least {LEAST} held-out photos, and "
            f"{held_out.source} has {len(held_out)}."
        )
    rows = score_rated(model, held_out, root, device=device, progress=progress)
    scores = np.array([row.score for row in rows], dtype=np.float64)
    setting, checking = halves(held_out)
    assert held_out.mos is not None
    interval = find_interval(held_out.mos, scores, (setting, checking), level)
    drawn = np.random.default_rng(0).permutation(len(seen))[:SEEN]
    paths = [
        *held_out.select(setting).paths(root),
        *held_out.select(checking).paths(root),
        *seen.select(np.sort(drawn)).paths(root),
    ]
    coming = statistics_of(paths, model.card.preprocessing, soft_from=len(held_out))
    found = list(watch(coming, len(paths)) if watch else coming)
    own_NF = np.array([rows_of[0] for rows_of in found[: len(held_out)]])
    known_NF = np.array([row for rows_of in found[len(held_out) :] for row in rows_of])
    return ReferenceStatistics(
        population=population,
        images=len(scores),
        quantiles=_floats(np.quantile(scores, np.linspace(0, 1, QUANTILES))),
        interval=interval,
        ood_detector=fit_ood_detector(known_NF, own_NF[: len(setting)], own_NF[len(setting) :]),
    )


def halves(table: RatedTable) -> tuple[Indices, Indices]:
    """The rows of two halves of a table without shared content, divided by hash of the content."""
    halves = split_by_content(table, test=0.5, validation=0).indices(table)
    return halves["test"], halves["train"]


def find_interval(
    mos: Doubles, scores: Doubles, two_halves: tuple[Indices, Indices], level: float
) -> Interval:
    """Computes the interval, and its coverage by cross-validation.

    Args:
        mos: labels (N,) of held-out photos.
        scores: the model's scores (N,), in label units.
        two_halves: rows of each half of the photos; an interval from one is measured on the other.
        level: target coverage of the interval.
    """
    inside = 0.0
    for setting, checking in (two_halves, two_halves[::-1]):
        ends = interval_of(mos[setting], scores[setting], level).ends(scores[checking])
        inside += coverage(mos[checking], *ends)[0] * len(checking)
    found = interval_of(mos, scores, level)
    return found.model_copy(update={"coverage": inside / len(mos)})


def interval_of(mos: Doubles, scores: Doubles, level: float) -> Interval:
    """The interval that follows from labels (N,) and scores (N,) of held-out photos."""
    knots, half_widths = conformal_half_widths(scores, mos - scores, level)
    return Interval(
        level=level,
        images=len(scores),
        scores=_floats(knots),
        half_widths=_floats(half_widths),
        half_width=float(f"{np.interp(scores, knots, half_widths).mean():.7g}"),
    )


def fit_ood_detector(known_NF: Doubles, setting_NF: Doubles, checking_NF: Doubles) -> OODDetector:
    """Fits the out-of-distribution detector.

    Args:
        known_NF: pixel statistics of the photos for mean and covariance.
        setting_NF: pixel statistics of other photos; a share `FALSE_ALARMS` of them may lie beyond
            the limit.
        checking_NF: pixel statistics of further photos, for measuring the false alarms.
    """
    mean, deviation = known_NF.mean(0), known_NF.std(0) + 1e-6
    standard_NF = (known_NF - mean) / deviation
    correlation_FF = standard_NF.T @ standard_NF / len(standard_NF)
    correlation_FF += _SHRINKAGE * (np.eye(len(mean)) - correlation_FF)
    strengths, directions_FF = np.linalg.eigh(correlation_FF)
    whitening_FF = (directions_FF / np.sqrt(strengths)).T / deviation
    setting_N, checking_N = (
        np.linalg.norm((rows_NF - mean) @ whitening_FF.T, axis=1)
        for rows_NF in (setting_NF, checking_NF)
    )
    limit = float(np.quantile(setting_N, 1 - FALSE_ALARMS, method="higher"))
    return OODDetector(
        names=NAMES,
        mean=_floats(mean),
        whitening=tuple(_floats(row) for row in whitening_FF),
        limit=limit,
        false_alarms=float((checking_N > limit).mean()),
        images=len(known_NF),
        checked=len(checking_NF),
    )


def statistics_of(
    paths: Sequence[Path], preprocessing: Preprocessing, *, soft_from: int
) -> Iterator[list[Doubles]]:
    """Yields pixel statistics (F,) of files at a model's working size, in order.

    Args:
        paths: image files.
        preprocessing: the model's preprocessing.
        soft_from: from this index on, every twentieth photo is also used as a blurred copy, because
            photos out of focus are in distribution.

    Yields:
        For each file, its statistics and those of its blurred copy, if there is one.

    Raises:
        ImageError: a file cannot be read.
    """

    def look(place: int) -> list[Doubles]:
        image_CHW = resize_and_pad(read_image(paths[place]), preprocessing)
        images = [image_CHW]
        soft = place - soft_from
        if soft >= 0 and soft % SOFT == 0:
            kind, level = ("gaussian blur", "resample")[soft // SOFT % 2], 3 + soft // SOFT // 2 % 2
            images.append(distort_tensor(image_CHW, kind, level))
        return [pixel_statistics(in_eight_bits(image.numpy())) for image in images]

    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        yield from pool.map(look, range(len(paths)))


def _floats(values: Doubles) -> tuple[float, ...]:
    """Values for a card, rounded to seven significant digits."""
    return tuple(float(f"{value:.7g}") for value in values)
