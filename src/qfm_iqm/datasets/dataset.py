"""A public dataset: its facts, and how to read its official download as a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qfm_iqm.datasets.table import RatedTable, find_below
from qfm_iqm.errors import TableError


@dataclass(frozen=True)
class Dataset:
    """A public dataset of rated images.

    Attributes:
        name: name on the command line and in recipes.
        title: name given by the authors.
        images: number of rated images in a complete download.
        contents: number of source images; equal to `images` if each image is its own source.
        minimum: lower end of the scale.
        maximum: upper end of the scale.
        higher_is_better: direction of the label.
        folders: folders below the root with the rated images.
        citation: the paper that introduced it.
        source: download site.
        read: reads the label files below a root as a table, with names relative to the root; does
            not read images. A content is the source photo's name in the label files without its
            folder: by `table.content_of` for degraded images, else the image's own name.
        label: name of the label.
        terms: terms of use in short; the site has the full text.
        lowest: lowest label of a complete download; None if unknown.
        highest: highest label; None if unknown. LIVE's labels exceed their scale at both ends.
        mean: mean of the labels; None if unknown.
        std: population standard deviation of the labels; None if unknown.
        unlabeled: names of files in the folders that have no label from the authors.
        split: what a benchmark tests on: numbered folds, the authors' split, or the authors' split
            where the label files mark it.
        optional: optional label files, each with the column that is lost without it.
        batch_size: crops per step and process in the paper's training (ours if it gives none).
        group: column of groups to report in addition to the whole; None for no groups.
        shorter_side: shorter side that photos are reduced to; None keeps their size.
        squeezed: height and width that the literature resizes photos to, whatever their aspect
            ratio; None if the literature keeps their size.
    """

    name: str
    title: str
    images: int
    contents: int
    minimum: float
    maximum: float
    higher_is_better: bool
    folders: tuple[str, ...]
    citation: str
    source: str
    read: Callable[[Path], RatedTable]
    label: str = "MOS"
    terms: str = "see site"
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    std: float | None = None
    unlabeled: tuple[str, ...] = ()
    split: Literal["folds", "official", "official where marked"] = "folds"
    optional: tuple[tuple[str, str], ...] = ()
    batch_size: int = 128
    group: str | None = None
    shorter_side: int | None = None
    squeezed: tuple[int, int] | None = None

    def load(self, root: Path) -> RatedTable:
        """Reads the rated images below `root` as a table with names relative to it.

        Columns, if the dataset has them: `std`, `distortion`, `level`, `split`, and its own ones.

        Raises:
            TableError: the folder does not exist, or label files are missing or unusable.
        """
        if not root.is_dir():
            raise TableError(
                f"There is no folder {root}; give the folder of {self.title}'s unpacked download, "
                f"which holds {' and '.join(self.folders)}."
            )
        return self.read(root)


def label_file(root: Path, *candidates: str) -> Path:
    """The first of several files that exists below `root`, in any letter case.

    Args:
        root: root folder of the download.
        candidates: paths relative to the root, in order of preference.

    Raises:
        TableError: none exists; the message says if one is a folder deeper.
    """
    for candidate in candidates:
        if (path := find_below(root, candidate)) is not None:
            return path
    below = [child for child in sorted(root.iterdir()) if child.is_dir()]
    deeper = [child for child in below if any(find_below(child, one) for one in candidates)]
    hint = f"give {deeper[0]}" if deeper else "give the folder of the whole, unpacked download"
    raise TableError(f"{root} holds no label file {' or '.join(candidates)}: {hint}.")
