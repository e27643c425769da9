"""The report in a real browser, opened from disk."""

import csv
import shutil

import numpy as np
import pytest

from qfm_iqm.network.checkpoint import load_model
from qfm_iqm.network.units import LabelUnits
from qfm_iqm.report.comparison import comparison_page
from qfm_iqm.report.scores import Place, scores_page
from qfm_iqm.scoring.rows import ScoreRow
from qfm_iqm.scoring.tables import ScoreTable, table_of

UNITS = LabelUnits(minimum=0, maximum=100)
HOSTILE = "<img src=x onerror=document.title='taken'>.png"


def row(path, score, error=""):
    status = "error" if error else "ok"
    return ScoreRow(
        path=path,
        score=score,
        spread=1.5,
        width=100,
        height=80,
        status=status,
        error=error,
        model="tiny",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo_folder, tiny_model_folder):
    """Photos in two folders, and the report on them: scores 5, 15, ... 115 / 1.2."""
    root = tmp_path_factory.mktemp("site")
    names = []
    for number, photo in enumerate(sorted(photo_folder.iterdir())):
        name = f"{'one' if number % 2 else 'two'}/{photo.name}"
        if number == 4:
            name = f"two/{HOSTILE}"
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(photo, root / name)
        names.append(name)
    rows = [row(name, 8.0 * number + 4) for number, name in enumerate(names)]
    rows += [row("one/broken.jpg", None, "cannot read it: <b>broken</b>")]
    table = table_of(rows, "scores.csv")
    columns = dict(table.columns) | {
        "percentile": [50.0] * 13, "low": [1.0] * 13, "high": [9.0] * 13, "unusual": [False] * 13
    }  # fmt: skip
    model = load_model(tiny_model_folder)
    place = Place(root / "report.html", root)
    page = scores_page(
        ScoreTable("scores.csv", columns), place, UNITS, threshold=30, explainer=model, maps=3
    )
    (root / "report.html").write_text(page, encoding="utf-8")
    return root


@pytest.fixture
def report(open_page, folder):
    return open_page((folder / "report.html").as_uri())


def cards(page):
    return page.locator("#grid .card")


def test_what_it_shows(report, check_accessibility):
    assert "4 of 12 images (33.3 %) score below 30.0" in report.inner_text("#verdict")
    assert cards(report).count() == 12
    assert cards(report).first.locator(".score").inner_text() == "4.0"
    assert report.locator("#grid .card.below").count() == 4
    assert report.locator("#folder-rows tr").count() == 2
    assert "<b>broken</b>" in report.inner_text("#error-rows")
    assert report.title() == "Image quality"  # nothing in a file's name was run
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
    assert list(rows[0])[:3] == ["path", "score", "spread"]
    assert rows[1]["path"].startswith("two/photo_00")
    report.select_option("#status", "scored")
    report.select_option("#folder", "")
    report.fill("#from", "30")
    report.fill("#to", "60")
    assert cards(report).count() == 4


def test_one_image_by_keyboard_alone(report, check_accessibility):
    report.keyboard.press("/")
    assert report.evaluate_handle("document.activeElement").get_attribute("id") == "search"
    cards(report).first.focus()
    report.keyboard.press("ArrowRight")
    report.keyboard.press("Enter")
    dialog = report.get_by_role("dialog")
    assert dialog.locator(".big").inner_text() == "12.0"
    for fact in ("2 of 12", "50 of 100", "1.0 to 9.0", "100 × 80 px", "one/"):
        assert fact in dialog.inner_text()
    photo = dialog.locator(".stage img")
    assert photo.get_attribute("src").startswith("one/photo_01")  # the photo itself, from disk
    assert photo.evaluate("image => image.complete && image.naturalWidth > 0")
    report.keyboard.press("m")
    canvas = dialog.locator("canvas")
    assert canvas.is_visible()
    colours = canvas.evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert colours > 3
    check_accessibility(report)
    report.keyboard.press("ArrowRight")
    assert dialog.locator(".big").inner_text() == "20.0"
    report.keyboard.press("Escape")
    assert not dialog.is_visible()
    focused = report.evaluate("document.activeElement.dataset.place")
    assert focused == "2"


def test_a_report_that_has_lost_its_photos_shows_its_copies(open_page, folder, tmp_path):
    shutil.copy(folder / "report.html", tmp_path / "moved.html")
    page = open_page((tmp_path / "moved.html").as_uri())
    cards(page).nth(1).click()
    photo = page.locator("dialog .stage img")
    page.locator("dialog .note", has_text="small copy").wait_for()
    assert photo.evaluate("image => image.naturalWidth") > 0


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


def test_ten_thousand_rows_open_soon(open_page, tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        row(f"folder {i % 7}/photo {i:05}.jpg", float(np.clip(draw.normal(60, 12), 0, 100)))
        for i in range(10_000)
    ]
    out = tmp_path / "many.html"
    out.write_text(scores_page(table_of(rows, "t"), Place(out, tmp_path), UNITS, count=0))
    page = open_page(out.as_uri())
    # Not a clock, which measures the machine: few elements, and more only as one asks.
    assert cards(page).count() == 60
    page.click("#more")
    assert cards(page).count() == 120
    assert page.evaluate("document.getElementsByTagName('*').length") < 2500
    below = sum(found.score < 40 for found in rows)
    page.fill("#threshold", "40")
    page.press("#threshold", "Enter")
    assert page.inner_text("#verdict").startswith(f"{below:,} of 10,000 images")


def test_nothing_scored_and_nothing_at_all(open_page, tmp_path):
    for name, rows in (("errors", [row("a.jpg", None, "it is empty")]), ("none", [])):
        out = tmp_path / f"{name}.html"
        out.write_text(scores_page(table_of(rows, "t"), Place(out, tmp_path), UNITS))
        page = open_page(out.as_uri())
        assert page.locator("#nothing").inner_text().startswith("No image has a score.")
        assert page.locator("#overview .panel").is_hidden()
        assert page.locator("#errors").is_visible() == bool(rows)


def test_a_comparison(open_page, folder, check_accessibility):
    names = sorted(path.name for path in (folder / "one").iterdir())
    first = table_of([row(f"one/{name}", 50.0 + i) for i, name in enumerate(names)], "before.csv")
    changed = [52.0, 41.0, 52.0, 63.0, 54.5, None]
    second = table_of(
        [row(f"one/{n}", s, "" if s else "lost") for n, s in zip(names, changed, strict=True)],
        "after.csv",
    )
    out = folder / "compare.html"
    out.write_text(comparison_page(first, second, Place(out, folder), UNITS))
    page = open_page(out.as_uri())
    text = page.inner_text("#figures")
    assert "75.0 %" in text  # three of the four that differ
    assert "B scores better in 3 images, A in 1; 1 score the same." in page.inner_text("#wins-text")
    assert page.locator("#grid .score").all_inner_texts()[:2] == ["−10.0", "+10.0"]
    assert "lost" in page.inner_text("#left-rows")
    check_accessibility(page)
    page.select_option("#side", "b")
    assert cards(page).count() == 3
    cards(page).first.click()
    assert page.locator("dialog .big").inner_text() == "+10.0"
    page.keyboard.press("Escape")
    scatter = page.locator("#scatter")
    side = scatter.bounding_box()["width"]
    # The one that B made worse: the filter gives way.
    scatter.click(position={"x": 0.51 * side, "y": (1 - 0.41) * side})
    assert page.locator("dialog .big").inner_text() == "−10.0"
