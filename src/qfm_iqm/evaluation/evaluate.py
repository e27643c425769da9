"""A model against rated images: scored through the engine users score with, then evaluated."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qfm_iqm.datasets.folds import choose_split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.methods import evaluate_scores, kept_rows
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.card import ModelCard, ResultRow
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.crop_stream import Crops
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.text_tables import write_csv

Progress = Callable[[Iterator[ScoreRow], int], Iterator[ScoreRow]]


@dataclass(frozen=True)
class ScoredDataset:
    """Rated images with their scores, one row each.

    Attributes:
        table: the rated images.
        rows: their score rows, in the same order.
        by: the column whose groups were reported; None for none.
    """

    table: RatedTable
    rows: list[ScoreRow]
    by: str | None

    def to_csv(self, path: Path) -> None:
        """Writes `name, mos, score, crop_std` and the group, one row per image."""
        assert self.table.mos is not None
        columns: dict[str, Iterable[Any]] = {
            "name": self.table.names,
            "mos": self.table.mos.tolist(),
            "score": [row.score for row in self.rows],
            "crop_std": [row.crop_std for row in self.rows],
        }
        if self.by is not None:
            columns[self.by] = self.table.column(self.by)
        write_csv(path, columns, zip(*columns.values(), strict=True))


def recorded_split(card: ModelCard, table: RatedTable, split: str) -> RatedTable:
    """Takes the images of one split, by the rule that a model's card records.

    Raises:
        TableError: the card records no split, or one from a file, or splitting this table by its
            rule gives another split: it is not the table the model was trained on.
    """
    recorded = card.training.get("split_sha256")
    data = card.training.get("recipe", {}).get("data", {})
    if not recorded or not {"test", "validation", "split_seed"} <= data.keys():
        raise TableError(f"The card of '{card.name}' records no rule to take the {split} split by.")
    if data.get("split") == "file":
        raise TableError(
            f"'{card.name}' was trained on a split from a file, which its card does not hold: "
            f"evaluate a table of its {split} split alone."
        )
    found = choose_split(
        table,
        data.get("split", "content"),
        test=data["test"],
        validation=data["validation"],
        fold=data["split_seed"],
    )
    if found.sha256 != recorded:
        raise TableError(
            f"{table.source} is not the table that '{card.name}' was trained on: split by the same "
            f"rule it gives SHA-256 {found.sha256[:12]}..., the card says {recorded[:12]}...."
        )
    return table.select(found.indices(table)[split])


def learned_images(card: ModelCard, table: RatedTable) -> int:
    """How many images of a table are a model's training split, if it was trained on this table.

    0 says nothing: a part of that table, or a table of the same files, is not recognized.
    """
    try:
        return len(recorded_split(card, table, "train"))
    except TableError:
        return 0


def evaluate_model(
    model: QualityModel | Runtime,
    table: RatedTable,
    root: Path,
    *,
    by: str | None = None,
    n_boot: int = 1000,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    source: Callable[[str], Crops] | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    excluded: Collection[str] = (),
) -> tuple[Evaluation, ScoredDataset]:
    """Scores rated images, in label units, and evaluates the scores.

    Args:
        model: the model, also one loaded by another runtime than torch.
        table: rated images.
        root: folder that their names are relative to.
        by: column whose groups are reported beside the whole.
        n_boot: bootstrap resamples behind each interval.
        device: torch's name; None takes a GPU if there is one.
        progress: wraps the rows as they come, given their number.
        source: gives the crops of a file in place of reading it.
        metrics: which; see `evaluate`.
        excluded: names of images; where there are any, figures without these follow the others.

    Raises:
        TableError: no labels, names that match no file, images that cannot be read, scores of
            which a correlation does not exist, or excluded names that the table does not hold.
    """
    if table.mos is None:
        raise TableError(f"{table.source} has no labels to evaluate against.")
    if by is not None:
        table.group(by)  # refused now, and not after the scoring
    kept_rows(table, excluded)
    rows = score_rated(model, table, root, device=device, progress=progress, source=source)
    scores = [row.score for row in rows if row.score is not None]
    found = evaluate_scores(table, scores, by=by, n_boot=n_boot, metrics=metrics, excluded=excluded)
    return found, ScoredDataset(table, rows, by)


def card_results(evaluation: Evaluation, data: str) -> list[ResultRow]:
    """An evaluation's figures as a model's card holds them: those with an interval.

    Args:
        evaluation: what was found.
        data: on which images, in words.
    """
    return [
        ResultRow(
            data=data,
            subset=row.subset,
            metric=row.metric,
            images=row.n,
            value=row.value,
            ci_low=row.ci_low,
            ci_high=row.ci_high,
        )
        for row in evaluation.rows
        if row.value is not None and row.ci_low is not None and row.ci_high is not None
    ]


def score_rated(
    model: QualityModel | Runtime,
    table: RatedTable,
    root: Path,
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    source: Callable[[str], Crops] | None = None,
) -> list[ScoreRow]:
    """Scores rated images in label units, all of them or none.

    Args:
        model: the model.
        table: rated images.
        root: folder that their names are relative to.
        device: torch's name; None takes a GPU if there is one.
        progress: wraps the rows as they come, given their number.
        source: gives the crops of a file in place of reading it.

    Raises:
        TableError: no labels, names that match no file, or images that cannot be read.
    """
    if table.mos is None:
        raise TableError(f"{table.source} has no labels: a column mos is needed.")
    paths = table.paths(root)
    coming = Scorer(model, device=device, source=source, shown=False).score_paths(paths)
    rows = list(progress(coming, len(paths)) if progress else coming)
    broken = [row for row in rows if row.score is None]
    if broken:
        raise TableError(
            f"{len(broken)} of {len(rows)} rated images cannot be read, the first: "
            f"{broken[0].error}"
        )
    return rows
