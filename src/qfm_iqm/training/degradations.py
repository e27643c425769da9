"""People's opinions of degradations, and the labels of photos degraded for training.

KADID-10k's raters saw each type and level on 81 photos. The mean opinion of such a cell says how
far that type and strength lowers a photo's quality, nearly independent of the photo. So a photo
with a known label can be degraded, and its label lowered accordingly:

    label = floor + (own - floor) * (cell - 1) / (clean - 1)

Cell means run from 1 (worst) to 5, `clean` is the mean opinion of an undegraded photo, and `own` is
the photo's label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qfm_iqm.errors import TableError
from qfm_iqm.image.distortions import DISTORTIONS
from qfm_iqm.text_tables import read_dicts

CLEAN = 4.6  # from 1 to 5: KADID-10k's opinion of unnoticed changes
_GEOMETRIC = (  # the ratio of strengths is perceived, not the difference
    "gaussian blur", "lens blur", "motion blur", "jpeg2000", "jpeg", "white noise",
    "white noise in color components", "impulse noise", "multiplicative noise",
)  # fmt: skip
_WHOLE = ("jpeg", "webp", "avif", "color quantization", "quantization")
_NOTHING_AT_ZERO = ("contrast change", "mean shift")
_AT_LEVEL = 0.35  # share drawn at a published level; the others lie between two of them

# WebP and AVIF qualities that degrade photos as much as KADID-10k's JPEG qualities.
LIKE_JPEG = {"webp": (25, 19, 11, 1, 0), "avif": (38, 34, 27, 12, 8)}


@dataclass(frozen=True)
class Degradation:
    """A randomly drawn degradation.

    Attributes:
        kind: a key of `image.distortions.DISTORTIONS`.
        strength: strength, in the kind's unit.
        kept: share of the quality above the floor that remains in people's opinion, 0 to 1.
    """

    kind: str
    strength: float
    kept: float


def kept_by(opinion: float) -> float:
    """The share of quality that remains, 0 to 1, from people's mean opinion, 1 to 5."""
    return min(1.0, max(0.0, (opinion - 1) / (CLEAN - 1)))


def lowered(own: float, kept: float, floor: float) -> float:
    """The label `own` of a photo, lowered to a share `kept` of what lies above the floor."""
    return min(own, floor) + max(0.0, own - floor) * kept


@dataclass(frozen=True)
class Cells:
    """Mean opinions of degradations: five strengths for each kind, and their opinions.

    Attributes:
        levels: for each kind, (strength, mean opinion 1 to 5) in the table's order of levels.
    """

    levels: dict[str, tuple[tuple[float, float], ...]]

    def without(self, kinds: tuple[str, ...]) -> Cells:
        """The cells without some kinds, which can then be tested unseen.

        Raises:
            TableError: a kind is unknown.
        """
        self.check(kinds)
        return Cells({kind: found for kind, found in self.levels.items() if kind not in kinds})

    def check(self, kinds: tuple[str, ...]) -> None:
        """Refuses kinds without opinions.

        Raises:
            TableError: names the kind.
        """
        for kind in kinds:
            if kind not in self.levels:
                raise TableError(
                    f"There are no opinions of '{kind}': choose from {', '.join(self.levels)}."
                )

    def draw(
        self,
        draw: np.random.Generator,
        among: tuple[str, ...] | None = None,
        often: tuple[str, ...] = (),
    ) -> Degradation:
        """Draws a kind, and a strength at a published level or between two.

        Args:
            draw: random generator.
            among: kinds to choose from; those without opinions are ignored; None for all.
            often: kinds that are drawn three times as often as the others.
        """
        kinds = [kind for kind in self.levels if among is None or kind in among]
        kinds += 2 * [kind for kind in kinds if kind in often]
        kind = str(draw.choice(kinds or list(self.levels)))
        levels = self.levels[kind]
        if draw.random() < _AT_LEVEL:
            strength, opinion = levels[int(draw.integers(len(levels)))]
        else:
            first = int(draw.integers(len(levels) - 1))
            share = float(draw.random())
            strength, opinion = _between(kind, levels[first], levels[first + 1], share)
        return Degradation(kind, strength, kept_by(opinion))


def read_cells(path: Path) -> Cells:
    """Reads mean opinions of degradations: columns name, level, parameter, dmos_mean (1 to 5).

    Kinds that are not in `DISTORTIONS` are left out. WebP and AVIF are added with JPEG's opinions,
    at qualities that degrade as much. A change of contrast or light by zero counts as clean:
    `distort` changes nothing then, whatever raters saw.

    Raises:
        TableError: the table cannot be read, or is incomplete.
    """
    found: dict[str, dict[int, tuple[float, float]]] = {}
    try:
        for row in read_dicts(path, "name", "level", "parameter", "dmos_mean"):
            if row["name"] in DISTORTIONS:
                strength, opinion = float(row["parameter"]), float(row["dmos_mean"])
                if strength == 0 and row["name"] in _NOTHING_AT_ZERO:
                    opinion = CLEAN
                found.setdefault(row["name"], {})[int(row["level"])] = strength, opinion
    except ValueError as error:
        raise TableError(
            f"{path} is not a table of mean opinions of degradations: {error}."
        ) from error
    levels = {kind: tuple(cells[i] for i in sorted(cells)) for kind, cells in found.items()}
    for kind, cells in levels.items():
        if len(cells) < 2 or not all(1 <= opinion <= 5 for _, opinion in cells):
            raise TableError(f"{path} has too few opinions of '{kind}', or not from 1 to 5.")
    if not levels:
        raise TableError(f"{path} has no opinion of any of {', '.join(DISTORTIONS)}.")
    if len(levels.get("jpeg", ())) == 5:
        for kind, qualities in LIKE_JPEG.items():
            opinions = (opinion for _, opinion in levels["jpeg"])
            levels[kind] = tuple(zip(map(float, qualities), opinions, strict=True))
    return Cells(levels)


def _between(
    kind: str, low: tuple[float, float], high: tuple[float, float], share: float
) -> tuple[float, float]:
    """Strength and opinion, interpolated between two levels."""
    (first, one), (second, other) = low, high
    if kind in _WHOLE:  # a whole strength, and its opinion
        whole = round(first + share * (second - first))
        share = (whole - first) / (second - first)
        return float(whole), one + share * (other - one)
    if kind in _GEOMETRIC:
        strength = first * (second / first) ** share
    else:
        strength = first + share * (second - first)
    return strength, one + share * (other - one)
