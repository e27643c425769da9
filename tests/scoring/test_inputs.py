import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qfm_iqm.errors import QFMError
from qfm_iqm.image.boxes import movie_seconds
from qfm_iqm.scoring.inputs import find_images, followers, read_list

from ..image.clips import clip, numbered


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
        "photos/sub/dead.jpg",  # reading it gives an error row
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


NAMES = ["photos/a.png", "фото/тень 影.png", "C:\\photos\\c.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
@pytest.mark.parametrize("last", [True, False])
def test_lists_in_any_encoding_that_a_mark_names(encoding, end, last):
    text = end.join(NAMES) + end * last
    assert read_list(io.BytesIO(text.encode(encoding)), "x") == NAMES
    marked = f"\ufeff{text}".encode("utf-16-be")
    assert read_list(io.BytesIO(marked), "x") == NAMES


@pytest.mark.parametrize("text", ["/data/a.png\n", "a.png\r\nb.png", "./a", "x.png", "/", "a/b"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_an_encoding_without_its_mark_names_no_folder(text, encoding):
    with pytest.raises(QFMError, match=r"between single characters.*save it as UTF-8"):
        read_list(io.BytesIO(text.encode(encoding)), "x")


def test_a_damaged_list_is_refused():
    with pytest.raises(QFMError, match="The list x begins like utf-16-le, but is damaged"):
        read_list(io.BytesIO(b"\xff\xfea\0b"), "x")


def test_what_find_prints():
    assert read_list(io.BytesIO(b".\0./a.png\0./b c\n.png\0"), "x") == [
        ".", "./a.png", "./b c\n.png",
    ]  # fmt: skip
    assert read_list(io.BytesIO(b"1\x002\0" + b"10\0"), "x") == ["1", "2", "10"]


@pytest.fixture
def bucket():
    """Files of a file system that is not this machine's."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    for name in ("b.jpg", "a.png", "notes.txt", "deep/c.webp"):
        system.pipe(f"/listed/{name}", b"x")
    yield "memory://listed"
    system.rm("/listed", recursive=True)


def test_folders_of_other_file_systems_are_folders(bucket):
    found = find_images(["first.png", bucket, "last.png"])
    assert found.files == (
        "first.png",
        "memory:///listed/a.png",
        "memory:///listed/b.jpg",
        "memory:///listed/deep/c.webp",
        "last.png",
    )
    assert (found.skipped, found.folders) == (1, 1)
    assert len(find_images([bucket], all_files=True).files) == 4
    chosen = find_images([bucket], include=["*.txt", "deep/*"], exclude=["c.*"])
    assert chosen.files == ("memory:///listed/notes.txt",)


def test_any_other_url_is_a_file(bucket):
    urls = (
        f"{bucket}/notes.txt",
        f"{bucket}/gone",
        "nothing-known://x/y",
        "http://127.0.0.1:9/folder/",
        "https://nowhere.invalid/image?id=7",
        "HTTP://nowhere.invalid",
    )
    found = find_images(urls)
    assert (found.files, found.folders, found.unreadable) == (urls, 0, ())


def test_of_a_web_address_no_file_system_is_asked(monkeypatch):
    """The one for HTTP, where it is installed, would take a page's links for a folder's files."""
    monkeypatch.setattr("fsspec.core.url_to_fs", pytest.fail)
    assert find_images(["https://host/folder/"]).files == ("https://host/folder/",)


def test_a_folder_by_its_file_url(tree):
    assert find_images([(tree / "sub").as_uri()]).files == (
        (tree / "sub" / "c.webp").as_uri(),
        (tree / "sub" / "deep" / "d.avif").as_uri(),
    )


# ---- archives ----


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Two shards in a folder beside an image; only names matter here."""
    monkeypatch.chdir(tmp_path)
    Path("data/more").mkdir(parents=True)
    Path("data/z.jpg").touch()
    for place, names in (
        ("data/s0.tar", ("1.jpg", "1.json", "0.PNG", ".hidden.jpg", ".git/a.jpg")),
        ("data/more/s1.TAR", ("./sub/2.webp", "3.dng", "3.jpg")),
    ):
        with tarfile.open(place, "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
    return tmp_path


def test_an_archive_counts_as_a_folder_in_its_own_order(shards):
    found = find_images(["data/s0.tar"], archives=True)
    assert found.files == ("data/s0.tar/1.jpg", "data/s0.tar/0.PNG")
    assert (found.skipped, found.folders) == (2, 1)
    everything = find_images(["data/s0.tar"], archives=True, all_files=True).files
    assert set(everything) - set(found.files) == {
        "data/s0.tar/1.json", "data/s0.tar/.hidden.jpg", "data/s0.tar/.git/a.jpg",
    }  # fmt: skip


def test_archives_in_folders_are_searched_too(shards):
    found = find_images(["data"], archives=True)
    assert found.files == (
        "data/s0.tar/1.jpg", "data/s0.tar/0.PNG", "data/z.jpg",
        "data/more/s1.TAR/./sub/2.webp", "data/more/s1.TAR/3.jpg",
    )  # fmt: skip
    assert found.joined == 1  # 3.dng with 3.jpg
    assert find_images(["data"]).files == ("data/z.jpg",)


def test_patterns_choose_within_archives(shards):
    assert find_images(["data"], archives=True, include=["*.json"]).files == ("data/s0.tar/1.json",)
    found = find_images(["data"], archives=True, exclude=["s0.tar/*", "z.*"])
    assert found.files == ("data/more/s1.TAR/./sub/2.webp", "data/more/s1.TAR/3.jpg")


def test_rows_of_parquet_files_are_images_whatever_they_are_called(shards):
    rows = [{"bytes": b"", "path": path} for path in (None, "train/a", ".b.jpg", "c.txt")]
    pq.write_table(pa.table({"image": rows}), "data/more/p.parquet")
    pq.write_table(pa.table({"path": ["a.jpg"], "score": [1.0]}), "data/more/scores.parquet")
    expected = [f"data/more/p.parquet/{name}" for name in ("0", "train/a", ".b.jpg", "c.txt")]
    found = find_images(["data/more/p.parquet"], archives=True)
    assert list(found.files) == expected
    assert (found.skipped, found.folders) == (0, 1)
    found = find_images(["data/more"], archives=True, exclude=["*.TAR/*"])
    assert list(found.files) == expected
    found = find_images(["data/more"], archives=True, include=["p.parquet/train/*"])
    assert list(found.files) == expected[1:2]
    found = find_images(["data/more/scores.parquet"], archives=True)
    assert found.files == ("data/more/scores.parquet",)  # its error row says that it holds none


def test_an_archive_that_breaks_off_gets_a_row_of_its_own(shards):
    content = Path("data/s0.tar").read_bytes()
    Path("data/s0.tar").write_bytes(content[:1100])  # two headers, and a part of the third
    found = find_images(["data/s0.tar"], archives=True, include=["*.png"])
    assert found.files == ("data/s0.tar",)
    assert find_images(["data/s0.tar"], archives=True).files == ("data/s0.tar/1.jpg", "data/s0.tar")


# ---- files that belong to one photo ----

LIVE = clip(numbered(20), container="mov")  # 2 s
LONG = clip(numbered(3), [0, 5, 10], container="mov")


@pytest.fixture
def trip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("trip")
    (root / "sub").mkdir(parents=True)
    for name, content in {
        "IMG_1.HEIC": b"", "IMG_1.MOV": LIVE,  # a Live Photo
        "IMG_2.JPG": b"", "IMG_2.MOV": LONG,  # a photo, and a video of the same name
        "IMG_3.MOV": LIVE,  # a video alone
        "IMG_4.jpg": b"", "IMG_4.CR2": b"", "IMG_4.dng": b"",  # RAW and JPEG
        "IMG_5.NEF": b"",  # RAW alone
        "IMG_6.png": b"", "IMG_6.dng": b"",  # no camera writes PNG: an export
        "IMG_7.jpg": b"", "IMG_7.mov": b"no movie",
        "sub/IMG_8.jpg": b"", "IMG_8.arw": b"",  # in different folders
    }.items():  # fmt: skip
        (root / name).write_bytes(content)
    return root


JOINED = {"trip/IMG_1.MOV", "trip/IMG_4.CR2", "trip/IMG_4.dng"}


def all_of(folder):
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def test_a_pair_counts_as_its_photo(trip):
    found = find_images(["trip"], videos=True)
    assert set(found.files) == all_of(trip) - JOINED
    assert (found.joined, found.skipped) == (3, 0)
    assert set(find_images(["trip"], videos=True, pairs=False).files) == all_of(trip)
    photos = find_images(["trip"])
    assert not any(file.lower().endswith(".mov") for file in photos.files)


def test_a_named_file_is_always_scored(trip):
    named = ["trip/IMG_1.HEIC", "trip/IMG_1.MOV", "trip/IMG_4.CR2", "trip/IMG_4.jpg"]
    assert list(find_images(named, videos=True).files) == named
    assert set(find_images(["trip", *named], videos=True).files) == all_of(trip) - {
        "trip/IMG_4.dng"
    }


def test_only_files_that_are_taken_are_joined(trip):
    found = find_images(["trip"], include=["*.MOV", "*.CR2"], videos=True)
    assert set(found.files) == {f"trip/IMG_{n}.MOV" for n in (1, 2, 3)} | {"trip/IMG_4.CR2"}
    assert found.joined == 0


def test_in_a_bucket_too():
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name, content in (("a.jpg", b""), ("a.mov", LIVE), ("b.jpg", b""), ("b.mov", LONG)):
        files.pipe(f"/live/{name}", content)
    urls = [f"memory://live/{name}" for name in ("a.jpg", "a.mov", "b.jpg", "b.mov")]
    assert followers(urls) == {"memory://live/a.mov"}


def test_the_length_that_a_movie_names():
    assert movie_seconds(io.BytesIO(LIVE)) == pytest.approx(2, abs=0.11)
    assert movie_seconds(io.BytesIO(LONG)) == pytest.approx(10.1, abs=0.2)
    for part in range(0, len(LIVE), 97):
        assert (movie_seconds(io.BytesIO(LIVE[:part])) or 2) == pytest.approx(2, abs=0.11)
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "JPEG")
    assert movie_seconds(file) is None
