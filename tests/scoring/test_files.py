import io
import os
from pathlib import Path

import pytest

from qfm_iqm.errors import QFMError
from qfm_iqm.scoring.files import find_images, list_url, read_list


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


def test_patterns_take_and_leave(tree):
    assert find_images(["photos"], include=["*.txt", "d.*"]).files == (
        "photos/notes.txt",
        "photos/sub/deep/d.avif",
    )
    everything = find_images(["photos"])
    without = find_images(["photos"], exclude=["sub/*", "*.JPG"])
    assert set(without.files) < set(everything.files)
    assert not any(path.startswith("photos/sub/") for path in without.files)
    assert without.skipped > everything.skipped
    assert find_images(["photos/notes.txt"], exclude=["*"]).files == ("photos/notes.txt",)


def test_lists_of_files():
    assert read_list(io.BytesIO(b"a.jpg\n\nb c.jpg\r\n"), "x") == ["a.jpg", "b c.jpg"]
    assert read_list(io.BytesIO(b"a\nb.jpg\0caf\xe9\0"), "x") == ["a\nb.jpg", "caf\udce9"]
    with pytest.raises(QFMError, match=r"The list x names no file\."):
        read_list(io.BytesIO(b"\n\n"), "x")


def test_what_is_at_a_url(tree):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name in ("b.jpg", "a.png", "notes.txt", "deep/c.webp"):
        system.pipe(f"/listed/{name}", b"x")
    assert list_url("memory://listed") == [
        "memory:///listed/a.png",
        "memory:///listed/b.jpg",
        "memory:///listed/deep/c.webp",
    ]
    assert list_url("memory://listed/notes.txt", all_files=True) == ["memory:///listed/notes.txt"]
    with pytest.raises(QFMError, match="cannot be listed"):
        list_url("nothing-known://x")
