"""Score tables of several methods, aligned on the same rated images.

A score table has an image name and a score per row, as written by `qfm score`, `qfm evaluate
--per-image` and other tools (`scoring.table`). The labels come from the first score table or from a
separate table. Rows are matched by the ends of their paths (`scoring.pairing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.correlation import METRICS, srcc
from qfm_iqm.metrics.evaluation import Evaluation, Row, evaluate
from qfm_iqm.scoring.pairing import candidates, pair_paths
from qfm_iqm.scoring.table import read_scores
from qfm_iqm.text_tables import read_text

KEPT = " (kept)"  # suffix of the name of a subset from which images are excluded

_TRIED = 3  # images without a score whose reason is searched


@dataclass(frozen=True)
class SideBySide:
    """Scores of several methods for the same rated images.

    Attributes:
        table: the rated images.
        scores: (N,) scores by method, in the table's order.
        left_out: number of scores without a rated image, by method.
    """

    table: RatedTable
    scores: dict[str, Doubles]
    left_out: dict[str, int]

    def aligned(
        self, *, higher_is_better: bool
    ) -> tuple[Doubles, dict[str, Doubles], dict[str, float]]:
        """Labels and scores with one direction: higher is better.

        A score table does not state its direction, so it is inferred from the sign of the SRCC.

        Args:
            higher_is_better: direction of the labels.

        Returns:
            (N,) labels; (N,) scores by method; the SRCC before of the methods whose scores were
            negated.

        Raises:
            TableError: all scores of a method or all labels are equal.
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
        return labels, scores, turned


def side_by_side(
    files: Sequence[Path], labels: Path | None = None, *, column: str = "score", label: str = "mos"
) -> SideBySide:
    """Reads score tables and the labels of their images.

    Args:
        files: score tables; the file name without extension is the method's name.
        labels: table of labels; None takes them from the first score table.
        column: column of the scores.
        label: column of the labels.

    Raises:
        TableError: a file cannot be read, two files have the same name, or a method has no score
            for an image.
    """
    twice = [path for path, number in Counter(files).items() if number > 1]
    if twice:
        raise TableError(f"{twice[0]} was given twice.")
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        names = [f"{path.parent.resolve().name}/{path.stem}" for path in files]
    if len(set(names)) < len(names):
        raise TableError(
            f"Score tables must have different names, but these were given: {', '.join(names)}."
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
            lost_of = f"{len(lost)} of" if len(lost) < len(table) else "any of"
            raise TableError(
                f"{path} has no score for {lost_of} the {len(table)} rated images "
                f"({first_few(lost)}): {_why(alone, images)}."
            )
        scores[name] = found
        left_out[name] = len(images) - len(places)
    return SideBySide(table, scores, left_out)


def _why(alone: Sequence[str], images: Sequence[str]) -> str:
    """Why rated images have no score.

    Args:
        alone: rated images without a row in the score table.
        images: images of the score table.
    """
    if not alone:
        return "their rows have none"
    for image in alone[:_TRIED]:
        if found := candidates(image, images):
            if len(found) > len(set(found)) == 1:
                return f"{found[0]} is in {len(found)} rows; keep one"
            return (
                f"{image} could be {first_few(found)}, and each score belongs to one image; add "
                "the folders in both tables"
            )
    return f"its scores are of {first_few(images)}"


def evaluate_scores(
    table: RatedTable,
    scores: npt.ArrayLike,
    *,
    by: str | None = None,
    n_boot: int = 1000,
    metrics: Sequence[str] = tuple(METRICS),
    excluded: Collection[str] = (),
) -> Evaluation:
    """Evaluates scores of rated images, with and without the excluded images.

    Args:
        table: rated images.
        scores: (N,) scores in the table's order.
        by: column of groups to report in addition to the whole.
        n_boot: bootstrap resamples for each interval.
        metrics: names of metrics; see `metrics.evaluation.evaluate`.
        excluded: names of images, such as near-duplicates of training images; figures without them
            follow the others, in subsets whose names end in `KEPT`.

    Raises:
        TableError: a correlation is undefined, or excluded names are not in the table.
    """
    values = np.asarray(scores, dtype=np.float64)
    rows: tuple[Row, ...] = ()
    for kept, ending in ((range(len(table)), ""), (kept_rows(table, excluded), KEPT)):
        if ending and not excluded:
            continue
        some = table.select(kept)
        assert some.mos is not None
        groups = None if by is None else some.group(by)
        found = evaluate(
            values[list(kept)], some.mos, groups=groups, n_boot=n_boot, metrics=metrics
        )
        rows += tuple(replace(row, subset=f"{row.subset}{ending}") for row in found.rows)
    return replace(found, rows=rows)


def kept_rows(table: RatedTable, excluded: Collection[str]) -> list[int]:
    """The rows of a table whose names are not excluded.

    Raises:
        TableError: a name is not in the table, or all images are excluded.
    """
    if unknown := sorted(set(excluded) - set(table.names)):
        raise TableError(
            f"{len(unknown)} excluded names are not in {table.source} ({first_few(unknown)})."
        )
    kept = [i for i, name in enumerate(table.names) if name not in excluded]
    if not kept:
        raise TableError(f"All {len(table)} images of {table.source} are excluded.")
    return kept


def read_names(path: Path) -> frozenset[str]:
    """Reads a list of image names, one per line.

    Raises:
        TableError: the list cannot be read or is empty.
    """
    try:
        text, _ = read_text(path)
    except OSError as error:
        raise TableError(f"The list {path} cannot be read: {error.strerror}.") from error
    names = frozenset(line.strip() for line in text.split("\n")) - {""}
    if not names:
        raise TableError(f"The list {path} names no image.")
    return names
