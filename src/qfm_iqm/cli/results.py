"""`--results DIR` of benchmarks: a folder for copies of the results, named after the run."""

from collections.abc import Sequence
from pathlib import Path

from qfm_iqm.files import check_output, check_place, copy_whole


def check_results(results: Path | None, stem: str, names: Sequence[str]) -> None:
    """Raises, before any work is done, if the results folder cannot be written.

    Args:
        results: the folder, created if missing; None for none.
        stem: prefix of the copies' names.
        names: file names.
    """
    if results is None:
        return
    check_place(results)
    for name in names if results.is_dir() else ():
        check_output(results / f"{stem}_{name}", Path(name).suffix)


def copy_results(folder: Path, results: Path | None, stem: str, names: Sequence[str]) -> None:
    """Copies the result files of a run into the results folder, if one is given."""
    if results is None:
        return
    results.mkdir(parents=True, exist_ok=True)
    for name in names:
        copy_whole(folder / name, results / f"{stem}_{name}")
