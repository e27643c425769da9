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

    from qfm_iqm.scoring.row import print_csv

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
    explained = any(row.percentile is not None for row in rows)
    names = ["score", *(["interval", "percentile"] if explained else []), "spread", "size"]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("path", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.score is None or row.spread is None:
            table.add_row(Text(row.path), Text("error", style="red"))
            table.add_row(Text(f"  {row.error}", style="red"))
            continue
        cells = {
            "score": f"{row.score:.2f}",
            "interval": "" if row.low is None else f"{row.low:.0f}–{row.high:.0f}",
            "percentile": "" if row.percentile is None else f"{row.percentile:.0f}",
            "spread": f"{row.spread:.2f}",
            "size": f"{row.width} x {row.height}",
        }
        table.add_row(Text(row.path), *(cells[name] for name in names))
        if row.unusual:
            table.add_row(Text("  unlike the photos the model knows", style="yellow"))
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
