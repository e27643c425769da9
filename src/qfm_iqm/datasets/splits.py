"""Reproducible splits of a table into train, validation and test, by content.

No random generator is used. Contents are ordered by SHA-256, so that a split depends only on names,
contents and arguments, not on row order, machine or version.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from qfm_iqm.arrays import Indices
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError
from qfm_iqm.files import text_hash

SPLITS = ("train", "validation", "test")

# Spellings of the splits in official tables; 0, 1, 2 are pyiqa's codes.
OFFICIAL_VALUES = {
    "train": "train",
    "training": "train",
    "0": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "1": "validation",
    "test": "test",
    "testing": "test",
    "2": "test",
}


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of image names and the rule that made them.

    Attributes:
        train: names for training; sorted by code point, like the other two.
        validation: names for model selection; empty if the rule asks for none.
        test: names for testing; empty if the rule asks for none.
        rule: one line with the splitting rule and its arguments.

    Raises:
        TableError: a name is in two splits, or a name or the rule contains a line break.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    rule: str

    def __post_init__(self) -> None:
        for split in SPLITS:
            object.__setattr__(self, split, tuple(sorted(self.names(split))))
        names = self.train + self.validation + self.test
        if len(set(names)) < len(names):
            raise TableError(
                f"A split must list each image once, but {len(names) - len(set(names))} names "
                "are repeated in the same or another split; correct the list."
            )
        broken = [text for text in (*names, self.rule) if "\n" in text or "\r" in text]
        if broken:
            raise TableError(
                f"A split is written one image per line, but {broken[0]!r} holds a line break; "
                "rename the image."
            )

    def names(self, split: str) -> tuple[str, ...]:
        """The names in the split called `train`, `validation` or `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical text in hex; identifies the split in a model card."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def to_text(self) -> str:
        """The canonical text: the rule as a comment, then sorted lines `split<TAB>name`."""
        lines = [f"# rule: {self.rule}"]
        lines += [f"{split}\t{name}" for split in SPLITS for name in self.names(split)]
        return "\n".join(lines) + "\n"

    @staticmethod
    def from_text(text: str) -> "Split":
        """The inverse of `to_text`; line order and Windows line endings do not matter.

        Raises:
            TableError: the rule is missing, or a line is not `split<TAB>name`.
        """
        rule: str | None = None
        listed: dict[str, list[str]] = {split: [] for split in SPLITS}
        # Not splitlines(): it also splits at rarer separators such as U+2028.
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
            split, tab, name = line.partition("\t")
            if line.startswith("# rule: "):
                rule = line.removeprefix("# rule: ")
            elif tab and name and split in listed:
                listed[split].append(name)
            elif line and not line.startswith("#"):
                raise TableError(
                    f"A line must be a split ({', '.join(SPLITS)}), a tab and a name, "
                    f"but line {number} is {line!r}."
                )
        if rule is None:
            raise TableError("A split needs its rule in a line '# rule: ...', but there is none.")
        return split_from(listed, rule)

    def indices(self, table: RatedTable) -> dict[str, Indices]:
        """Row indices of each split in `table`, in the order of the sorted names.

        That order does not depend on the table's row order.

        Raises:
            TableError: the table does not have exactly the names of the split.
        """
        row = {name: index for index, name in enumerate(table.names)}
        names = set(self.train + self.validation + self.test)
        lost, extra = sorted(names - row.keys()), sorted(row.keys() - names)
        if lost or extra:
            raise TableError(
                f"The split and {table.source} must hold the same images, but "
                f"{len(lost)} are only in the split ({', '.join(lost[:3]) or 'none'}) and "
                f"{len(extra)} only in the table ({', '.join(extra[:3]) or 'none'}); "
                "use the table that the split was made from."
            )
        return {p: np.array([row[name] for name in self.names(p)], dtype=np.intp) for p in SPLITS}


def split_by_content(
    table: RatedTable,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
) -> Split:
    """Splits a table so that all images of a content are in the same split.

    In ascending order of SHA-256("<seed>:<content>"), contents fill the test split until it has at
    least round(test * N) images, then validation likewise; the rest is train. N is the number of
    all images.

    Args:
        table: the rated images; labels are not used.
        test: share of all images for testing; 0 for none (a separate test set).
        validation: share of all images for model selection; 0 for none.
        seed: number of the split.

    Raises:
        TableError: a share is out of range, the seed is negative, or a requested split is empty.
    """
    if not all(isfinite(share) and 0 <= share < 1 for share in (test, validation)):
        raise TableError(
            f"The shares of test and validation must be at least 0 and below 1, "
            f"but {test} and {validation} were given."
        )
    if test + validation >= 1:
        raise TableError(
            f"Test and validation must leave images to train on, but their shares are {test} and "
            f"{validation}; lower one."
        )
    if seed < 0:
        raise TableError(f"The seed of a split must be 0 or more, not {seed}.")

    members: dict[str, list[str]] = {}
    for name, unit in zip(table.names, table.contents, strict=True):
        members.setdefault(unit, []).append(name)
    order = sorted(members, key=lambda unit: text_hash(f"{seed}:{unit}"))

    wanted = {"test": round(test * len(table)), "validation": round(validation * len(table))}
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for unit in order:
        short = (split for split in ("test", "validation") if len(listed[split]) < wanted[split])
        listed[next(short, "train")] += members[unit]

    asked = [split for split, share in (("test", test), ("validation", validation)) if share > 0]
    empty = [split for split in (*asked, "train") if not listed[split]]
    if empty:
        raise TableError(
            f"{table.source}: with test={test} and validation={validation}, {' and '.join(empty)} "
            f"would be empty ({len(table)} images of {len(members)} contents); "
            "change the shares or give more contents."
        )
    # The rule is part of a split's hash, so its wording must not change, including "group".
    rule = (
        f"split_by_content(test={float(test)}, validation={float(validation)}, seed={int(seed)}, "
        "group=None): contents in ascending order of "
        "sha256('<seed>:<content>') fill test to round(test*N) images, then validation to "
        "round(validation*N); the rest is train"
    )
    return split_from(listed, rule)


def official_split(table: RatedTable) -> Split:
    """The dataset authors' split, from the column `split` or `set`.

    `OFFICIAL_VALUES` lists the values, which include pyiqa's codes 0, 1, 2. Without a validation
    split in the table, that split is empty. Contents are not checked, because an official split
    must match the literature.

    Raises:
        TableError: the column is missing or has another value, or there are fewer than two splits.
    """
    column = next((key for key in ("split", "set") if key in table.columns), None)
    if column is None:
        raise TableError(
            f"{table.source}: the official split needs a column 'split' or 'set', but the columns "
            f"are: {', '.join(table.columns) or 'none'}; add the authors' list of splits, "
            "which `qfm data check` names if it is missing, or split by content."
        )
    values = table.columns[column]
    unknown = [repr(value) for value in sorted(set(values)) if value.lower() not in OFFICIAL_VALUES]
    if unknown:
        raise TableError(
            f"{table.source}: the column '{column}' must hold train, validation or test, "
            f"but also holds: {first_few(unknown)}; correct it or split by content."
        )
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name, value in zip(table.names, values, strict=True):
        listed[OFFICIAL_VALUES[value.lower()]].append(name)
    if sum(bool(names) for names in listed.values()) < 2:
        quoted = [repr(value) for value in sorted(set(values))]
        raise TableError(
            f"{table.source}: at least two splits are needed, but the column '{column}' puts "
            f"every image into {first_few(quoted)}; split by content."
        )
    rule = f"official_split: the column '{column}' of the dataset's own table"
    return split_from(listed, rule)


def split_from(listed: Mapping[str, Sequence[str]], rule: str) -> Split:
    """A split from the names in each of `SPLITS`."""
    train, validation, test = (tuple(listed[split]) for split in SPLITS)
    return Split(train, validation, test, rule)
