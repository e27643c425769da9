"""The report in a real browser, opened from disk."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.scores import Place, scores_page
from qfm_iqm.scoring.row import COLUMNS
from qfm_iqm.scoring.table import table_of

UNITS = LabelUnits(minimum=0, maximum=100)
HOSTILE = "<img src=x onerror=document.title='taken'>.png"


def cards(page):
    return page.locator("#grid .card")


def test_what_it_shows(report, check_accessibility):
    assert "4 of 12 images (33.3 %) score below 30.0" in report.inner_text("#verdict")
    assert cards(report).count() == 12
    assert cards(report).first.locator(".score").inner_text() == "4.0"
    assert report.locator("#grid .card.below").count() == 4
    assert report.locator("#folder-rows tr").count() == 2
    assert "<b>broken</b>" in report.inner_text("#error-rows")
    assert report.title() == "Image quality"  # no file's name was run as code
    assert report.locator("#grid img[src='x']").count() == 0
    assert HOSTILE in report.locator("#grid .name").all_inner_texts()
    check_accessibility(report)


def test_the_handle_moves_the_count(report):
    slider = report.get_by_role("slider", name="Threshold")
    slider.focus()
    for _ in range(3):
        report.keyboard.press("PageUp")
    value = float(slider.input_value())
    assert value > 30
    below = sum(8 * number + 4 < value for number in range(12))
    assert report.inner_text("#verdict").startswith(f"{below} of 12 images")
    box = slider.bounding_box()
    report.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    assert float(slider.input_value()) == pytest.approx(75, abs=1)
    report.wait_for_timeout(200)
    assert report.locator("#grid .card.below").count() == 9
    report.fill("#threshold", "12")
    report.press("#threshold", "Enter")
    assert report.inner_text("#verdict").startswith("1 of 12 images")


def test_filters_and_export(report):
    report.fill("#search", "ONERROR")
    assert cards(report).count() == 1
    report.fill("#search", "no such")
    assert report.locator("#nothing").is_visible()
    assert report.locator("#export").is_disabled()
    report.click("#reset")
    assert cards(report).count() == 12
    report.get_by_role("button", name="two/").click()
    assert cards(report).count() == 6
    report.select_option("#status", "below")
    assert report.inner_text("#shown") == "2 of 12 images"
    report.select_option("#order", "best")
    assert cards(report).first.locator(".score").inner_text() == "20.0"
    with report.expect_download() as saved:
        report.click("#export")
    rows = list(csv.DictReader(saved.value.path().open(encoding="utf-8", newline="")))
    assert [float(found["score"]) for found in rows] == [20, 4]
    assert list(rows[0]) == [name for name in COLUMNS if name in rows[0]]
    assert rows[1]["path"].startswith("two/photo_00")
    report.select_option("#status", "scored")
    report.select_option("#folder", "")
    report.fill("#from", "30")
    report.fill("#to", "60")
    assert cards(report).count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(open_page, folder, check_accessibility, scheme):
    url = (folder / "report.html").as_uri()
    page = open_page(url, width=360, height=740, color_scheme=scheme, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check_accessibility(page)
    cards(page).first.tap()
    box = page.get_by_role("dialog").bounding_box()
    assert (box["width"], box["height"]) == (360, 740)
    assert page.locator("dialog .close").is_visible()
    check_accessibility(page)


def test_ten_thousand_rows_open_soon(open_page, tmp_path, row):
    draw = np.random.default_rng(0)
    rows = [
        row(f"folder {i % 7}/photo {i:05}.jpg", float(np.clip(draw.normal(60, 12), 0, 100)))
        for i in range(10_000)
    ]
    out = tmp_path / "many.html"
    out.write_text(scores_page(table_of(rows, "t"), Place(out, tmp_path), UNITS, count=0))
    page = open_page(out.as_uri())
    # Counts elements, since a clock would measure the machine: more appear only on request.
    assert cards(page).count() == 60
    page.click("#more")
    assert cards(page).count() == 120
    assert page.evaluate("document.getElementsByTagName('*').length") < 2500
    below = sum(found.score < 40 for found in rows)
    page.fill("#threshold", "40")
    page.press("#threshold", "Enter")
    assert page.inner_text("#verdict").startswith(f"{below:,} of 10,000 images")


def test_causes_have_their_shares_and_a_filter(open_page, tmp_path, row, check_accessibility):
    severities = {"blur": 3.2, "compression": 30.4}
    said = ["compression", "none", "compression", "blur", "compression", "none", "compression"]
    rows = [
        replace(row(f"{i}.jpg", 10.0 * i), cause=cause, second_cause=second, **severities)
        for i, (cause, second) in enumerate(zip(said, ["blur"] + ["none"] * 6, strict=True))
    ]
    rows += [row("without.jpg", 90.0), row("broken.jpg", None, "it is empty")]
    out = tmp_path / "report.html"
    out.write_text(scores_page(table_of(rows, "t"), Place(out, tmp_path), UNITS, count=0))
    page = open_page(out.as_uri())
    # Shares of the seven photos with known causes.
    shares = ["compression 57.1 %", "none 28.6 %", "blur 14.3 %"]
    assert page.inner_text("#causes") == f"Main cause of loss: {', '.join(shares)}"
    choices = page.get_by_role("combobox", name="Cause").locator("option")
    assert choices.all_inner_texts() == ["Any or none", *shares]
    check_accessibility(page)
    page.select_option("#cause", "compression")
    assert page.inner_text("#shown") == "4 of 8 images"
    assert cards(page).locator(".name").all_inner_texts() == ["0.jpg", "2.jpg", "4.jpg", "6.jpg"]
    page.fill("#from", "30")
    assert cards(page).locator(".name").all_inner_texts() == ["4.jpg", "6.jpg"]
    cards(page).first.click()
    assert "compression, about 30 points" in page.inner_text("dialog")
    page.keyboard.press("Escape")
    page.select_option("#cause", "none")
    assert cards(page).locator(".name").all_inner_texts() == ["5.jpg"]
    cards(page).first.click()
    assert page.inner_text("dialog").count("none") == 2
    page.keyboard.press("Escape")
    page.select_option("#cause", "blur")
    page.fill("#from", "31")
    assert page.locator("#nothing").is_visible()
    page.click("#reset")
    assert page.input_value("#cause") == ""
    assert cards(page).count() == 8


def test_without_causes_there_is_no_filter_of_them(report):
    assert report.locator("#causes").is_hidden()
    assert report.locator("#cause-filter").is_hidden()


def test_nothing_scored_and_nothing_at_all(open_page, tmp_path, row):
    for name, rows in (("errors", [row("a.jpg", None, "it is empty")]), ("none", [])):
        out = tmp_path / f"{name}.html"
        out.write_text(scores_page(table_of(rows, "t"), Place(out, tmp_path), UNITS))
        page = open_page(out.as_uri())
        assert page.locator("#nothing").inner_text().startswith("No image has a score.")
        assert page.locator("#overview .panel").is_hidden()
        assert page.locator("#errors").is_visible() == bool(rows)


def test_what_has_no_score_can_be_listed_and_saved(report):
    report.select_option("#status", "failed")
    assert report.inner_text("#shown") == "1 image without a score"
    with report.expect_download() as saved:
        report.click("#export")
    (found,) = csv.DictReader(saved.value.path().open(encoding="utf-8", newline=""))
    assert (found["path"], found["score"], found["status"]) == ("one/broken.jpg", "", "error")
    assert found["model"] == "tiny"
    cards(report).first.click()
    assert report.locator("dialog .big").inner_text() == "Not scored"
    assert "it is <b>broken</b>" in report.inner_text("dialog .sentence")


def test_the_handle_begins_on_the_scale_and_where_no_card_contradicts_it(open_page, tmp_path, row):
    scores = [20.0, 27.58, 27.66, *np.linspace(40, 90, 18).tolist()]
    table = table_of([row(f"{i}.png", score) for i, score in enumerate(scores)], "t")
    out = tmp_path / "report.html"
    place = Place(out, tmp_path)
    out.write_text(scores_page(table, place, UNITS, count=0))
    page = open_page(out.as_uri())
    threshold = float(page.input_value("#threshold"))
    below = [float(text) for text in page.locator(".card.below .score").all_inner_texts()]
    assert below == [20.0]
    assert max(below) < threshold <= 27.6
    out.write_text(scores_page(table, place, UNITS, count=0, threshold=1000))
    page.reload()
    assert page.input_value("#threshold") == "100.0"
    assert page.inner_text("#verdict").endswith("score below 100.0")


def test_from_the_top_by_keyboard_alone(report):
    def tab_to(condition):
        for _ in range(30):
            report.keyboard.press("Tab")
            if report.evaluate(f"document.activeElement.matches({condition!r})"):
                return
        raise AssertionError(condition)

    tab_to("input[type=range]")
    report.keyboard.press("PageUp")
    assert not report.inner_text("#verdict").endswith("below 30.0")
    tab_to("#search")
    report.keyboard.type("photo_01")
    tab_to(".card")
    report.keyboard.press("Enter")
    assert report.locator("#detail-name").inner_text() == "photo_01.jpg"


def test_a_phone_names_no_keys(open_page, folder):
    url = (folder / "report.html").as_uri()
    assert open_page(url).locator(".keys").is_visible()
    assert open_page(url, width=390, has_touch=True).locator(".keys").is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_reasons_are_read_without_names_in_them(open_page, folder, width):
    page = open_page((folder / "report.html").as_uri(), width=width)
    name, reason = page.locator("#error-rows td").all()
    assert (name.inner_text(), reason.inner_text()) == ("one/broken.jpg", "it is <b>broken</b>")
    assert name.bounding_box()["height"] < 45  # on one line
    above = name.bounding_box()["y"] < reason.bounding_box()["y"]
    assert above == (width == 390)
    assert page.locator("#folders .panel").evaluate("p => p.scrollWidth <= p.clientWidth")
    assert page.get_by_role("cell", name="one/broken.jpg").count() == 1
