"""Score files of any method, put side by side on the images that they have in common.

A score file is a CSV or Parquet table with an image name and a score a row, as `qfm score`, `qfm
evaluate --per-image` and other tools write them; the labels come from one of them or from a table
of their own. Names are compared as they are, else by file name where that is unambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.correlation import srcc

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SideBySide:
    """Methods' scores of the same rated images.

    Attributes:
        table: the rated images.
        scores: (N,) by method, in the table's order.
    """

    table: RatedTable
    scores: dict[str, Floats]

    def aligned(self, *, higher_is_better: bool) -> Aligned:
        """Labels and scores brought to one direction: high is good.

        Nothing in a score file says its direction, so it is taken from the sign of the SRCC.

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


def read_scores(path: Path, column: str = "score") -> RatedTable:
    """A score file, with the scores in place of labels.

    Raises:
        TableError: no table, no such column, or a score that is no number.
    """
    return read_table(path, label=column)


def side_by_side(
    files: Sequence[Path], labels: Path | None = None, *, column: str = "score", label: str = "mos"
) -> SideBySide:
    """Reads score files and the labels of their images.

    Args:
        files: score files; a file's name without its ending names the method.
        labels: table of labels; None takes them from the first score file.
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
            f"Score files need names of their own, but these came: {', '.join(names)}."
        )
    table = read_table(labels if labels is not None else files[0], label=label)
    scores = {}
    for name, path in zip(names, files, strict=True):
        found = read_scores(path, column)
        assert found.mos is not None
        places = _places(table, found)
        lost = [image for image, place in zip(table.names, places, strict=True) if place is None]
        if lost:
            raise TableError(
                f"{path} has no score of {len(lost)} of the {len(table)} rated images "
                f"({first_few(lost)})."
            )
        scores[name] = found.mos[[place for place in places if place is not None]]
    return SideBySide(table, scores)


def _places(table: RatedTable, scored: RatedTable) -> list[int | None]:
    """The row of each image of a table in a score file."""
    rows = {name: row for row, name in enumerate(scored.names)}
    files: dict[str, list[int]] = {}
    for row, name in enumerate(scored.names):
        files.setdefault(PurePosixPath(name).name, []).append(row)
    places: list[int | None] = []
    for name in table.names:
        alike = files.get(PurePosixPath(name).name, [])
        places.append(rows.get(name, alike[0] if len(alike) == 1 else None))
    return places
