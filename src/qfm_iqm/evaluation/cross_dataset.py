"""Cross-dataset tests: a model trained on one dataset against others.

Label scales and directions differ between datasets, so only what does not depend on them is
reported: SRCC and KRCC, with the sign turned where one label falls as the other rises, and PLCC
after the logistic fit. No image of the other dataset is fitted on, but by that curve.
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
    """What a model is tested on.

    Attributes:
        name: of the dataset, or of the table's file.
        table: all of its rated images.
        root: folder that names are relative to.
        higher_is_better: direction of its labels.
        is_table: whether it is a table, and no dataset that is known.
    """

    name: str
    table: RatedTable
    root: Path
    higher_is_better: bool
    is_table: bool = False


class CrossFigure(NamedTuple):
    """One figure of a model on a target.

    Attributes:
        model: its name.
        trained_on: as its card says.
        split_sha256: of the split that it was trained by.
        target: what it was tested on.
        metric: "srcc", "krcc" or "plcc_logistic".
        images: of the target.
        value: of the metric; None where it does not exist.
        ci_low: lower end of its 95 % interval.
        ci_high: upper end.
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
    """Reads `NAME=ROOT` (a dataset in its official layout) or a table's path.

    Args:
        text: what was asked for.
        label: column of a table's labels; a dataset's are known.
        lower_is_better: direction of a table's labels.

    Raises:
        TableError: no such dataset, folder or table.
    """
    name, equals, root = text.partition("=")
    if equals and name in DATASETS:
        dataset = DATASETS[name]
        return Target(name, dataset.load(Path(root)), Path(root), dataset.higher_is_better)
    path = Path(text)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise TableError(
            f"'{text}' is no target: give NAME=ROOT with NAME one of {', '.join(DATASETS)}, or a "
            "table (.csv, .parquet) beside its images."
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
        target: what it is tested on.
        n_boot: resamples behind each interval.
        device: torch's name; None takes a GPU if there is one.
        progress: wraps the rows as they come, given their number.

    Raises:
        TableError: no labels, images that are missing or cannot be read, or scores of which a
            correlation does not exist.
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
