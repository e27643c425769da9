"""Checks whether a downloaded dataset is complete, against the published facts.

A label without an image makes a dataset incomplete, and training refuses it. An image without a
label is listed and never used. Files that cannot be decoded are listed with the reason. Missing
optional label files are listed with the column that is lost.
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

_ROUNDING = 1e-4  # the facts are rounded to four decimals

Progress = Callable[[Iterator[str], int], Iterator[str]]


@dataclass(frozen=True)
class DatasetCheck:
    """The result of a check.

    Attributes:
        dataset: the dataset.
        table: its rated images, including missing ones.
        missing: names with a label but no image.
        unlabeled: images below the dataset's folders that should have a label but have none.
        unreadable: one sentence per image that cannot be decoded; empty if nothing was decoded.
        decoded: number of images that were decoded or tried.
        doubled: names of an image that another name already refers to.
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
        """Pairs of found and expected values, by name; the expected value is None if unknown."""
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
        """Problems, one sentence each; empty for a complete download."""
        facts, mos = self.dataset, self.table.mos
        assert mos is not None
        found = []
        for what in ("labels", "contents"):
            here, published = self.figures[what]
            if here != published:
                found.append(f"{here:g} {what} were found, {published:g} were published.")
        for file, column in facts.optional:
            if column not in self.table.columns:
                found.append(f"{file} is missing: the column {column} is lost.")
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
                f"{len(outside)} labels lie outside {low:g} to {high:g} ({first_few(outside)})."
            )
        for what in ("mean label", "standard deviation"):
            here, expected = self.figures[what]
            if expected is not None and not np.isclose(here, expected, rtol=0, atol=_ROUNDING):
                found.append(f"The {what} is {here:.4f}, not {expected:.4f} as expected.")
        return tuple(found)


def check_dataset(
    dataset: Dataset,
    root: Path,
    *,
    decode: bool = True,
    progress: Progress | None = None,
) -> DatasetCheck:
    """Checks a download against the facts of its dataset.

    Args:
        dataset: the expected dataset.
        root: root folder of the download.
        decode: decode every image; takes minutes for tens of thousands.
        progress: wraps the iterator over decoding results; also gets their number.

    Raises:
        TableError: the folder does not exist, or label files are missing or unusable.
    """
    table = dataset.load(root)
    found = table.find(root)
    paths = [path for path in found if path is not None]
    missing = tuple(n for n, path in zip(table.names, found, strict=True) if path is None)
    unreadable: tuple[str, ...] = ()
    if decode:
        with ThreadPoolExecutor(min(8, usable_cores())) as pool:
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
    """Yields names that refer to the same image as an earlier name."""
    seen: set[Path] = set()
    for name, path in zip(names, paths, strict=True):
        if path is None:
            continue
        if path in seen:
            yield name
        seen.add(path)


def _unlabeled(dataset: Dataset, root: Path, rated: Sequence[Path]) -> Iterator[str]:
    """Yields images below a dataset's folders that have no label, relative to the root."""
    known = set(rated)
    unlabeled = {name.casefold() for name in dataset.unlabeled}
    for folder in dataset.folders:
        place = find_below(root, folder)
        if place is None or (known and not any(place in path.parents for path in known)):
            continue  # such as KonIQ-10k's smaller copies next to the larger ones
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
