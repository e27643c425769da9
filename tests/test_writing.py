import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.writing import replacing, write_whole


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_text_is_written_as_it_is_and_readable_by_others(tmp_path):
    path = tmp_path / "words.txt"
    write_whole("é\r\nand\n", path)
    assert path.read_bytes() == "é\r\nand\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
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
