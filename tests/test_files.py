import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.files import (
    check_folder,
    check_output,
    check_place,
    copy_whole,
    replacing,
    write_whole,
    writing_text,
)


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def umask():
    """Sets the umask, and restores it afterwards."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["scores", "scores.txt", "scores.csv.gz", ".csv"])
def test_an_unknown_ending_is_refused(tmp_path, name):
    with pytest.raises(TableError, match=r"must end in \.csv, \.jsonl or \.parquet\."):
        check_output(tmp_path / name, ".csv", ".jsonl", ".parquet")


def test_only_one_format_may_be_allowed(tmp_path):
    check_output(tmp_path / "t.csv", ".csv")
    with pytest.raises(TableError, match=r"must end in \.csv\."):
        check_output(tmp_path / "t.parquet", ".csv")


@pytest.mark.parametrize(
    ("there", "replaced"),
    [(b"", True), (b"subset,metric\n1", True), (b"name,mos\n", False), (b"x" * 99999, False)],
)
def test_only_files_that_bear_the_mark_are_replaced(tmp_path, there, replaced):
    out = tmp_path / "out.csv"
    check_output(out, ".csv", mark="subset,metric")
    out.write_bytes(there)
    check_output(out, ".csv")
    if replaced:
        check_output(out, ".csv", mark="subset,metric")
    else:
        with pytest.raises(
            TableError, match="exists and is not a file of this kind written by qfm"
        ):
            check_output(out, ".csv", mark="subset,metric")
    assert out.read_bytes() == there


def test_a_folder_and_a_place_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="it is a folder"):
        check_output(tmp_path / "folder.csv", ".csv")
    with pytest.raises(TableError, match=r"there is no folder .*gone"):
        check_output(tmp_path / "gone" / "t.csv", ".csv")
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match=r"there is no folder .*file"):
        check_output(tmp_path / "file" / "t.csv", ".csv")


@pytest.mark.parametrize("locked", ["folder", "file"])
def test_a_place_without_permission_is_refused(tmp_path, monkeypatch, locked):
    target = tmp_path / "t.csv"
    target.touch()
    place = tmp_path if locked == "folder" else target
    monkeypatch.setattr(os, "access", lambda path, mode: path != place)  # root may write anywhere
    with pytest.raises(TableError, match="no permission"):
        check_output(target, ".csv")


@pytest.fixture
def closed(tmp_path):
    """A folder that may not be searched; root takes the rights of nobody for the test."""
    (tmp_path / "closed").mkdir(mode=0)
    root = os.geteuid() == 0
    for place in (tmp_path, *tmp_path.parents[:2]):  # only the owner may enter pytest's folders
        place.chmod(0o755)
    if root:
        os.seteuid(65534)
    yield tmp_path / "closed"
    if root:
        os.seteuid(0)
    (tmp_path / "closed").chmod(0o700)


def test_a_place_that_may_not_be_looked_at_is_one_sentence(closed, monkeypatch):
    for place in (closed / "t.csv", closed / "below" / "t.csv"):
        with pytest.raises(TableError, match=r"t.csv' cannot be written: Permission denied\.$"):
            check_output(place, ".csv")
    with pytest.raises(TableError, match=r"below' cannot be written: Permission denied\.$"):
        check_folder(closed / "below", (), "model folder")


def test_a_current_folder_that_may_not_be_searched_is_one_sentence(tmp_path):
    """In a separate process, which may enter the folder before it closes it."""
    code = """
import os, pathlib
from qfm_iqm.errors import TableError
from qfm_iqm.files import check_folder, check_output
if os.geteuid() == 0:
    os.fchown(os.open(".", os.O_RDONLY), 65534, -1)
    os.seteuid(65534)
os.chmod(".", 0)
for check in (lambda path: check_output(path, ".csv"), lambda path: check_folder(path, (), "x")):
    try:
        check(pathlib.Path("t.csv"))
    except TableError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    tmp_path.chmod(0o700)
    assert done.stderr == ""
    assert done.stdout == "'t.csv' cannot be written: Permission denied.\n" * 2


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(TableError, match=r"cannot be written: File name too long\.$"):
        check_output(tmp_path / f"{'n' * 300}.csv", ".csv")


def test_text_is_written_as_it_is(tmp_path):
    path = tmp_path / "words.txt"
    write_whole("é\r\nand\n", path)
    assert path.read_bytes() == "é\r\nand\n".encode()
    write_whole("anew", path)
    assert names_in(tmp_path) == ["words.txt"]
    assert path.read_text() == "anew"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError("no")])
def test_what_was_there_stays_until_the_new_is_complete(tmp_path, failure):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises((KeyboardInterrupt, ValueError)), replacing(path) as partial:
        partial.write_text("half")
        assert partial.suffix == ".csv"
        assert path.read_text() == "old"
        raise failure
    assert names_in(tmp_path) == ["table.csv"]
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(TableError, match=r"gone/a.txt' cannot be written: No such file"):
        write_whole("a", tmp_path / "gone" / "a.txt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "within").touch()
    with pytest.raises(TableError, match=r"folder' cannot be written: "):
        write_whole("a", tmp_path / "folder")
    assert names_in(tmp_path) == ["folder"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
def test_a_new_file_has_the_permissions_that_the_umask_says(tmp_path, umask, mask):
    umask(mask)
    write_whole("new", tmp_path / "ours.txt")
    (tmp_path / "theirs.txt").write_text("new")
    assert mode_of(tmp_path / "ours.txt") == mode_of(tmp_path / "theirs.txt") == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o444])
def test_an_earlier_file_keeps_its_permissions_and_its_owner(tmp_path, mode):
    path = tmp_path / "table.csv"
    path.write_text("old")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    owner = path.stat().st_uid, path.stat().st_gid
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert mode_of(path) == mode
    assert (path.stat().st_uid, path.stat().st_gid) == owner


@pytest.mark.parametrize("there", [True, False])
def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.csv"
    if there:
        target.write_text("old")
        target.chmod(0o600)
    (tmp_path / "middle").symlink_to("elsewhere/real.csv")
    link = tmp_path / "link.csv"
    link.symlink_to("middle")
    write_whole("new", link)
    assert link.is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert target.read_text() == "new"
    assert not there or mode_of(target) == 0o600
    assert names_in(tmp_path / "elsewhere") == ["real.csv"]


def test_a_link_that_leads_round_or_nowhere_is_one_sentence(tmp_path):
    (tmp_path / "round.csv").symlink_to("round.csv")
    (tmp_path / "nowhere.csv").symlink_to("gone/a.csv")
    for name in ("round.csv", "nowhere.csv"):
        with pytest.raises(TableError, match=f"{name}' cannot be written: "):
            write_whole("new", tmp_path / name)
        with pytest.raises(TableError, match=f"{name}' cannot be written: "):
            check_output(tmp_path / name, ".csv")  # before any work is done
        assert (tmp_path / name).is_symlink()


@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_is_a_link_to_nothing_is_refused(tmp_path, below):
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(TableError, match=r"cannot be written: .*link is a broken link\.$"):
        check_place(tmp_path / "link" / below)


def test_a_pipe_gets_the_whole_and_stays(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    with writing_text(pipe) as file:
        file.write("a" * 200_000)
    reader.join(60)
    assert heard == ["a" * 200_000]
    assert pipe.is_fifo()
    assert names_in(tmp_path) == ["pipe.csv"]


def test_devices_are_written_to_and_stay(tmp_path):
    (tmp_path / "source.txt").write_text("words")
    copy_whole(tmp_path / "source.txt", Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    full = Path("/dev/full")
    with pytest.raises(TableError, match="'/dev/full' cannot be written: No space left"):
        write_whole("words", full)
    assert stat.S_ISCHR(full.stat().st_mode)


def test_a_pipe_gets_nothing_of_what_broke_off(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError), replacing(pipe) as partial:
        partial.write_text("half")
        raise ValueError
    assert pipe.is_fifo()
