"""Evaluates a model on rated images, scored by the same engine as `qfm score`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from qfm_iqm.scoring.crop_stream import CropSource
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.text_tables import write_csv

Progress = Callable[[Iterator[ScoreRow], int], Iterator[ScoreRow]]


def recorded_split(card: ModelCard, table: RatedTable, split: str) -> RatedTable:
    """Selects the images of one split by the rule recorded in a model's card.

    Raises:
        TableError: the card records no split or a split from a file, or its rule gives another
            split for this table, which is then not the table the model was trained on.
    """
    recorded = card.training.get("split_sha256")
    data = card.training.get("recipe", {}).get("data", {})
    if not recorded or not {"test", "validation", "split_seed"} <= data.keys():
        raise TableError(f"The card of '{card.name}' records no rule for its {split} split.")
    if data.get("split") == "file":
        raise TableError(
            f"'{card.name}' was trained on a split from a file, which its card does not hold: "
            f"evaluate a table of only its {split} split."
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
    """Number of images in a model's training split, if it was trained on this table.

    0 does not rule out an overlap: a subset of the training table, or another table of the same
    files, is not recognized.
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
    source: CropSource | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    excluded: Collection[str] = (),
) -> tuple[Evaluation, list[ScoreRow]]:
    """Scores rated images in label units, and evaluates the scores.

    Args:
        model: the model, or a runtime other than torch.
        table: rated images.
        root: base folder of the images' names.
        by: column of groups to report in addition to the whole.
        n_boot: bootstrap resamples for each interval.
        device: a torch device name; None takes a GPU if there is one.
        progress: wraps the iterator over rows; also gets their number.
        source: returns the crops of a file instead of reading it.
        metrics: names of metrics; see `evaluate`.
        excluded: names of images; if any, figures without these images are added.

    Raises:
        TableError: there are no labels, names match no file, images cannot be read, a correlation
            is undefined, or excluded names are not in the table.
    """
    if table.mos is None:
        raise TableError(f"{table.source} has no labels to evaluate against.")
    if by is not None:
        table.group(by)  # fails now, not after the scoring
    kept_rows(table, excluded)
    rows = score_rated(model, table, root, device=device, progress=progress, source=source)
    scores = [row.score for row in rows if row.score is not None]
    found = evaluate_scores(table, scores, by=by, n_boot=n_boot, metrics=metrics, excluded=excluded)
    return found, rows


def write_images(path: Path, table: RatedTable, rows: Sequence[ScoreRow], by: str | None) -> None:
    """Writes `name, mos, score, crop_std` and the group column, one row per image.

    Args:
        path: CSV file to write.
        table: rated images.
        rows: their score rows, in the same order.
        by: column of the groups; None for no groups.
    """
    assert table.mos is not None
    columns: dict[str, Iterable[Any]] = {
        "name": table.names,
        "mos": table.mos.tolist(),
        "score": [row.score for row in rows],
        "crop_std": [row.crop_std for row in rows],
    }
    if by is not None:
        columns[by] = table.column(by)
    write_csv(path, columns, zip(*columns.values(), strict=True))


def rated_srcc(model: QualityModel | Runtime, table: RatedTable, root: Path) -> float:
    """The SRCC of a model on rated images; arguments and errors as in `evaluate_model`."""
    evaluation, _ = evaluate_model(model, table, root, n_boot=0, metrics=("srcc",))
    return evaluation.value("whole", "srcc")


def card_results(evaluation: Evaluation, data: str) -> list[ResultRow]:
    """The figures of an evaluation for a model's card: those with an interval.

    Args:
        evaluation: the evaluation.
        data: description of the images.
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
    source: CropSource | None = None,
) -> list[ScoreRow]:
    """Scores rated images in label units; arguments are those of `evaluate_model`.

    Raises:
        TableError: there are no labels, names match no file, or images cannot be read.
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
