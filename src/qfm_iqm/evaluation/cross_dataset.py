"""Cross-dataset tests: a model trained on one dataset is tested on others.

Label scales and directions differ between datasets, so only metrics that do not depend on them are
reported: SRCC and KRCC, with the sign flipped if the label directions differ, and PLCC after the
logistic fit. Only that curve is fitted on the other dataset.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.evaluate import Progress, score_rated
from qfm_iqm.metrics.evaluation import WHOLE, evaluate
from qfm_iqm.model.model import QualityModel

REPORTED = ("srcc", "krcc", "plcc_logistic")


@dataclass(frozen=True)
class Target:
    """A test dataset.

    Attributes:
        name: name of the dataset or of the table's file.
        table: all rated images.
        root: base folder of the names.
        higher_is_better: direction of the labels.
        is_table: whether it is a table, not a known dataset.
    """

    name: str
    table: RatedTable
    root: Path
    higher_is_better: bool
    is_table: bool = False


class CrossFigure(NamedTuple):
    """One figure of a model on a target.

    Attributes:
        model: name of the model.
        trained_on: training data, according to the model's card.
        split_sha256: hash of the split that the model was trained on.
        target: name of the test dataset.
        metric: "srcc", "krcc" or "plcc_logistic".
        images: number of images of the target.
        value: value of the metric; None if undefined.
        ci_low: lower end of the 95 % interval.
        ci_high: upper end of the interval.
    """

    model: str
    trained_on: str
    split_sha256: str
    target: str
    metric: str
    images: int
    value: float | None
    ci_low: float | None
    ci_high: float | None


def find_target(text: str, *, label: str = "mos", lower_is_better: bool = False) -> Target:
    """Reads a test dataset, given as `NAME=ROOT` (official layout) or as a table's path.

    Args:
        text: the dataset or table.
        label: label column of a table; that of a dataset is known.
        lower_is_better: direction of a table's labels.

    Raises:
        TableError: there is no such dataset, folder or table.
    """
    name, equals, root = text.partition("=")
    if equals and name in DATASETS:
        dataset = DATASETS[name]
        return Target(name, dataset.load(Path(root)), Path(root), dataset.higher_is_better)
    path = Path(text)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise TableError(
            f"'{text}' is not a target: give NAME=ROOT with NAME one of {', '.join(DATASETS)}, or "
            "a table (.csv, .parquet) beside its images."
        )
    table = read_table(path, label=label)
    return Target(path.stem, table, path.parent, not lower_is_better, is_table=True)


def cross(
    model: QualityModel,
    target: Target,
    *,
    n_boot: int = 1000,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[CrossFigure]:
    """Tests a model on all images of a target.

    Args:
        model: the model.
        target: the test dataset.
        n_boot: bootstrap resamples for each interval.
        device: a torch device name; None takes a GPU if there is one.
        progress: wraps the iterator over rows; also gets their number.

    Raises:
        TableError: there are no labels, images are missing or unreadable, or a correlation is
            undefined.
    """
    table = target.table
    scored = score_rated(model, table, target.root, device=device, progress=progress)
    sign = 1 if model.card.label.higher_is_better == target.higher_is_better else -1
    scores = [sign * row.score for row in scored if row.score is not None]
    assert table.mos is not None
    evaluation = evaluate(scores, table.mos, n_boot=n_boot)
    rows = [evaluation.row(WHOLE, metric) for metric in REPORTED]
    training = model.card.training
    trained_on, split_sha256 = (str(training.get(key, "")) for key in ("data", "split_sha256"))
    return [
        CrossFigure(
            model.card.name, trained_on, split_sha256, target.name, row.metric, row.n,
            row.value, row.ci_low, row.ci_high,
        )
        for row in rows
    ]  # fmt: skip
