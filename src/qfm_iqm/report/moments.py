"""The page of `qfm cull`: photos of each moment side by side, to keep or to reject.

It shows only moments with several photos. Decisions stay in the browser and are exported as a list
of rejected photos; neither the page nor qfm deletes anything.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from qfm_iqm.culling.row import CullRow
from qfm_iqm.report.page import render
from qfm_iqm.report.scores import Place, Progress, packed, silent, split_path
from qfm_iqm.report.thumbnails import thumbnails

SCRIPTS = ("common.js", "gallery.js", "table.js", "zoom.js", "moments.js", "cull.js")
_COLUMNS = ("moment", "rank", "keep", "reason", "duplicate", "score", "rating", "taken")


def moments_page(
    rows: Sequence[CullRow],
    source: str,
    place: Place,
    *,
    count: int = 500,
    progress: Progress = silent,
) -> str:
    """Renders the page as one HTML file.

    Args:
        rows: rows of a table of `qfm cull`.
        source: origin of the rows, for display.
        place: locations of the page and the photos.
        count: number of thumbnails, for the first moments.
        progress: wraps the iterator over thumbnails.
    """
    shown = [row for row in rows if row.photos is not None and row.photos > 1]
    shown.sort(key=lambda row: (row.moment or 0, row.rank or 0))
    copied = range(min(count, len(shown)))
    coming = thumbnails([place.file(shown[i].path) for i in copied])
    pictures = progress(coming, len(copied), "thumbnails")
    folders: dict[str, int] = {}
    parts = [split_path(row.path) for row in shown]
    columns: dict[str, list[Any]] = {
        "folder": [folders.setdefault(folder, len(folders)) for folder, _ in parts],
        "name": [name for _, name in parts],
        **{name: [getattr(row, name) for row in shown] for name in _COLUMNS},
    }
    # Other photos have other decisions, even if they have the same names.
    photos = "\0".join(sorted(f"{row.path}\0{row.sha256}" for row in shown))
    data = {
        "id": hashlib.sha256(photos.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "rows": len(shown),
        "columns": {name: packed(column) for name, column in columns.items()},
        "folders": [{"name": name, "url": place.url(name)} for name in folders],
        "thumbnails": {
            row: picture for row, picture in zip(copied, pictures, strict=True) if picture
        },
        "meta": [source],
        "alone": sum(row.photos == 1 for row in rows),
        "failed": sum(row.status == "error" for row in rows),
    }
    return render(
        "moments.html",
        title="Photos to keep",
        styles=["base.css", "moments.css"],
        scripts=SCRIPTS,
        data=data,
    )
