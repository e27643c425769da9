r"""Pairs the rows of two tables that belong to the same image.

Design choices:

* Paths are paired by their endings. `a.png`, `jpeg/a.png` and `C:\data\jpeg\a.png` may be the same
  image; `blur/a.png` and `jpeg/a.png` are different, because their folders differ.
* The longest common ending wins, and each path is paired only once. If two paths are possible, none
  is taken, unless all others are paired under the same folder: with `qfm score img`, the label
  `a.png` is paired with `img/a.png`, although `img/sub/a.png` also ends with it, once that one is
  paired with `sub/a.png`.
* Letter case matters. Unicode normalization forms, and what follows the path of a web address, do
  not.

Paths are compared as parts joined by slashes; an ending begins at a part.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
from urllib.parse import unquote

from qfm_iqm.scoring.table import ScoreTable

Keys = Sequence[str | None]
Rows = list[tuple[int, int]]

_TO_RESOLVE = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")  # parts that are empty, `.` or `..`


@dataclass(frozen=True)
class Pairs:
    """Paired rows of two tables.

    Attributes:
        rows: pairs of a row of the first table and a row of the second, in the first's order.
        rule: description of the pairing rule.
        only_first: rows of the first table without a partner.
        only_second: rows of the second table without a partner.
    """

    rows: Rows
    rule: str
    only_first: list[int]
    only_second: list[int]


def pair(first: ScoreTable, second: ScoreTable) -> Pairs:
    """Pairs the rows of two score tables of the same images or of two versions of them.

    The rules are: path (`pair_paths`), path within the table's common folder, the same without
    extension, and content hash. The rule with the most pairs is used; among equals, the earlier
    one. A key that occurs twice in a table is ambiguous and not paired.
    """
    rules: tuple[tuple[str, Callable[[ScoreTable], Keys]], ...] = (
        ("path within the folder", _within),
        ("name without extension", _stems),
        ("content", _contents),
    )
    best, named = pair_paths(first.paths, second.paths), "path"
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


def pair_paths(first: Sequence[str], second: Sequence[str]) -> Rows:
    """Pairs paths one to one by their longest common ending; see above.

    A path that occurs twice in a list is not paired. The time is linear in the number of paths.

    Returns:
        Pairs of indices into the first and the second list, in the first list's order.
    """
    found = dict(_matches(first, second))  # identical paths, even if others are comparable
    if len(found) == min(len(first), len(second)):
        return sorted(found.items())
    paths = (list(map(comparable, first)), list(map(comparable, second)))
    places = tuple({path: place for place, path in enumerate(side)} for side in paths)
    counts = tuple(map(Counter, paths))
    for path, other in _partners(set(paths[0]) - {""}, set(paths[1]) - {""}).items():
        if counts[0][path] == counts[1][other] == 1:
            found[places[0][path]] = places[1][other]
    return sorted(found.items())


def comparable(path: str) -> str:
    """A path in the form for comparison: parts joined by slashes, for paths of any system.

    For a web address these are the host and the parts of the path; for other URLs, everything after
    the scheme.
    """
    scheme, mark, rest = path.partition("://")
    if mark:
        path = rest
        if scheme.lower() in ("http", "https"):
            path = unquote(rest.partition("#")[0].partition("?")[0])
    path = path.replace("\\", "/").lstrip("/")
    if _TO_RESOLVE.search(path):
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        path = "/".join(parts)
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def candidates(path: str, others: Sequence[str]) -> list[str]:
    """The other paths that may be the same image as a path, best first."""
    own = comparable(path)
    ends = [(other, comparable(other)) for other in others]
    found = [(min(len(own), len(end)), other) for other, end in ends if _agree(own, end)]
    return [other for _, other in sorted(found, key=lambda one: -one[0])]


def repeated_paths(*tables: ScoreTable) -> str:
    """How many paths occur more than once in each table, in words; empty if none do."""
    counts = [(table, sum(n > 1 for n in Counter(table.paths).values())) for table in tables]
    return " and ".join(
        f"{n} path{'s occur' if n > 1 else ' occurs'} more than once in {table.source}"
        for table, n in counts
        if n
    )


def _partners(first: set[str], second: set[str]) -> dict[str, str]:
    """Pairs comparable paths of two sets by their longest common ending."""
    sides = (first, second)
    # For each side's paths: the partner, and the extra leading folders of the longer path.
    partner: tuple[dict[str, tuple[str, object]], ...] = ({}, {})
    for path in first & second:
        partner[0][path] = partner[1][path] = (path, None)
    if len(partner[0]) == min(map(len, sides)):
        return {path: path for path in partner[0]}
    # For each side's paths: the other side's paths that end with it, and the longest path of the
    # other side that it ends with.
    longer: tuple[dict[str, list[str]], ...] = ({}, {})
    shorter: tuple[dict[str, str], ...] = ({}, {})
    for side, paths in enumerate(sides):
        others, found, best = sides[1 - side], longer[1 - side], shorter[side]
        for path in paths:
            cut = path.find("/") + 1
            while cut:
                ending = path[cut:]
                if ending in others:
                    found.setdefault(ending, []).append(path)
                    best.setdefault(path, ending)
                cut = path.find("/", cut) + 1
    # Longest endings first, so that the partners of a path's rivals are known.
    order = [(path.count("/"), side, path) for side in (0, 1) for path in longer[side]]
    for _, side, path in sorted(order, key=itemgetter(0), reverse=True):
        other = 1 - side
        free = [rival for rival in longer[side][path] if rival not in partner[other]]
        if path in partner[side] or len(free) != 1:
            continue
        (match,) = free
        if shorter[other][match] != path or match in longer[other]:
            continue  # it has a longer common ending with another path, which was ambiguous
        folders = (side, match[: -len(path)])
        taken = (partner[other][rival][1] for rival in longer[side][path] if rival != match)
        if all(theirs == folders for theirs in taken):
            partner[side][path], partner[other][match] = (match, folders), (path, folders)
    return {path: match for path, (match, _) in partner[0].items()}


def _agree(path: str, other: str) -> bool:
    """Whether two comparable paths are equal, or one ends with the other."""
    short, long = sorted((path, other), key=len)
    return short == long or long.endswith(f"/{short}")


def _matches(first: Keys, second: Keys) -> Rows:
    once = [{key for key, n in Counter(keys).items() if n == 1 and key} for keys in (first, second)]
    places = {key: row for row, key in enumerate(second) if key in once[1]}
    return [(row, places[key]) for row, key in enumerate(first) if key in once[0] and key in places]


def _within(table: ScoreTable) -> Keys:
    """Paths relative to the common folder of the table's images."""
    paths = [path.replace("\\", "/") for path in table.paths]
    folders = [path.split("/")[:-1] for path in paths]
    common = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    cut = sum(len(parts[0]) + 1 for parts in common)
    return [path[cut:] for path in paths]


def _stems(table: ScoreTable) -> Keys:
    return [os.path.splitext(key or "")[0] for key in _within(table)]  # noqa: PTH122 - keeps names


def _contents(table: ScoreTable) -> Keys:
    return table.columns.get("sha256", [])
