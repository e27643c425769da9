import csv

import numpy as np
import pytest


@pytest.fixture
def files(tmp_path):
    """Score files of a good and a poor method, and their images' labels with a group."""
    draw = np.random.default_rng(4)
    mos = draw.uniform(1, 5, 60)
    names = [f"{n:02}.png" for n in range(60)]

    def write(name, header, *columns):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(zip(*columns, strict=True))
        return tmp_path / name

    kinds = ["blur" if n % 2 else "noise" for n in range(60)]
    labels = write("labels.csv", ("name", "mos", "kind"), names, mos, kinds)
    good = write("good.csv", ("name", "score"), names, mos + draw.normal(0, 0.3, 60))
    poor = write("poor.csv", ("name", "score"), names, mos + draw.normal(0, 3, 60))
    return labels, good, poor


def test_methods_are_compared_by_part_and_by_pair(qfm, files, tmp_path):
    labels, good, poor = files
    out = tmp_path / "differences.csv"
    answer = qfm(
        "compare", good, poor, "--labels", labels, "--by", "kind", "--bootstrap", 300, "--out", out
    )
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split() == ["srcc", "of", "images", "good", "poor"]
    assert [line.split()[0] for line in lines[2:9:2]] == ["whole", "blur", "noise", "subset_mean"]
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["first"], row["second"], row["n"]) == ("good", "poor", "60")
    assert float(row["ci_low"]) > 0
    assert float(row["p_test_holm"]) < 0.001
    assert float(row["value_1"]) - float(row["value_2"]) == pytest.approx(float(row["difference"]))


@pytest.mark.parametrize("falling_labels", [False, True])
def test_the_direction_of_labels_and_scores_does_not_matter(qfm, files, tmp_path, falling_labels):
    """A better method is better, also by DMOS and whatever the direction of its scores."""
    labels, good, poor = files

    def negated(path, column):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        other = tmp_path / "negated" / path.name
        other.parent.mkdir(exist_ok=True)
        with other.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | {column: -float(row[column])} for row in rows)
        return other

    def difference(*arguments):
        out = tmp_path / "out.csv"
        answer = qfm("compare", *arguments, "--bootstrap", 300, "--out", out)
        assert answer.code == 0, answer.err
        with out.open(newline="") as file:
            (row,) = csv.DictReader(file)
        return row, answer.err

    expected, told = difference(good, poor, "--labels", labels)
    assert "turned" not in told
    told_labels = ["--labels", labels]
    if falling_labels:
        told_labels = ["--labels", negated(labels, "mos"), "--lower-is-better"]
    assert difference(good, poor, *told_labels) == (expected, told)
    found, told = difference(good, negated(poor, "score"), *told_labels)
    assert found == expected
    assert "poor falls as quality rises (SRCC -0." in told
    assert "good is taken" not in told


def test_methods_are_shown_with_their_intervals(qfm, files):
    labels, good, poor = files
    lines = qfm("compare", good, poor, "--labels", labels, "--bootstrap", 300).out.splitlines()
    assert lines[2].split()[0] == "whole"
    assert [cell.count("–") for cell in lines[3].split()] == [1, 1]


def test_scores_without_a_label_are_counted(qfm, files):
    labels, good, poor = files
    with poor.open("a") as file:
        file.write("other.png,3\n")
    answer = qfm("compare", good, poor, "--labels", labels, "--bootstrap", 100)
    assert answer.code == 0, answer.err
    assert "poor: 1 scores of images without a label" in answer.err
    assert "good has" not in answer.err


def test_mistakes_are_one_sentence(qfm, files):
    labels, good, poor = files
    for arguments, message in (
        ((good, "--labels", labels), "at least two methods, not 1"),
        ((good, poor), "there is no label column 'mos'"),
        (
            (good, poor, "--labels", labels, "--by", "none"),
            "labels.csv has no column 'none'; besides name, label and content",
        ),
    ):
        answer = qfm("compare", *arguments)
        assert answer.code == 2
        assert message in answer.err
        assert answer.err.count("\n") == 1
