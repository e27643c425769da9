"""`--results DIR` of benchmarks: a folder that also gets the figures, each named for its run."""

from collections.abc import Sequence
from pathlib import Path

from qfm_iqm.files import check_output, check_place, copy_whole


def check_results(results: Path | None, stem: str, names: Sequence[str]) -> None:
    """Refuses, before any work is done, a folder of results that could not be written.

    Args:
        results: the folder, made where it is not there; None for none.
        stem: what the copies' names begin with.
        names: of the files.
    """
    if results is None:
        return
    check_place(results)
    for name in names if results.is_dir() else ():
        check_output(results / f"{stem}_{name}", Path(name).suffix)


def copy_results(folder: Path, results: Path | None, stem: str, names: Sequence[str]) -> None:
    """Copies the figures of a run into the folder of results, where one is given."""
    if results is None:
        return
    results.mkdir(parents=True, exist_ok=True)
    for name in names:
        copy_whole(folder / name, results / f"{stem}_{name}")
