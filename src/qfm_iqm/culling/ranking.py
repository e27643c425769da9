"""Ranks the photos of a moment, and explains the ranking in words.

The better of two photos of the same subject has the higher merit, a weighted sum of its score and
its measures. The weights are from a Bradley-Terry model, fitted on pairs of photos of one moment of
which people clearly prefer one (benchmarks/culling.py --fit): with merits u, a photo is preferred
with probability 1 / (1 + exp(u_other - u_own)).

Reasons name visible differences: a second such model, of the measures without the score, tells how
much sharpness, noise, ... explain. If none explains enough, the score is the reason.

Shapes: P photos of a moment, M measures, T topics.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.culling.measures import NAMES, TOPICS
from qfm_iqm.culling.moments import Limits

PARAMETERS = "parameters.json"
SCORE = "score"
INPUTS = (SCORE, *NAMES)
LEVEL = 0.4  # photos whose merits differ by less count as equal (a preference of 60 %)

_WORDS = {
    "sharpness": ("sharper", "less sharp"),
    "noise": ("less noisy", "noisier"),
    "artifacts": ("less compressed", "more compressed"),
    "exposure": ("better exposed", "less well exposed"),
    "color": ("better in contrast and color", "weaker in contrast and color"),
}
_SCORED = ("a higher score", "a lower score")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Ranking:
    """The parameters for ranking photos of one moment.

    Attributes:
        weights: weights of the score and of each measure (`INPUTS`), for the merit.
        seen: weights of the measures, for the reason.
        limits: limits for photos of one moment.
    """

    weights: Doubles
    seen: Doubles
    limits: Limits

    def merits(self, points_P: Doubles, measures_PM: Doubles) -> Doubles:
        """The merits (P,) of the photos of a moment.

        Args:
            points_P: scores, from 0 (worst) to 100 (best).
            measures_PM: measures (`culling.measures`); NaN for a photo that was not measured, for
                which only the score counts.
        """
        return _beside_mean(np.column_stack([points_P, measures_PM])) @ self.weights

    def explained(self, measures_PM: Doubles) -> Doubles:
        """The contribution (P, T) of each topic to each photo's merit, from the measures."""
        weighted = _beside_mean(measures_PM) * self.seen
        places = [[NAMES.index(name) for name in names] for names in TOPICS.values()]
        return np.column_stack([weighted[:, place].sum(1) for place in places])


def _beside_mean(values_PV: Doubles) -> Doubles:
    """Values minus the mean of the known ones; 0 for unknown ones."""
    known = np.isfinite(values_PV)
    mean = np.where(known, values_PV, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, values_PV - mean, 0)


@cache
def load_ranking() -> Ranking:
    """The ranking in the package."""
    return ranking_of(json.loads(resources.files(__package__).joinpath(PARAMETERS).read_text()))


def ranking_of(parameters: Mapping[str, Any]) -> Ranking:
    """A ranking from parameters in the format of `PARAMETERS`."""
    weights = np.array([parameters["weights"][name] for name in INPUTS], np.float64)
    seen = np.array([parameters["reasons"][name] for name in NAMES], np.float64)
    return Ranking(weights, seen, Limits(**parameters["limits"]))


def order_of(merits_P: Doubles) -> list[int]:
    """The photos of a moment, best first; among equals, the earlier first."""
    order: list[int] = np.argsort(-merits_P.round(9), kind="stable").tolist()
    return order


def reason(
    merits_P: Doubles, explained_PT: Doubles, photo: int, order: Sequence[int], best: str
) -> str:
    """Why a photo is kept or not.

    Args:
        merits_P: merits of the moment's photos.
        explained_PT: contributions of the topics.
        photo: index of the photo.
        order: indices of the photos, best first.
        best: name of the best photo, for the reasons of the others.

    Returns:
        A phrase, such as "sharper than the other three".
    """
    if len(order) == 1:
        return "the only photo of its moment"
    if photo != order[0]:
        if merits_P[order[0]] - merits_P[photo] < LEVEL:
            return f"about as good as {best}"
        ahead_T = explained_PT[order[0]] - explained_PT[photo]
        topic = int(ahead_T.argmax())
        words = list(_WORDS.values())[topic] if ahead_T[topic] >= LEVEL else _SCORED
        return f"{words[1]} than {best}"
    others = [other for other in order if other != photo]
    rest = f"the other {_number(len(others))}" if len(others) > 1 else "the other"
    if merits_P[photo] - merits_P[others].max() < LEVEL and len(others) == 1:
        return f"about as good as {rest}"
    ahead_OT = explained_PT[photo] - explained_PT[others]
    topic = int(ahead_OT.mean(0).argmax())
    behind = int((ahead_OT[:, topic] >= LEVEL).sum())
    if behind == 0:
        alike = bool(merits_P[photo] - merits_P[others].min() < LEVEL)
        return f"about as good as {rest}" if alike else f"{_SCORED[0]} than {rest}"
    who = rest if behind == len(others) else f"{_number(behind)} of {rest}"
    return f"{list(_WORDS.values())[topic][0]} than {who}"


def _number(value: int) -> str:
    return _NUMBERS[value] if value < len(_NUMBERS) else str(value)
