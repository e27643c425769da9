"""Distilled Label Expansion: unlabeled images with a teacher's labels (docs/method.md, section 4).

    ^y_u = T(x_u), the mean over the covering crops of x_u

The pseudo-labels are computed once, by the same engine as `qfm score`, and kept in a table with the
hashes of the teacher's weights and of each image. A table of another teacher, or of an image that
has changed since, is refused. Images are scored in groups that depend only on their position in the
pool, and rows are written as they come: an interrupted expansion resumes with the group it was in
and gives bit-identical results.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfm_iqm.datasets.leakage import pool_leaks, refuse_leaks, write_leaks
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import TableError
from qfm_iqm.files import text_hash, writing
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.crop_stream import CropSource
from qfm_iqm.scoring.inputs import find_images
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.text_tables import guarded, unguarded
from qfm_iqm.training.data import TrainingData, UnlabeledImage
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.stages import file_hash, files_hash

_NAMED = 10  # unreadable images that are reported by name
MOST_UNREADABLE = 0.05  # largest share of unreadable images; above it the pool is probably wrong
GROUP = 64  # images that are scored, or rescored, together: their crops share batches
_COLUMNS = ("name", "sha256", "score", "error")
ANY_NAME: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}  # any file name


@dataclass(frozen=True)
class UnlabeledPool:
    """Unlabeled images.

    Attributes:
        names: image names, as in their table or folder.
        contents: content of each image; its name if none is given.
        paths: image files.
    """

    names: tuple[str, ...]
    contents: tuple[str, ...]
    paths: tuple[Path, ...]

    def hash(self) -> str:
        """SHA-256 over the names, contents and files."""
        return text_hash(repr((self.names, self.contents, files_hash(self.paths))))

    def without(self, rows: set[int]) -> UnlabeledPool:
        """The pool without the images at these positions."""
        kept = [i for i in range(len(self.names)) if i not in rows]
        return UnlabeledPool(
            tuple(self.names[i] for i in kept),
            tuple(self.contents[i] for i in kept),
            tuple(self.paths[i] for i in kept),
        )


def find_pool(place: Path, root: Path) -> UnlabeledPool:
    """The unlabeled images of a folder or a table.

    Args:
        place: a folder, or a table `name[,content]`.
        root: base folder for the names in a table.

    Raises:
        TableError: a folder without images, or a table that cannot be used.
    """
    if not place.is_dir():
        table = read_table(place, require_mos=False)
        return UnlabeledPool(table.names, table.contents, tuple(table.paths(root)))
    found = find_images([str(place)])
    if found.unreadable:
        raise TableError(f"The folder {found.unreadable[0]} of unlabeled images cannot be listed.")
    if not found.files:
        raise TableError(f"There is no image in {place} to learn from.")
    names = tuple(str(Path(file).relative_to(place)) for file in found.files)
    return UnlabeledPool(names, names, tuple(Path(file) for file in found.files))


def without_leaks(
    pool: UnlabeledPool,
    data: TrainingData,
    listed: Path,
    reporter: Reporter,
    *,
    drop: bool,
) -> UnlabeledPool:
    """The pool without images that leak from the held-out ones, if they may be dropped.

    An image leaks if it has the content or the name of a held-out image, or if its perceptual hash
    is close to that of one.

    Args:
        pool: unlabeled images.
        data: the run's data, whose held-out images must stay unseen.
        listed: CSV file for all leaking pairs.
        reporter: reports the number of leaks.
        drop: leave out leaking images; False refuses them.

    Raises:
        TableError: there are leaks and `drop` is False (names the nearest), every image leaks, or
            the list cannot be written.
        ImageError: a held-out image cannot be read for the comparison.
    """
    held = sum(map(len, data.held_out.values()))
    reporter.say(f"Comparing {len(pool.paths)} unlabeled with {held} held-out images.")
    leaks = pool_leaks(pool.names, pool.contents, pool.paths, data.held_out, data.root)
    with writing(listed.parent):
        listed.parent.mkdir(parents=True, exist_ok=True)
    write_leaks(leaks, listed)
    if not drop:
        refuse_leaks(leaks, listed=listed, remedy="take them out of the pool")
    leaking = {leak.image for leak in leaks}
    rows = {i for i, path in enumerate(pool.paths) if str(path) in leaking}
    if rows:
        reporter.say(f"{len(rows)} unlabeled images leak and are left out: {listed}")
    if len(rows) == len(pool.paths):
        raise TableError(f"All {len(rows)} unlabeled images leak ({listed}): none are left.")
    return pool.without(rows)


def expand(
    pool: UnlabeledPool,
    teacher: QualityModel,
    cache: Path,
    reporter: Reporter,
    *,
    device: str | None = None,
    source: CropSource | None = None,
) -> list[UnlabeledImage]:
    """Labels a pool with a teacher, or takes the labels from the cache.

    Args:
        pool: unlabeled images without leaks.
        teacher: the frozen teacher.
        cache: CSV file of the pseudo-labels; labels in it are not computed again.
        reporter: shows progress.
        device: a torch device name; None takes a GPU if there is one.
        source: returns the crops of a file instead of reading the file.

    Returns:
        The readable images with their labels.

    Raises:
        TableError: the cache comes from another teacher, images have changed since, or more than
            5 % of the images cannot be read.
    """
    known = _read_cache(cache, teacher)
    hashes = {name: file_hash(path) for name, path in zip(pool.names, pool.paths, strict=True)}
    changed = [name for name in pool.names if name in known and known[name][0] != hashes[name]]
    if changed:
        raise TableError(
            f"{len(changed)} images have changed since {cache} was made, the first {changed[0]}: "
            "delete that file to label them again."
        )
    places = range(len(pool.names))
    groups = [places[first : first + GROUP] for first in places[::GROUP]]
    missing = [group for group in groups if any(pool.names[i] not in known for i in group)]
    if missing:
        scorer = Scorer(teacher, device=device, source=source, shown=False)
        scored = [i for group in missing for i in group]
        rows = (
            row for group in missing for row in scorer.score_paths([pool.paths[i] for i in group])
        )
        with cache.open("a", newline="", **ANY_NAME) as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            for i, row in zip(scored, reporter.scoring(rows, len(scored)), strict=True):
                name = pool.names[i]
                if name not in known:
                    known[name] = (hashes[name], row.score, row.error)
                    written = (name, hashes[name], row.score, row.error)
                    writer.writerow(map(guarded, written))
                    file.flush()
    unreadable = [(name, known[name][2]) for name in pool.names if known[name][1] is None]
    for name, error in unreadable[:_NAMED]:
        reporter.say(f"unlabeled image {name} is left out: {error}")
    if unreadable:
        reporter.say(
            f"{len(unreadable)} of {len(pool.names)} unlabeled images cannot be read; all are "
            f"listed in {cache}."
        )
    if len(unreadable) > MOST_UNREADABLE * len(pool.names):
        raise TableError(
            f"{len(unreadable)} of {len(pool.names)} unlabeled images cannot be read, the first "
            f"{unreadable[0][0]}: at most {MOST_UNREADABLE:.0%} may be left out, so repair or "
            "remove them."
        )
    labelled = zip(pool.names, pool.contents, pool.paths, strict=True)
    return [
        UnlabeledImage(path, content, score)
        for name, content, path in labelled
        if (score := known[name][1]) is not None
    ]


def _read_cache(cache: Path, teacher: QualityModel) -> dict[str, tuple[str, float | None, str]]:
    """Hash, score and error by name; creates the file if it does not exist."""
    facts = {
        "teacher_sha256": teacher.card.weights_sha256,
        "preprocessing": teacher.card.preprocessing.model_dump(),
    }
    header = f"# {json.dumps(facts)}\n"
    beginning = f"{header}{','.join(_COLUMNS)}\n"
    content = cache.read_bytes().decode(**ANY_NAME) if cache.is_file() else ""
    if beginning.startswith(content):  # no file yet, or a kill in its first line
        cache.write_text(beginning, "utf-8")
        return {}
    if not content.startswith(beginning):
        raise TableError(
            f"The pseudo-labels {cache} are from another teacher: delete that file to label "
            "the images again."
        )
    whole = content[: content.rfind("\n") + 1]
    if whole != content:  # a kill in the middle of a line: that image is scored again
        partial = cache.with_suffix(".partial")
        partial.write_bytes(whole.encode(**ANY_NAME))
        partial.replace(cache)
    rows = csv.DictReader(io.StringIO(whole.removeprefix(header), newline=""))
    return {
        unguarded(row["name"]): (
            row["sha256"],
            float(row["score"]) if row["score"] else None,
            unguarded(row["error"]),
        )
        for row in rows
    }
