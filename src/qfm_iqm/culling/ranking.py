"""Which photo of a moment is better, and why, in words.

Of photos that show the same, the better one has the higher merit: a weighted sum of its score and
its measures. The weights are those of a Bradley-Terry model, fitted on pairs of photos of one
moment of which people clearly prefer one (benchmarks/culling.py --fit): with merits u, a photo is
preferred with probability 1 / (1 + exp(u_other - u_own)).

Each measure belongs to a topic. What a topic adds to the merit, beside the other photos, is what
the reason names.

Shapes: P photos of a moment, M measures and the score before them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.culling.measures import NAMES, TOPICS
from qfm_iqm.culling.moments import Limits

Floats = npt.NDArray[np.float64]

PARAMETERS = "parameters.json"
SCORE = "score"
INPUTS = (SCORE, *NAMES)
LEVEL = 0.2  # of merit: photos that differ by less are alike (p = .55)

_WORDS = {
    SCORE: ("better scored", "less well scored"),
    "sharpness": ("sharper", "less sharp"),
    "noise": ("less noisy", "noisier"),
    "artifacts": ("less compressed", "more compressed"),
    "exposure": ("better exposed", "less well exposed"),
    "color": ("better in contrast and color", "weaker in contrast and color"),
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Ranking:
    """How photos of one moment are ranked.

    Attributes:
        weights: of the score and of each measure (`INPUTS`).
        limits: when photos are of one moment.
    """

    weights: Floats
    limits: Limits

    def merits(self, scores: Sequence[float], measures_PM: Floats) -> Floats:
        """What each topic adds to the merit of each photo, beside the moment's mean.

        Args:
            scores: of the photos, higher for better, in label units' standard deviations.
            measures_PM: their measures (`culling.measures`); NaN for a photo that was not
                measured, of which the score alone counts.

        Returns:
            Merits (P, T), in the order of `topics`: their sum over a photo is its merit.
        """
        values = np.column_stack([np.asarray(scores, np.float64), measures_PM])
        known = np.isfinite(values)
        mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
        weighted = np.where(known, values - mean, 0) * self.weights
        places = [[INPUTS.index(name) for name in names] for names in topics().values()]
        return np.column_stack([weighted[:, place].sum(1) for place in places])


def topics() -> Mapping[str, tuple[str, ...]]:
    """The topics of reasons, and which inputs belong to each."""
    return {SCORE: (SCORE,), **TOPICS}


@cache
def load_ranking() -> Ranking:
    """The ranking that ships in the package."""
    return ranking_of(json.loads(resources.files(__package__).joinpath(PARAMETERS).read_text()))


def ranking_of(parameters: Mapping[str, Any]) -> Ranking:
    """A ranking of parameters as `PARAMETERS` holds them."""
    weights = np.array([parameters["weights"][name] for name in INPUTS], np.float64)
    return Ranking(weights, Limits(**parameters["limits"]))


def order_of(merits_PT: Floats) -> list[int]:
    """The photos of a moment, the best first; of equals the earlier."""
    return np.argsort(-merits_PT.sum(1).round(9), kind="stable").tolist()


def reason(merits_PT: Floats, photo: int, order: Sequence[int], name: str) -> str:
    """Why a photo is kept, or is not.

    Args:
        merits_PT: of the moment's photos.
        photo: which one.
        order: the photos, the best first.
        name: of the best photo, for the others' reasons.

    Returns:
        A phrase, such as "sharper than the other three".
    """
    if len(order) == 1:
        return "the only photo of its moment"
    if photo != order[0]:
        best = merits_PT[order[0]] - merits_PT[photo]
        if best.sum() < LEVEL:
            return f"about as good as {name}"
        return f"{_WORDS[list(topics())[int(best.argmax())]][1]} than {name}"
    others = [other for other in order if other != photo]
    ahead_OT = merits_PT[photo] - merits_PT[others]
    if ahead_OT.sum(1).max() < LEVEL:
        return f"about as good as the other{_count(len(others))}; the first of them"
    topic = int(ahead_OT.mean(0).argmax())
    behind = int((ahead_OT[:, topic] > 0).sum())
    words = _WORDS[list(topics())[topic]][0]
    if behind < len(others):
        return f"{words} than {_number(behind)} of the other{_count(len(others))}"
    return f"{words} than the other{_count(len(others))}"


def _count(others: int) -> str:
    return "" if others == 1 else f" {_number(others)}"


def _number(value: int) -> str:
    return _NUMBERS[value] if value < len(_NUMBERS) else str(value)
