import os
from pathlib import Path

import pytest

from qfm_iqm.scoring.files import find_images


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Only names matter here: the files are empty."""
    for name in (
        "b.jpg", "a.PNG", "notes.txt", "document.pdf", ".hidden.jpg", "no_ending", "z.heic",
        "sub/c.webp", "sub/deep/d.avif", "sub/deep/table.csv", "sub2/e.tiff",
    ):  # fmt: skip
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_folders_are_searched_to_the_bottom_in_sorted_order(tree):
    found = find_images(["photos"])
    assert found.files == (
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/z.heic",
        "photos/sub/c.webp",
        "photos/sub/deep/d.avif",
        "photos/sub2/e.tiff",
    )
    assert found.skipped == 5
    assert found.unreadable == ()


def test_all_files_are_all_files(tree):
    found = find_images(["photos"], all_files=True)
    everything = {str(path) for path in Path("photos").rglob("*") if path.is_file()}
    assert set(found.files) == everything
    assert len(found.files) == 11
    assert found.skipped == 0


def test_paths_are_kept_as_they_were_given(tree, monkeypatch):
    monkeypatch.chdir(tree / "sub")
    assert find_images(["."]).files == ("./c.webp", "./deep/d.avif")
    assert find_images(["deep/"]).files == ("deep/d.avif",)
    assert find_images(["../b.jpg"]).files == ("../b.jpg",)
    assert find_images([str(tree / "sub2")]).files == (str(tree / "sub2" / "e.tiff"),)


def test_a_named_file_is_taken_whatever_it_is_called(tree):
    named = ("photos/notes.txt", "photos/.hidden.jpg", "photos/no_ending")
    assert find_images(named).files == named


def test_a_path_where_nothing_is_stays_to_get_its_row(tree):
    assert find_images(["photos/gone.jpg", ""]).files == ("photos/gone.jpg", "")


def test_arguments_keep_their_order_and_files_come_once(tree):
    found = find_images(["photos/sub2", "photos/b.jpg", "photos", "photos/b.jpg"])
    assert found.files[:2] == ("photos/sub2/e.tiff", "photos/b.jpg")
    assert len(found.files) == len(set(found.files)) == 6


def test_an_empty_folder_has_no_images(tmp_path):
    assert find_images([str(tmp_path)]).files == ()


def test_links_to_files_are_files_and_circles_end(tree):
    (tree / "sub" / "link.jpg").symlink_to(tree / "b.jpg")
    (tree / "sub" / "dead.jpg").symlink_to(tree / "gone.jpg")
    (tree / "sub" / "circle").symlink_to(tree)
    found = find_images(["photos/sub"])
    assert found.files == (
        "photos/sub/c.webp",
        "photos/sub/dead.jpg",  # reading it gives the row that says so
        "photos/sub/link.jpg",
        "photos/sub/deep/d.avif",
    )
    assert find_images(["photos/sub/circle"]).files[0] == "photos/sub/circle/a.PNG"


@pytest.mark.parametrize("name", ["with space.jpg", "line\nbreak.jpg", "тень 影.jpg", "q'\"; .jpg"])
def test_any_name(tmp_path, name):
    (tmp_path / name).touch()
    assert find_images([str(tmp_path)]).files == (str(tmp_path / name),)


def test_names_that_are_no_text(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).touch()
    (found,) = find_images([str(tmp_path)]).files
    assert os.fsencode(found) == raw


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the owner may read all")
def test_a_folder_that_cannot_be_listed_is_reported(tree):
    (tree / "sub").chmod(0)
    try:
        found = find_images(["photos"])
    finally:
        (tree / "sub").chmod(0o755)
    assert found.unreadable == ("photos/sub",)


def test_a_folder_that_vanishes_is_reported(tree, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images(["photos"])
    assert found.unreadable == ("photos/sub/deep",)
    assert len(found.files) == 5
