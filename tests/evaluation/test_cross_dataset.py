import csv
import shutil

import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.cross_dataset import REPORTED, CrossFigure, cross, find_target
from qfm_iqm.metrics.correlation import krcc, srcc
from qfm_iqm.model.folder import load_model
from qfm_iqm.text_tables import write_csv


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


def scores_of(model, target):
    from qfm_iqm.scoring.scorer import Scorer

    return [row.score for row in Scorer(model).score_paths(target.table.paths(target.root))]


def test_a_target_is_a_dataset_in_its_layout_or_a_table(official_trees, rated_set):
    target = find_target(f"csiq={official_trees['csiq'][0]}")
    assert (target.name, target.higher_is_better) == ("csiq", False)
    assert len(target.table) == len(official_trees["csiq"][1])
    table = find_target(str(rated_set / "labelled.csv"), lower_is_better=True)
    assert (table.name, table.root, table.higher_is_better) == ("labelled", rated_set, False)
    for wrong in ("csiq", "csik=/tmp", str(rated_set)):
        with pytest.raises(
            TableError, match=r"is not a target: give NAME=ROOT with NAME one of live"
        ):
            find_target(wrong)


def test_rank_figures_turn_with_the_direction_of_the_labels(model, official_trees):
    """The model's scores rise with quality; CSIQ's labels fall."""
    target = find_target(f"csiq={official_trees['csiq'][0]}")
    figures = {one.metric: one for one in cross(model, target, n_boot=50)}
    assert tuple(figures) == REPORTED
    scores = scores_of(model, target)
    assert figures["srcc"].value == pytest.approx(-srcc(scores, target.table.mos))
    assert figures["krcc"].value == pytest.approx(-krcc(scores, target.table.mos))
    assert figures["srcc"].ci_low < figures["srcc"].value < figures["srcc"].ci_high
    assert {one.images for one in figures.values()} == {len(target.table)}
    assert figures["plcc_logistic"].value > 0


def test_the_unit_of_the_labels_does_not_matter(model, rated_set, tmp_path):
    shutil.copytree(rated_set, tmp_path / "scaled")
    table = tmp_path / "scaled" / "labelled.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"mos": f"{float(row['mos']) / 100 + 1:.9f}"} for row in rows)
    plain, scaled = (
        cross(model, find_target(str(root / "labelled.csv")), n_boot=0)
        for root in (rated_set, table.parent)
    )
    for one, other in zip(plain, scaled, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-5)
        assert one.ci_low is None


def test_figures_are_written_to_the_last_digit(model, rated_set, tmp_path):
    figures = cross(model, find_target(str(rated_set / "labelled.csv")), n_boot=0)
    write_csv(tmp_path / "cross.csv", CrossFigure._fields, figures)
    with (tmp_path / "cross.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [one.value for one in figures]
    assert rows[0]["target"] == "labelled"
    assert rows[0]["split_sha256"] == ""  # a model without a split
    assert rows[0]["ci_low"] == ""
