"""Score tables of any method, put side by side on the images that they have in common.

A score table has an image name and a score a row, as `qfm score`, `qfm evaluate --per-image` and
other tools write them (`scoring.table`); the labels come from one of them or from a table of their
own. Rows belong together by the ending of their paths (`scoring.pairing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.correlation import srcc
from qfm_iqm.scoring.pairing import candidates, pair_paths
from qfm_iqm.scoring.table import read_scores

Floats = npt.NDArray[np.float64]

_TRIED = 3  # images without a score for which the reason is looked for


@dataclass(frozen=True)
class SideBySide:
    """Methods' scores of the same rated images.

    Attributes:
        table: the rated images.
        scores: (N,) by method, in the table's order.
        left_out: by method, how many of its scores are of no rated image.
    """

    table: RatedTable
    scores: dict[str, Floats]
    left_out: dict[str, int]

    def aligned(self, *, higher_is_better: bool) -> Aligned:
        """Labels and scores brought to one direction: high is good.

        Nothing in a score table says its direction, so it is taken from the sign of the SRCC.

        Args:
            higher_is_better: direction of the labels.

        Raises:
            TableError: all scores of a method, or all labels, are equal.
        """
        assert self.table.mos is not None
        labels = self.table.mos if higher_is_better else -self.table.mos
        turned = {
            name: found
            for name, values in self.scores.items()
            if (found := srcc(values, labels)) < 0
        }
        scores = {
            name: -values if name in turned else values for name, values in self.scores.items()
        }
        return Aligned(labels, scores, turned)


@dataclass(frozen=True)
class Aligned:
    """Labels and scores that rise with quality.

    Attributes:
        labels: (N,) float64.
        scores: (N,) by method.
        turned: the methods whose scores were turned, with the SRCC that they had.
    """

    labels: Floats
    scores: dict[str, Floats]
    turned: dict[str, float]


def side_by_side(
    files: Sequence[Path], labels: Path | None = None, *, column: str = "score", label: str = "mos"
) -> SideBySide:
    """Reads score tables and the labels of their images.

    Args:
        files: score tables; a file's name without its ending names the method.
        labels: table of labels; None takes them from the first score table.
        column: of the scores.
        label: column of the labels.

    Raises:
        TableError: files that cannot be read, two of one name, or an image that a method has no
            score of.
    """
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.stem}" for path in files]
    if len(set(names)) < len(names):
        raise TableError(
            f"Score tables need names of their own, but these came: {', '.join(names)}."
        )
    table = read_table(labels if labels is not None else files[0], label=label)
    scores, left_out = {}, {}
    for name, path in zip(names, files, strict=True):
        given = read_scores(path, column)
        images, values = given.paths, np.array(given.scores, dtype=np.float64)  # None gives NaN
        places = dict(pair_paths(table.names, images))
        found = np.array([values[places[i]] if i in places else np.nan for i in range(len(table))])
        lost = [table.names[i] for i in np.flatnonzero(np.isnan(found)).tolist()]
        if lost:
            alone = [image for i, image in enumerate(table.names) if i not in places]
            raise TableError(
                f"{path} has no score of {len(lost)} of the {len(table)} rated images "
                f"({first_few(lost)}): {_why(alone, images)}."
            )
        scores[name] = found
        left_out[name] = len(images) - len(places)
    return SideBySide(table, scores, left_out)


def _why(alone: Sequence[str], images: Sequence[str]) -> str:
    """Why rated images have no score.

    Args:
        alone: those that no row of the score table belongs to.
        images: of the score table.
    """
    if not alone:
        return "their rows hold none"
    for image in alone[:_TRIED]:
        if found := candidates(image, images):
            return (
                f"{image} could be {first_few(found)}, and a score serves one image; state their "
                "folders in both tables"
            )
    return f"it holds those of {first_few(images)}"
