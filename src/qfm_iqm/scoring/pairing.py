"""Two score tables of the same images: which row belongs to which."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from qfm_iqm.scoring.tables import ScoreTable

Keys = Sequence[str | None]


@dataclass(frozen=True)
class Pairs:
    """Rows of two tables that are of the same image.

    Attributes:
        rows: of the first table and of the second, in the first table's order.
        rule: what says that they belong together, for people.
        only_first: rows of the first table without a partner.
        only_second: rows of the second table without a partner.
    """

    rows: list[tuple[int, int]]
    rule: str
    only_first: list[int]
    only_second: list[int]


def pair(first: ScoreTable, second: ScoreTable) -> Pairs:
    """Pairs the rows of two tables.

    Of the rules path, path within the table's own folder, the same without the ending, and
    content hash, the one is taken that pairs the most; in doubt the earlier. A key that comes
    twice in a table pairs nothing: which of the two was meant cannot be known.
    """
    rules: tuple[tuple[str, Callable[[ScoreTable], Keys]], ...] = (
        ("path", _paths),
        ("path within the folder", _within),
        ("name without ending", _stems),
        ("content", _contents),
    )
    best: list[tuple[int, int]] = []
    named = rules[0][0]
    for rule, keys in rules:
        found = _matches(keys(first), keys(second))
        if len(found) > len(best):
            best, named = found, rule
    firsts, seconds = {a for a, _ in best}, {b for _, b in best}
    return Pairs(
        best,
        named,
        [row for row in range(len(first)) if row not in firsts],
        [row for row in range(len(second)) if row not in seconds],
    )


def repeated_paths(*tables: ScoreTable) -> str:
    """Of tables that do not pair: how many paths come more than once in each; else empty."""
    counts = [(table, sum(n > 1 for n in Counter(table.paths).values())) for table in tables]
    return " and ".join(
        f"{n} path{'s come' if n > 1 else ' comes'} more than once in {table.source}"
        for table, n in counts
        if n
    )


def _matches(first: Keys, second: Keys) -> list[tuple[int, int]]:
    once = [{key for key, n in Counter(keys).items() if n == 1 and key} for keys in (first, second)]
    places = {key: row for row, key in enumerate(second) if key in once[1]}
    return [(row, places[key]) for row, key in enumerate(first) if key in once[0] and key in places]


def _paths(table: ScoreTable) -> Keys:
    return table.paths


def _within(table: ScoreTable) -> Keys:
    """Paths relative to the folder that all of the table's images lie in."""
    folders = [path.split("/")[:-1] for path in table.paths]
    common = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    cut = sum(len(parts[0]) + 1 for parts in common)
    return [path[cut:] for path in table.paths]


def _stems(table: ScoreTable) -> Keys:
    return [os.path.splitext(key or "")[0] for key in _within(table)]  # noqa: PTH122 - keeps names


def _contents(table: ScoreTable) -> Keys:
    return table.columns.get("sha256", [])
