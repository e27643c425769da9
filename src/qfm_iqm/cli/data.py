"""`qfm data`: lists datasets, checks downloads, exports tables and writes splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.options import extra, messages, refuse_idle, say, with_progress
from qfm_iqm.cli.showing import show_check, show_datasets
from qfm_iqm.errors import TableError
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.files import check_distinct, check_folder, check_output, writing

if TYPE_CHECKING:
    from qfm_iqm.datasets.splits import Split as SplitOfTable
    from qfm_iqm.datasets.table import RatedTable

app = typer.Typer(
    name="data",
    help="Rated images: public datasets, tables, splits.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of a dataset in `qfm data list`.")]
Download = Annotated[Path, typer.Option("--root", help="Folder of the unpacked download.")]


@app.command("list")
def list_datasets() -> None:
    """Show every dataset: counts, label, split, terms, where to get it; CSV into a pipe."""
    from qfm_iqm.datasets.catalogue import DATASETS

    show_datasets(list(DATASETS.values()))


@app.command("check")
def check(
    name: Name,
    root: Download,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode every image to find broken ones.")
    ] = True,
) -> None:
    """Compare a download with a complete one; exit code 1 if it is incomplete."""
    from qfm_iqm.datasets.catalogue import find_dataset
    from qfm_iqm.datasets.checking import check_dataset

    console = messages()
    found = check_dataset(
        find_dataset(name),
        root,
        decode=decode,
        progress=lambda answers, total: with_progress(answers, total, "decoding", console),
    )
    show_check(found)
    for what in ("citation", "terms", "source"):
        print(f"{what.capitalize()}: {getattr(found.dataset, what)}")
    for finding in found.findings:
        print(finding)
    if found.findings:
        raise typer.Exit(ExitCode.FINDINGS)
    print(f"{found.dataset.title} in {root} is complete.")


@app.command("export")
def export(
    name: Name,
    root: Download,
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write: CSV or Parquet.")],
    present: Annotated[
        bool, typer.Option("--present", help="Leave out labels whose image is missing.")
    ] = False,
) -> None:
    """Write one table: name, mos (untouched), std, content, distortion, level, split."""
    from qfm_iqm.datasets.catalogue import find_dataset
    from qfm_iqm.datasets.reading import write_table
    from qfm_iqm.scoring.table import check_replaceable

    check_output(out, ".csv", ".parquet")
    table = find_dataset(name).load(root)
    check_distinct({"--out": out}, [table.source])
    check_replaceable(out, ("name", "mos"))
    if present:
        rows = [i for i, path in enumerate(table.find(root)) if path is not None]
        if not rows:
            raise TableError(f"None of the {len(table)} images of {name} is in {root}.")
        left_out = len(table) - len(rows)
        table = table.select(rows)
        if left_out:
            say(messages(), f"{left_out} labels without an image are left out.")
    table.paths(root)  # fails unless every image is there exactly once
    write_table(table, out)
    say(messages(), f"{len(table)} images: {out}")


@app.command("split")
def split(
    name: Annotated[str, typer.Argument(help="A dataset, or a table name,mos[,content,...].")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for fold0.txt ...")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: the table's own.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Number of folds. Default: 10, or that of ARNIQA's arrays.", min=1),
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Share of the images to test on. Default: 0.2.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of the images to validate on. Default: 0.1.")
    ] = None,
    official: Annotated[bool, typer.Option("--official", help="The authors' own split.")] = False,
    arniqa: Annotated[
        Path | None, typer.Option(help="Folder of ARNIQA's train.npy, val.npy, test.npy.")
    ] = None,
    order: Annotated[
        Path | None, typer.Option(help="ARNIQA's list of the numbered images: LIVE.txt, CSIQ.txt.")
    ] = None,
    liqe: Annotated[
        Path | None, typer.Option(help="LIQE's folder splits2, with folders 1, 2 ... in it.")
    ] = None,
    liqe_prefix: Annotated[
        str | None,
        typer.Option(help="Prefix of LIQE's lists, if a folder holds several datasets: clive."),
    ] = None,
    leaks: Annotated[
        Literal["refuse", "list", "skip"],
        typer.Option(help="What to do if splits share images."),
    ] = "refuse",
) -> None:
    """Write folds as text with their SHA-256, and look for leaks between their splits."""
    from qfm_iqm.datasets import folds as rules
    from qfm_iqm.datasets.catalogue import DATASETS, unknown_dataset
    from qfm_iqm.datasets.reading import read_table

    check_folder(out, ("fold0.txt", "folds.csv", "leaks.csv"), "a folder of folds")
    if sum((official, arniqa is not None, liqe is not None)) > 1:
        raise TableError("Give one of --official, --arniqa and --liqe.")
    if arniqa is None:
        refuse_idle({"--order": order}, "without --arniqa")
    else:
        refuse_idle({"--test": test, "--validation": validation}, "with --arniqa")
    if liqe is None:
        refuse_idle({"--liqe-prefix": liqe_prefix}, "without --liqe")
    else:
        refuse_idle({"--test": test, "--validation": validation}, "with --liqe")
    if official:
        refuse_idle({"--test": test, "--folds": folds}, "with --official")
    test = 0.2 if test is None else test
    validation = 0.1 if validation is None else validation
    if name in DATASETS:
        if root is None:
            raise TableError(f"Give --root: the folder of {name}'s download.")
        table = DATASETS[name].load(root)
    elif not Path(name).suffix:
        raise TableError(f"{unknown_dataset(name)} A table's name ends in .csv or .parquet.")
    else:
        table = read_table(Path(name), require_mos=False)
        root = root if root is not None else Path(name).parent
    if official:
        found = [rules.official_fold(table, validation=validation, fold=0)]
    elif arniqa is not None:
        there = rules.count_arniqa(arniqa) if folds is None else folds
        found = [rules.read_arniqa(arniqa, number, table, order) for number in range(there)]
    elif liqe is not None:
        numbers = range(1, (folds or 10) + 1)
        found = [
            rules.read_liqe(liqe / str(number), table, liqe_prefix or "") for number in numbers
        ]
    else:
        found = [
            rules.choose_split(table, "content", test=test, validation=validation, fold=number)
            for number in range(folds or 10)
        ]
    if leaks != "skip":
        _look_for_leaks(table, found, root, out, refuse=leaks == "refuse")
    rules.write_folds(found, out)
    for number, one in enumerate(found):
        print(f"fold{number}.txt  {one.sha256}")


def _look_for_leaks(
    table: RatedTable, found: list[SplitOfTable], root: Path, out: Path, *, refuse: bool
) -> None:
    """Looks for images that the splits of a fold share, and writes leaks.csv."""
    with extra("train", "Looking for near-duplicates"):
        from qfm_iqm.datasets.leakage import fold_leaks, refuse_leaks, write_leaks

    console = messages()
    leaks = fold_leaks(
        table,
        dict(enumerate(found)),
        root,
        lambda items, total: with_progress(items, total, "hashing", console),
    )
    listed = out / "leaks.csv"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_leaks(leaks, listed)
    if refuse:
        remedy = "no fold is written; --leaks list writes them anyway"
        refuse_leaks(leaks, listed=listed, remedy=remedy)
    say(console, f"{len(leaks)} pairs leak: {listed}")
