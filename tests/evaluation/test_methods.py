from pathlib import Path

import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.methods import side_by_side


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_scores_are_put_into_the_order_of_the_labels(tmp_path):
    labels = write(tmp_path / "labels.csv", "name,mos\na/1.png,5\nb/2.png,3\nb/3.png,4\n")
    ours = write(
        tmp_path / "ours.csv", "name,mos,score\nb/3.png,4,0.3\na/1.png,5,0.1\nb/2.png,3,0.2\n"
    )
    theirs = write(
        tmp_path / "theirs.csv",
        "path,score\n/d/a/1.png,10\n/d/b/2.png,20\n/d/b/3.png,30\n/d/9.png,1\n",
    )
    found = side_by_side([ours, theirs], labels)
    assert found.table.mos.tolist() == [5, 3, 4]
    assert found.scores["ours"].tolist() == [0.1, 0.2, 0.3]
    assert found.scores["theirs"].tolist() == [10, 20, 30]
    assert side_by_side([ours, theirs]).table.names == ("b/3.png", "a/1.png", "b/2.png")


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path, monkeypatch):
    text = "name,mos,score\na,1,2\nb,2,3\n"
    files = [write(tmp_path / run / "test.csv", text) for run in ("one", "two")]
    assert list(side_by_side(files).scores) == ["one/test", "two/test"]
    with pytest.raises(TableError, match=r"one/test.csv was given twice"):
        side_by_side([files[0], files[0]])
    monkeypatch.chdir(tmp_path / "one")
    relative = [Path("test.csv"), Path("../two/test.csv")]
    assert list(side_by_side(relative).scores) == ["one/test", "two/test"]
    assert list(side_by_side([*relative[1:], files[0]]).scores) == ["two/test", "one/test"]
    other = write(tmp_path / "elsewhere/one/test.csv", text)
    with pytest.raises(TableError, match="names, but these were given: one/test"):
        side_by_side([files[0], other])


def test_an_image_without_a_score_is_named(tmp_path):
    labels = write(tmp_path / "labels.csv", "name,mos\na/1.png,5\nb/1.png,3\n")
    scores = write(tmp_path / "s.csv", "name,score\n1.png,5\nb/1.png,4\n")
    # 1.png could be either image.
    with pytest.raises(TableError, match=r"no score for 1 of the 2 rated images \(a/1\.png\)"):
        side_by_side([scores], labels)
    with pytest.raises(TableError, match="no score column 'quality'"):
        side_by_side([scores], labels, column="quality")
    twice = write(tmp_path / "t.csv", "name,score\nx/a/1.png,5\nx/a/1.png,5\nb/1.png,4\n")
    with pytest.raises(TableError, match=r"\(a/1\.png\): x/a/1\.png is in 2 rows; keep one\."):
        side_by_side([twice], labels)


def test_what_falls_as_quality_rises_is_turned(tmp_path):
    labels = write(tmp_path / "labels.csv", "name,mos\na,5\nb,3\nc,4\n")
    up = write(tmp_path / "up.csv", "name,score\na,2\nb,0\nc,1\n")
    down = write(tmp_path / "down.csv", "name,score\na,0\nb,2\nc,1\n")
    found = side_by_side([up, down], labels)
    _, scores, turned = found.aligned(higher_is_better=True)
    assert turned == {"down": pytest.approx(-1)}
    assert scores["down"].tolist() == [0, -2, -1]
    labels, scores, turned = found.aligned(higher_is_better=False)
    assert list(turned) == ["up"]
    assert labels.tolist() == [-5, -3, -4]
    assert scores["up"].tolist() == [-2, 0, -1]
