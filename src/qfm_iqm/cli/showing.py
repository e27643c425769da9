"""Output on stdout: rows as a table on a terminal, as CSV in a pipe; figures as tables."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qfm_iqm.causes.severity import CAUSES, NONE
from qfm_iqm.cli.options import say
from qfm_iqm.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.datasets.checking import DatasetCheck
    from qfm_iqm.datasets.dataset import Dataset
    from qfm_iqm.evaluation.cross_dataset import CrossFigure
    from qfm_iqm.metrics.diagnosis import Diagnosis
    from qfm_iqm.metrics.evaluation import Evaluation, Row
    from qfm_iqm.scoring.row import ScoreRow


def show_rows(rows: list[ScoreRow]) -> None:
    """Shows rows as a table on a terminal, otherwise as CSV."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qfm_iqm.scoring.row import SCHEMA, print_csv

    terminal = sys.stdout.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may be invalid Unicode
        if terminal:
            sys.stdout.reconfigure(errors="replace")
        else:  # the same bytes as in a file
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    if not terminal:
        print_csv(rows, sys.stdout)
        sys.stdout.flush()
        return
    console = Console()
    # A cause is shown with its severity. On a narrow terminal the last columns are left out.
    names = [
        name
        for name, one in SCHEMA.items()
        if (one.kind == "float" or name == "cause") and name not in ("seconds", *CAUSES)
    ]
    names.sort(key=lambda name: (name == "crop_std", name not in ("score", "cause")))
    columns = {name: [_shown(row, name) for row in rows] for name in names}
    widths = {name: max(map(len, [name, *cells])) + 2 for name, cells in columns.items()}
    paths = [Text(printable(row.path)) for row in rows]
    wanted = min(max((len(path) for path in paths), default=4), console.width // 2) + 4
    names.clear()
    for name, cells in columns.items():
        if name == "score" or any(cells):
            wanted += widths[name]
            if wanted > console.width and names:
                break
            names.append(name)
    names.sort(key=list(SCHEMA).index)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("path", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, min_width=widths[name] - 2)
    for i, row in enumerate(rows):
        if row.score is None:
            table.add_row(paths[i], Text("error", style="red"))
            table.add_row(Text(f"  {printable(row.error)}", style="red"))
            continue
        table.add_row(paths[i], *(columns[name][i] for name in names))
        if row.out_of_distribution:
            table.add_row(Text("  out of distribution: treat with care", style="yellow"))
    console.print(table)


def _shown(row: ScoreRow, name: str) -> str:
    """A row's value for the terminal; a cause with its points."""
    value = getattr(row, name)
    if name == "cause":
        return value if value in ("", NONE) else f"{value} {getattr(row, value):.0f}"
    return "" if value is None else f"{value:.2f}"


def show_datasets(datasets: Sequence[Dataset]) -> None:
    """Shows facts on datasets as a table on a terminal, otherwise as CSV."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    facts = [
        {
            "name": dataset.name,
            "images": str(dataset.images),
            "contents": str(dataset.contents),
            "label": f"{dataset.label} {dataset.minimum:g}–{dataset.maximum:g}",
            "better": "high" if dataset.higher_is_better else "low",
            "split": dataset.split,
        }
        for dataset in datasets
    ]
    if not sys.stdout.isatty():
        told = ("terms", "source", "citation")
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((*facts[0], *told))
        for dataset, row in zip(datasets, facts, strict=True):
            writer.writerow((*row.values(), *(getattr(dataset, what) for what in told)))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in facts[0]:
        counted = title in ("images", "contents")
        table.add_column(title, justify="right" if counted else "left", no_wrap=True)
    for row in facts:
        table.add_row(*row.values())
    console = Console(highlight=False)
    console.print(table)
    for dataset in datasets:  # on separate lines: a wrapped URL cannot be opened
        console.print(f"\n{dataset.title}: {dataset.terms}\n{dataset.source}", soft_wrap=True)


def cell(row: Row) -> str:
    """A value with its 95 % interval below it, short enough for a table of 80 columns."""
    if row.value is None:
        return "-"
    if row.ci_low is None or row.ci_high is None:
        return f"{row.value:.4f}"
    low, high = (re.sub(r"^(-?)0\.", r"\1.", f"{end:.3f}") for end in (row.ci_low, row.ci_high))
    return f"{row.value:.4f}\n{low}–{high}"


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table on stdout: names, then figures. It is 120 columns wide in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints an evaluation on stdout: one row per subset, one column per metric."""
    metrics = list(dict.fromkeys(row.metric for row in evaluation.rows))
    lines = []
    for subset in dict.fromkeys(row.subset for row in evaluation.rows):
        rows = [evaluation.row(subset, metric) for metric in metrics]
        lines.append((subset, str(rows[0].n), *map(cell, rows)))
    print_table(("subset", "images", *(metric.replace("_", "\n") for metric in metrics)), lines)
    notes = {(row.subset, row.note): None for row in evaluation.rows if row.note}
    for subset, note in notes:
        say(console, f"{subset}: {note}")


def show_diagnosis(found: Diagnosis) -> None:
    """Prints a diagnosis on stdout: its figures, then the response to each degradation level."""
    figures = [("aliasing, random pairs", f"{found.trained.random_rate:.1%}")]
    if found.backbone is not None:
        figures.append(("aliasing, public backbone", f"{found.backbone.rate:.1%}"))
    selectivity = "-" if found.selectivity is None else f"{found.selectivity:.2f}"
    figures += [
        ("aliasing, trained features", f"{found.trained.rate:.1%}"),
        ("semantic-noise sensitivity S_n", f"{found.noise_sensitivity:.4f}"),
        ("quality sensitivity S_q", f"{found.quality_sensitivity:.4f}"),
        ("selectivity S_q / S_n", selectivity),
    ]
    print_table((f"{found.model}, {len(found.names)} images", "value"), figures)
    print()
    by_kind = found.by_distortion
    levels = range(1, max(map(len, by_kind.values())) + 1)
    print_table(
        ("change (drop)", *(f"level {level}" for level in levels)),
        (
            (kind, *(f"{one.change:.2f} ({one.drop:+.2f})" for one in responses))
            for kind, responses in by_kind.items()
        ),
    )


def show_cross(figures: list[CrossFigure], trained_on: str) -> None:
    """Prints one row per target, with published figures below it, and one column per metric."""
    from qfm_iqm.metrics.published import published_cross

    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    lines = []
    for target in dict.fromkeys(figure.target for figure in figures):
        rows = [figure for figure in figures if figure.target == target]
        cells = ["-" if row.value is None else f"{row.value:.4f}" for row in rows]
        lines.append((target, str(rows[0].images), *cells))
        if (beside := published_cross(trained_on, target)) is not None:
            known = {"srcc": f"{beside.srcc:.3f}"}
            cells = [known.get(metric, "") for metric in metrics]
            lines.append((f"{target} ({beside.method}, published)", "", *cells))
    print_table((f"{figures[0].trained_on or figures[0].model} on", "images", *metrics), lines)


def show_check(found: DatasetCheck) -> None:
    """Prints the counts found beside those of a complete download, on stdout."""
    lines = [
        (what, f"{here:.6g}", "-" if expected is None else f"{expected:.6g}")
        for what, (here, expected) in found.figures.items()
    ]
    lines.append(("images decoded", str(found.decoded), "-"))
    print_table((found.dataset.title, "here", "expected"), lines)


def say_learned(model: str, learned: int, images: int, remedy: str, console: Console) -> None:
    """Warns that images of the model's training split make the figures too high."""
    say(console, f"{learned} of these {images} images are the training split of {model}: {remedy}.")
