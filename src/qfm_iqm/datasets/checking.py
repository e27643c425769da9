"""Is a download whole? What is there beside what its authors published.

Rules: a label without image makes a tree incomplete, and training refuses it; an image without
label is listed and never used; a file that cannot be decoded is named with its reason; a label
file that the table does without is named with what is lost.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.dataset import Dataset
from qfm_iqm.datasets.table import RatedTable, find_below, first_few
from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.formats import SUFFIXES
from qfm_iqm.image.memory_budget import usable_cores

_ROUNDING = 1e-4  # of the facts' four decimals, and no more

Progress = Callable[[Iterator[str], int], Iterator[str]]


@dataclass(frozen=True)
class DatasetCheck:
    """What a check found.

    Attributes:
        dataset: what was asked for.
        table: its rated images, whether they are there or not.
        missing: names that have a label and no image.
        unlabeled: images below the dataset's folders that have no label, and should have one.
        unreadable: one sentence for each image that cannot be decoded; empty if none was tried.
        decoded: images that were tried.
        doubled: names that mean an image which another name means already.
    """

    dataset: Dataset
    table: RatedTable
    missing: tuple[str, ...]
    unlabeled: tuple[str, ...]
    unreadable: tuple[str, ...]
    decoded: int
    doubled: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, tuple[float, float | None]]:
        """What is here and what a whole download holds, by name; None where that is not known."""
        mos = self.table.mos
        assert mos is not None
        facts = self.dataset
        return {
            "labels": (len(self.table), facts.images),
            "contents": (len(set(self.table.contents)), facts.contents),
            "images": (len(self.table) - len(self.missing), facts.images),
            "lowest label": (float(mos.min()), facts.lowest),
            "highest label": (float(mos.max()), facts.highest),
            "mean label": (float(mos.mean()), facts.mean),
            "standard deviation": (float(mos.std()), facts.std),
        }

    @property
    def findings(self) -> tuple[str, ...]:
        """What is not as it should be, a sentence each; none for a whole download."""
        facts, mos = self.dataset, self.table.mos
        assert mos is not None
        found = []
        for what in ("labels", "contents"):
            here, published = self.figures[what]
            if here != published:
                found.append(f"{here:g} {what} are here, {published:g} were published.")
        for file, column in facts.optional:
            if column not in self.table.columns:
                found.append(f"{file} is not here: the column {column} is lost.")
        if self.missing:
            found.append(f"{len(self.missing)} labels have no image ({first_few(self.missing)}).")
        if self.doubled:
            found.append(
                f"{len(self.doubled)} names differ from another name only in letter case and mean "
                f"the same image ({first_few(self.doubled)})."
            )
        if self.unlabeled:
            found.append(
                f"{len(self.unlabeled)} images have no label and are not used "
                f"({first_few(self.unlabeled)})."
            )
        found += self.unreadable
        low = facts.minimum if facts.lowest is None else facts.lowest
        high = facts.maximum if facts.highest is None else facts.highest
        outside = [n for n in mos.tolist() if not low - _ROUNDING <= n <= high + _ROUNDING]
        if outside:
            found.append(
                f"{len(outside)} labels lie outside of {low:g} to {high:g} ({first_few(outside)})."
            )
        for what in ("mean label", "standard deviation"):
            here, expected = self.figures[what]
            if expected is not None and not np.isclose(here, expected, rtol=0, atol=_ROUNDING):
                found.append(f"The {what} is {here:.4f}, and {expected:.4f} is expected.")
        return tuple(found)


def check_dataset(
    dataset: Dataset,
    root: Path,
    *,
    decode: bool = True,
    readers: int | None = None,
    progress: Progress | None = None,
) -> DatasetCheck:
    """Compares a tree with what a dataset should be.

    Args:
        dataset: that should be there.
        root: of its download.
        decode: decode every image, which takes minutes for tens of thousands.
        readers: threads that decode; None takes one per core, at most 8.
        progress: wraps the answers as they come, given their number.

    Raises:
        TableError: no such folder, or label files that are missing or cannot be used.
    """
    table = dataset.load(root)
    found = table.find(root)
    paths = [path for path in found if path is not None]
    missing = tuple(n for n, path in zip(table.names, found, strict=True) if path is None)
    unreadable: tuple[str, ...] = ()
    if decode:
        with ThreadPoolExecutor(readers or min(8, usable_cores())) as pool:
            answers = pool.map(_why_unreadable, paths)
            coming = progress(answers, len(paths)) if progress else answers
            unreadable = tuple(answer for answer in coming if answer)
    return DatasetCheck(
        dataset=dataset,
        table=table,
        missing=missing,
        unlabeled=tuple(_unlabeled(dataset, root, paths)),
        unreadable=unreadable,
        decoded=len(paths) if decode else 0,
        doubled=tuple(_doubled(table.names, found)),
    )


def _doubled(names: Sequence[str], paths: Sequence[Path | None]) -> Iterator[str]:
    """Names whose image an earlier name means too."""
    seen: set[Path] = set()
    for name, path in zip(names, paths, strict=True):
        if path is None:
            continue
        if path in seen:
            yield name
        seen.add(path)


def _unlabeled(dataset: Dataset, root: Path, rated: Sequence[Path]) -> Iterator[str]:
    """Images below a dataset's folders, by name relative to the root, that have no label."""
    known = set(rated)
    unlabeled = {name.casefold() for name in dataset.unlabeled}
    for folder in dataset.folders:
        place = find_below(root, folder)
        if place is None or (known and not any(place in path.parents for path in known)):
            continue  # such as the smaller copies of KonIQ-10k beside the larger ones
        yield from (
            path.relative_to(root).as_posix()
            for path in sorted(place.rglob("*"))
            if path.suffix.lower() in SUFFIXES
            and path not in known
            and path.name.casefold() not in unlabeled
            and path.is_file()
        )


def _why_unreadable(path: Path) -> str:
    """Why an image cannot be decoded; empty if it can."""
    try:
        read_image_uint8(path)
    except ImageError as error:
        return str(error)
    return ""
