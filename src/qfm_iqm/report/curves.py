"""Score curves of videos over time, with few enough points for a page."""

from collections.abc import Iterable, Sequence

from qfm_iqm.scoring.video import FrameScore

POINTS = 240  # points of a curve: about the pixels of a dialog's column


def curves(frames: Iterable[FrameScore], paths: Sequence[str]) -> dict[int, list[list[float]]]:
    """Curves of videos by row number: seconds and scores.

    In longer videos each point is the mean of several frames.

    Args:
        frames: frames of videos, in order of time.
        paths: paths of the rows.
    """
    rows = {path: row for row, path in enumerate(paths)}
    found: dict[int, list[FrameScore]] = {}
    for frame in frames:
        if (row := rows.get(frame.path)) is not None:
            found.setdefault(row, []).append(frame)
    return {row: _thinned(of_video) for row, of_video in found.items()}


def _thinned(frames: Sequence[FrameScore]) -> list[list[float]]:
    step = -(-len(frames) // POINTS)
    groups = [frames[start : start + step] for start in range(0, len(frames), step)]
    times = [round(group[0].time, 2) for group in groups]
    scores = [round(sum(frame.score for frame in group) / len(group), 2) for group in groups]
    return [times, scores]
