"""What is shown on stdout: rows as a table or as CSV, whoever reads; figures as cells."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qfm_iqm.datasets.dataset import Dataset
    from qfm_iqm.metrics.evaluation import Row
    from qfm_iqm.scoring.row import ScoreRow


def show_rows(rows: list[ScoreRow]) -> None:
    """Shows rows as whoever reads stdout wants them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qfm_iqm.scoring.row import SCHEMA, print_csv

    terminal = sys.stdout.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that are no valid text must not stop us
        if terminal:
            sys.stdout.reconfigure(errors="replace")
        else:  # the same bytes as in a file
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    if not terminal:
        print_csv(rows, sys.stdout)
        sys.stdout.flush()
        return
    # A line holds the figures of quality; a model's card may not allow all of them.
    figures = [one.name for one in SCHEMA.values() if one.kind == "float" and one.name != "seconds"]
    names = [
        name
        for name in figures
        if name == "score" or any(getattr(row, name) is not None for row in rows)
    ]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("path", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.score is None:
            table.add_row(Text(row.path), Text("error", style="red"))
            table.add_row(Text(f"  {row.error}", style="red"))
            continue
        values = (getattr(row, name) for name in names)
        cells = ("" if value is None else f"{value:.2f}" for value in values)
        table.add_row(Text(row.path), *cells)
        if row.out_of_distribution:
            table.add_row(Text("  out of distribution: take it with care", style="yellow"))
    Console().print(table)


def show_datasets(datasets: Sequence[Dataset]) -> None:
    """Shows what is known of datasets as whoever reads stdout wants it."""
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
    for dataset in datasets:  # a line of its own each: an address that breaks cannot be opened
        console.print(f"\n{dataset.title}: {dataset.terms}\n{dataset.source}", soft_wrap=True)


def cell(row: Row) -> str:
    """A value, and its 95 % interval under it, short enough for 80 columns in all."""
    if row.value is None:
        return "-"
    if row.ci_low is None or row.ci_high is None:
        return f"{row.value:.4f}"
    low, high = (f"{end:.3f}".replace("0.", ".") for end in (row.ci_low, row.ci_high))
    return f"{row.value:.4f}\n{low}–{high}"
