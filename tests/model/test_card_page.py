"""The model card as a page: the contents of card and results, and nothing else."""

import csv

import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import LabelUnits, ModelCard, ResultRow
from qfm_iqm.model.card_page import card_page
from qfm_iqm.model.network import NetworkConfig
from qfm_iqm.model.reference import Interval, OODDetector, ReferenceStatistics


def row(subset, value, metric="srcc", images=100):
    return ResultRow(
        data="photos (test split)", subset=subset, metric=metric, images=images, value=value,
        ci_low=value - 0.05, ci_high=value + 0.05,
    )  # fmt: skip


@pytest.fixture
def card():
    return ModelCard(
        name="mine",
        description="A model.",
        network=NetworkConfig(backbone="test_vit", crop=48),
        preprocessing=Preprocessing(crop=48, shorter_side=64),
        label=LabelUnits(minimum=1, maximum=5),
        training={"data": "a set", "terms": "free", "images": {"train": 7, "test": 2}},
        results=[row("whole", 0.8), row("one", 0.7), row("two", 0.3), row("whole", 0.9, "plcc")],
        weights_sha256="abc",
    )


def test_accuracy_per_subset_with_intervals(card):
    page = card_page(card)
    assert "| photos | number | SRCC | PLCC |" in page
    assert "| all photos | 100 | 0.800 (0.750–0.850) | 0.900 (0.850–0.950) |" in page
    assert "| two | 100 | 0.300 (0.250–0.350) | – |" in page
    assert "It ranks worst within the subset two: SRCC 0.30." in page
    assert "train 7, test 2" in page


def test_sizes_that_photos_are_looked_at_in(card):
    assert "at a shorter side of at most 64.\n" in card_page(card)
    twice = Preprocessing(crop=48, shorter_side=64, extra_scales=(56, 50))
    page = card_page(card.model_copy(update={"preprocessing": twice}))
    assert "at a shorter side of at most 64, and also at 56 and 50.\n" in page


def test_what_was_not_measured_is_said_to_be_missing(card):
    page = card_page(card.model_copy(update={"results": []}))
    assert page.count("Not measured") == 4
    assert "This card has no percentile or interval" in page
    left_out = card_page(card, missing=False)
    assert "Not measured" not in left_out
    assert "## Degradation" not in left_out


def test_the_scale_and_its_meaning(card):
    reference = ReferenceStatistics(
        population="photos of a set",
        images=50,
        quantiles=tuple(1 + 4 * i / 100 for i in range(101)),
        interval=Interval(level=0.9, images=50, scores=(3,), half_widths=(0.4,), half_width=0.4),
    )
    page = card_page(card.model_copy(update={"reference_statistics": reference}))
    assert "0 (worst) to 100 (best): MOS from 1 to 5, mapped linearly." in page
    assert "among 50 photos: photos of a set." in page
    assert "A tenth scores below 10, half below 50, a tenth above 90." in page
    assert "± 10.0 holds the mean opinion for 90 %" in page
    assert "Unusual" not in page
    detector = OODDetector(
        names=("a",), mean=(0,), whitening=((1,),), limit=2, false_alarms=0.02, images=9, checked=40
    )
    checked = reference.model_copy(
        update={
            "ood_detector": detector,
            "interval": Interval(
                level=0.9,
                images=50,
                coverage=0.875,
                scores=(3, 4),
                half_widths=(0.6, 0.2),
                half_width=0.4,
            ),
        }
    )
    page = card_page(card.model_copy(update={"reference_statistics": checked}))
    assert "± 10.0 on average (5.0 to 15.0) holds the mean opinion for 90 %" in page
    assert "from 50 held-out photos). Cross-validated, it held 87.5 %." in page
    assert "or a side below 48 pixels; 2.0 % of 40 held-out photos that were not used to " in page


def test_what_a_size_and_a_frame_do_is_among_the_limits(card, tmp_path):
    results = tmp_path / "changes.csv"
    results.write_text(
        "model,photos,n,change,figure,value\n"
        'mine,clean,29,"size half, area",mean difference,-1.5\n'
        'mine,clean,29,"size eighth, area",mean difference,3.25\n'
        'mine,clean,29,"size half, area",largest difference,7\n'
        'mine,clean,29,"frame white, 6 %",mean difference,4.5\n'
        'mine,jpeg,29,"frame black, 6 %",mean difference,9.5\n'
        'mine,clean,29,"frame white, 6 %",largest difference,10\n'
        'mine,jpeg,29,"frame gray, 3 %",largest difference,22.04\n'
        'other,clean,29,"size half, area",mean difference,99\n'
    )
    page = card_page(card, size_and_frame=results)
    assert "images with a side below 48 pixels: `out_of_distribution` marks each" in page
    assert (
        "* A smaller copy may score higher than the photo itself: by 3.2 points on average over "
        "29 photos (eighth size, area), and by up to 7.0 for a clean photo (half size, area).\n"
    ) in page
    assert (
        "* A photo in a plain frame may score higher than the photo itself: by 4.5 points on "
        "average over 29 photos (white frame, 6 %), and by up to 22.0 for a photo degraded by jpeg "
        "(gray frame, 3 %).\n"
    ) in page


def test_degradation_and_speed_are_those_of_this_model(card, tmp_path):
    results = tmp_path / "results" / "degradation.csv"
    results.parent.mkdir()
    head = ["model", "photos", "n", "degradation", "figure", "value"]
    rows = [
        ["mine", "Kodak", 24, "blur", "L-test", 0.97],
        ["mine", "Kodak", 24, "blur", "D-test", 0.91],
        ["mine", "Kodak", 24, "all", "L-test", 0.95],
        ["mine", "Kodak", 24, "blur", "mean score, level 0", 70],
        ["other", "Kodak", 24, "blur", "L-test", 0.11],
    ]
    with results.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    results.with_suffix(".svg").write_text("<svg/>")
    speed = tmp_path / "speed.csv"
    speed.write_text("figure,value,model,cores\ncrops_per_second,374.1,mine,2\nx,1,other,2\n")
    page = card_page(card, degradation=results, speed=speed, beside=tmp_path / "docs")
    assert "| photos | degradation | L-test | D-test |" in page
    assert "| Kodak (24) | blur | 0.970 | 0.910 |" in page
    assert "| Kodak (24) | all | 0.950 | – |" in page
    assert "0.11" not in page
    assert "(../results/degradation.svg)" in page
    assert "| crops per second | 374.1 | 2 |" in page
    speed.write_text("model,photos\nmine,1\n")
    with pytest.raises(TableError, match="has no column n, degradation, figure, value"):
        card_page(card, degradation=speed)


def test_notes_of_those_who_trained_it_come_before_the_recipe(card, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text("## Goals\n\nOne was missed.\n\n", "utf-8")
    assert card_page(card, notes=notes).endswith("\n\n## Goals\n\nOne was missed.\n")
    recipe = {"model": {"name": "mine"}, "train": {"epochs": 3}}
    trained = card.model_copy(update={"training": card.training | {"recipe": recipe}})
    assert card_page(trained, notes=notes).endswith(
        "\n\n## Goals\n\nOne was missed.\n\n## Recipe\n\n"
        '```json\n{\n "train": {\n  "epochs": 3\n }\n}\n```\n'
    )
    with pytest.raises(TableError, match=r"none.md cannot be read: No such file"):
        card_page(card, notes=tmp_path / "none.md")
