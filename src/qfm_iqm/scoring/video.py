"""Computes a video's row from the scores of its frames; reads and writes tables of frames."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.reading import read_cells
from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.text_tables import write_csv

TAIL = 10  # %


@dataclass(frozen=True)
class FrameScore:
    """The score of a video frame.

    Attributes:
        path: the video.
        time: seconds since the first frame.
        score: score, as for a photo.
        out_of_distribution: as for a photo.
    """

    path: str
    time: float
    score: float
    out_of_distribution: bool | None = None


def video_row(row: ScoreRow, frames: Sequence[FrameScore], *, higher_is_better: bool) -> ScoreRow:
    """Computes the row of a video from its frames.

    The score is the mean over the frames. Percentile and interval are for photos and stay empty. A
    video is out of distribution if most of its frames are.

    Args:
        row: row with the facts about the file.
        frames: frames in order of time.
        higher_is_better: direction of the scores.
    """
    scores = np.array([frame.score for frame in frames])
    seconds: dict[int, list[float]] = {}
    for frame in frames:
        seconds.setdefault(math.floor(frame.time), []).append(frame.score)
    means = {second: float(np.mean(inside)) for second, inside in seconds.items()}
    worst_at = (min if higher_is_better else max)(means, key=lambda second: means[second])
    flags = [frame.out_of_distribution for frame in frames]
    known = [flag for flag in flags if flag is not None]
    return replace(
        row,
        score=round(float(scores.mean()), 6),
        out_of_distribution=2 * sum(known) > len(known) if known else None,
        frames=len(frames),
        p10=round(float(np.percentile(scores, TAIL if higher_is_better else 100 - TAIL)), 6),
        worst=round(means[worst_at], 6),
        worst_at=float(worst_at),
    )


COLUMNS = tuple(field.name for field in fields(FrameScore))


def write_frames(frames: Iterable[FrameScore], path: Path) -> None:
    """Writes frames atomically as CSV; writes nothing if there are none.

    Raises:
        TableError: the file cannot be written.
    """
    coming = iter(frames)
    first = next(coming, None)
    if first is not None:
        write_csv(path, COLUMNS, map(astuple, chain((first,), coming)))


def read_frames(path: Path) -> list[FrameScore]:
    """Reads a table from `write_frames`.

    Raises:
        TableError: it cannot be read or is no such table.
    """
    cells = read_cells(path, strip=False, may_be_empty=True)
    if not {"path", "time", "score"} <= cells.columns.keys():
        raise TableError(
            f"{path} is not a table of frames: qfm score --frames writes one, with the columns "
            f"{', '.join(COLUMNS)}{cells.form}."
        )
    times, scores = (cells.finite(name, cells.columns[name]).tolist() for name in ("time", "score"))
    flags = cells.columns.get("out_of_distribution", ("",) * len(cells.places))
    try:
        return [
            FrameScore(path_, time, score, _FLAGS[flag])
            for path_, time, score, flag in zip(
                cells.columns["path"], times, scores, flags, strict=True
            )
        ]
    except KeyError as error:
        raise TableError(f"{path} has {error} instead of True or False{cells.form}.") from error


_FLAGS = {"": None, "True": True, "False": False}
