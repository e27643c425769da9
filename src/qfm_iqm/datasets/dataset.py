"""What is known of a public dataset: facts, and how its official download becomes a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qfm_iqm.datasets.table import RatedTable, find_below
from qfm_iqm.errors import TableError


@dataclass(frozen=True)
class Dataset:
    """A public rated set of images.

    Attributes:
        name: as the command line and recipes call it.
        title: as its authors call it.
        images: rated images in a whole download.
        contents: source images that they were made from; as many as images if each is its own.
        label: what the label is called.
        minimum: lower end of the scale.
        maximum: upper end.
        higher_is_better: direction of the label.
        folders: below the root, that hold the rated images.
        citation: of the paper that introduced it.
        terms: of use, in a few words; the site has the whole.
        source: where a person gets it.
        read: label files below a root -> table; names relative to the root; images not looked at.
            Contents are what the label files call the source photo, whatever folder it lies in:
            of degraded images by `table.content_of`, else the image's own name there.
        lowest: label of a whole download; None if it is not known here.
        highest: label, likewise. LIVE's real labels leave their scale at both ends.
        mean: of the labels, likewise.
        std: their standard deviation (of the whole, not of a sample), likewise.
        unlabeled: files in the folders, by name, that the authors left without a label.
        split: what a benchmark tests on: numbered folds, the authors' own split, or that split
            where the label files mark it.
        optional: label files that a table can do without, and the column that is lost then.
        batch_size: crops per step and process in the paper's training (ours where it gives none).
        group: column whose groups are reported beside the whole; None for none.
        shorter_side: to which photos are reduced; None keeps their size.
        squeezed: height and width to which the literature resizes its photos, whatever their
            aspect; None for datasets whose size it keeps.
    """

    name: str
    title: str
    images: int
    contents: int
    label: str
    minimum: float
    maximum: float
    higher_is_better: bool
    folders: tuple[str, ...]
    citation: str
    terms: str
    source: str
    read: Callable[[Path], RatedTable]
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
        """The rated images below `root`, a table with names relative to it.

        Columns that the dataset has: `std`, `distortion`, `level`, `split`, and its own.

        Raises:
            TableError: no such folder, label files that are missing or cannot be used.
        """
        if not root.is_dir():
            raise TableError(
                f"{self.title} was asked for in {root}, but there is no such folder; give the "
                f"folder of the unpacked download, which holds {' and '.join(self.folders)}."
            )
        return self.read(root)


def label_file(root: Path, *candidates: str) -> Path:
    """The first of some files that lies below `root`, whatever its letter case.

    Args:
        root: of the download.
        candidates: paths relative to it, the preferred one first.

    Raises:
        TableError: there is none of them; says so if one lies a folder deeper.
    """
    for candidate in candidates:
        if (path := find_below(root, candidate)) is not None:
            return path
    below = [child for child in sorted(root.iterdir()) if child.is_dir()]
    deeper = [child for child in below if any(find_below(child, one) for one in candidates)]
    hint = f"give {deeper[0]}" if deeper else "give the folder of the whole, unpacked download"
    raise TableError(f"{root} holds no label file {' or '.join(candidates)}: {hint}.")
