"""`qfm data`: the datasets that are known, what of one lies on this machine, and its table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import messages, with_progress

if TYPE_CHECKING:
    from qfm_iqm.datasets.checking import DatasetCheck

app = typer.Typer(
    name="data",
    help="Public datasets: what is known of them, what is here, one table for all.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A dataset as `qfm data list` names it.")]
Root = Annotated[Path, typer.Option("--root", help="Folder of the unpacked download.")]


@app.command("list")
def list_datasets() -> None:
    """Show every dataset: counts, label range and direction, terms, where to get it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from qfm_iqm.datasets.catalogue import DATASETS

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title, justify in (("name", "left"), ("images", "right"), ("contents", "right")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for title in ("label", "better", "split", "terms", "source"):
        table.add_column(title, overflow="fold")
    for dataset in DATASETS.values():
        table.add_row(
            dataset.name,
            str(dataset.images),
            str(dataset.contents),
            f"{dataset.label} {dataset.minimum:g}–{dataset.maximum:g}",
            "high" if dataset.higher_is_better else "low",
            "official" if dataset.official_split else "folds",
            dataset.terms,
            dataset.source,
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


@app.command("check")
def check(
    name: Name,
    root: Root,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode every image to find broken ones.")
    ] = True,
) -> None:
    """Compare a download with what its authors published; exit code 1 if it is not whole."""
    from qfm_iqm.datasets.catalogue import find_dataset
    from qfm_iqm.datasets.checking import check_dataset

    console = messages()
    found = check_dataset(
        find_dataset(name),
        root,
        decode=decode,
        progress=lambda answers, total: with_progress(answers, total, "decoding", console),
    )
    _show(found)
    for finding in found.findings:
        print(finding)
    if found.findings:
        raise typer.Exit(1)
    print(f"{found.dataset.title} in {root} is whole.")


@app.command("export")
def export(
    name: Name,
    root: Root,
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write: CSV or Parquet.")],
    present: Annotated[
        bool, typer.Option("--present", help="Leave out labels whose image is missing.")
    ] = False,
) -> None:
    """Write one table: name, mos (untouched), std, content, distortion, level, split."""
    from qfm_iqm.datasets.catalogue import find_dataset
    from qfm_iqm.datasets.writing import write_table
    from qfm_iqm.errors import TableError

    table = find_dataset(name).load(root)
    if present:
        rows = [i for i, path in enumerate(table.find(root)) if path is not None]
        if not rows:
            raise TableError(f"None of the {len(table)} images of {name} is in {root}.")
        left_out = len(table) - len(rows)
        table = table.select(rows)
        if left_out:
            messages().print(f"{left_out} labels without image are left out.", soft_wrap=True)
    else:
        table.paths(root)
    write_table(table, out)
    messages().print(f"{len(table)} images: {out}", markup=False, soft_wrap=True)


def _show(found: DatasetCheck) -> None:
    """Prints what is here beside what was published, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(found.dataset.title)
    table.add_column("here", justify="right")
    table.add_column("published", justify="right")
    for what, (here, published) in found.figures.items():
        table.add_row(what, f"{here:.6g}", "-" if published is None else f"{published:.6g}")
    table.add_row("images decoded", str(found.decoded), "-")
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
