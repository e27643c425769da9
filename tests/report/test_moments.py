from pathlib import Path

from qfm_iqm.culling.row import CullRow
from qfm_iqm.report.moments import moments_page
from qfm_iqm.report.scores import Place

from .test_scores import inlined


def row(path, moment, rank, photos=2):
    return CullRow(path, score=50.0, moment=moment, photos=photos, rank=rank, keep=rank == 1)


def test_moments_of_several_photos_stand_on_the_page_by_rank(tmp_path):
    rows = [row("b/2.jpg", 2, 2), row("b/1.jpg", 2, 1), row("a/0.jpg", 1, 1, photos=1)]
    rows += [row("a/4.jpg", 3, 1), row("a/5.jpg", 3, 2), CullRow("x.jpg", status="error")]
    data = inlined(moments_page(rows, "cull.csv", Place(tmp_path / "page.html", Path()), count=0))
    assert data["columns"]["name"] == ["1.jpg", "2.jpg", "4.jpg", "5.jpg"]
    assert data["columns"]["moment"] == [2, 2, 3, 3]
    assert (data["alone"], data["failed"], data["thumbnails"]) == (1, 1, {})
    assert [folder["name"] for folder in data["folders"]] == ["b/", "a/"]


def test_small_copies_are_of_the_first_moments(photo_folder, tmp_path):
    names = [path.name for path in sorted(photo_folder.iterdir())[:4]]
    rows = [row(name, 1 + i // 2, 1 + i % 2) for i, name in enumerate(names)]
    place = Place(tmp_path / "page.html", photo_folder)
    data = inlined(moments_page(rows, "t", place, count=3))
    assert list(data["thumbnails"]) == ["0", "1", "2"]
    other = inlined(moments_page(rows[:2], "t", place, count=0))
    assert other["id"] != data["id"]  # decisions belong to exactly these photos


def test_no_moment_of_several_photos(tmp_path):
    data = inlined(moments_page([row("a.jpg", 1, 1, 1)], "t", Place(tmp_path / "p.html", Path())))
    assert data["rows"] == 0
