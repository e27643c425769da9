"""Report that compares two score tables of the same images: of two models or two versions."""

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import rankdata

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.win_rate import win_rate
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.page import render
from qfm_iqm.report.scores import SCRIPTS, Place, Progress, silent, table_data
from qfm_iqm.report.thumbnails import thumbnails
from qfm_iqm.scoring.pairing import pair, repeated_paths
from qfm_iqm.scoring.table import ScoreTable


def comparison_page(
    first: ScoreTable,
    second: ScoreTable,
    place: Place,
    label: LabelUnits,
    *,
    title: str = "Two scores compared",
    count: int = 500,
    progress: Progress = silent,
) -> str:
    """Renders the comparison as one HTML file.

    Scores of the same model are compared directly. For different models, whose scales may differ,
    ranks are compared: in percent of the images, from 0 (worst) to 100 (best).

    Args:
        first: reference scores.
        second: scores to compare with the reference.
        place: locations of the page and the images.
        label: scale and direction of the scores.
        title: heading of the page.
        count: number of thumbnails, for the images that differ most.
        progress: wraps the iterator over thumbnails.

    Raises:
        TableError: fewer than two images have scores in both tables.
    """
    pairs = pair(first, second)
    both = [
        (a, b)
        for a, b in pairs.rows
        if first.scores[a] is not None and second.scores[b] is not None
    ]
    if len(both) < 2:
        raise TableError(
            f"{first.source} and {second.source} have {len(both)} scored images in common: "
            f"{repeated_paths(first, second) or 'there is nothing to compare'}."
        )
    better = 1 if label.higher_is_better else -1
    a_N = np.array([first.scores[a] for a, _ in both], dtype=np.float64)
    b_N = np.array([second.scores[b] for _, b in both], dtype=np.float64)
    same_model = first.models == second.models
    if not same_model:
        a_N, b_N, better = _ranks(better * a_N), _ranks(better * b_N), 1
    change_N = (better * (b_N - a_N)).round(6).tolist()
    result = win_rate(a_N, b_N, higher_is_better=better > 0)

    order = sorted(range(len(both)), key=lambda i: -abs(change_N[i]))[:count]
    sides = (first, second)
    files = [place.file(sides[k].paths[both[i][k]]) for i in order for k in (0, 1)]
    # For two models on the same files, both sides share one thumbnail.
    needed = list(dict.fromkeys(files))
    coming = thumbnails(needed)
    pictures = dict(zip(needed, progress(coming, len(needed), "thumbnails"), strict=True))
    tables = [table_data(table, place) for table in sides]
    shown: list[dict[int, str]] = [{}, {}]
    for i in order:
        for k in (0, 1):
            picture = pictures[place.file(sides[k].paths[both[i][k]])]
            if picture is not None:
                shown[k][both[i][k]] = picture
    data: dict[str, Any] = {
        "label": label.model_dump(),
        "ranks": None if same_model else [a_N.round(4).tolist(), b_N.round(4).tolist()],
        "same_files": all(first.paths[a] == second.paths[b] for a, b in both),
        "rule": pairs.rule,
        "names": [table.source for table in sides],
        "models": [", ".join(table.models) for table in sides],
        "tables": tables,
        "thumbnails": shown,
        "pairs": both,
        "changes": change_N,
        "unscored": [
            p for p in pairs.rows if first.scores[p[0]] is None or second.scores[p[1]] is None
        ],
        "only": [pairs.only_first, pairs.only_second],
        "win_rate": asdict(result),
    }
    return render(
        "compare.html",
        title=title,
        styles=["base.css", "report.css"],
        scripts=[*SCRIPTS, "compare.js"],
        data=data,
    )


def _ranks(score_N: Doubles) -> Doubles:
    """Ranks in percent: 0 for the lowest score, 100 for the highest; ties get the mean rank."""
    return np.asarray((rankdata(score_N) - 1) * (100 / max(1, len(score_N) - 1)))
