"""The dialog of one image in a report, in a real browser."""

import shutil
from types import SimpleNamespace

import numpy as np

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.quality_map import QualityMap
from qfm_iqm.report.scores import Place, scores_page
from qfm_iqm.scoring.table import table_of

UNITS = LabelUnits(minimum=0, maximum=100)


def cards(page):
    return page.locator("#grid .card")


def test_one_image_by_keyboard_alone(report, check_accessibility):
    report.keyboard.press("/")
    assert report.evaluate_handle("document.activeElement").get_attribute("id") == "search"
    cards(report).first.focus()
    report.keyboard.press("ArrowRight")
    report.keyboard.press("Enter")
    dialog = report.get_by_role("dialog")
    assert dialog.locator(".big").inner_text() == "12.0"
    facts = dict(zip(*(dialog.locator(tag).all_inner_texts() for tag in ("dt", "dd")), strict=True))
    assert facts["Rank, worst first"] == "2 of 12" and facts["Folder"] == "one/"
    assert (facts["Width"], facts["Height"], facts["Percentile"]) == ("100", "80", "50.0")
    assert (facts["MOS low"], facts["MOS high"]) == ("1.0", "9.0")
    photo = dialog.locator(".stage img")
    assert photo.get_attribute("src").startswith("one/photo_01")  # the photo itself, from disk
    assert photo.evaluate("image => image.complete && image.naturalWidth > 0")
    report.keyboard.press("m")
    canvas = dialog.locator("canvas")
    assert canvas.is_visible()
    colors = canvas.evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert colors > 3
    check_accessibility(report)
    report.keyboard.press("ArrowRight")
    assert dialog.locator(".big").inner_text() == "20.0"
    report.keyboard.press("Escape")
    assert not dialog.is_visible()
    # The page gets the close event a moment later.
    from playwright.sync_api import expect

    expect(report.locator("[data-place='2']")).to_be_focused()


def test_a_report_that_has_lost_its_photos_shows_its_copies(open_page, folder, tmp_path):
    shutil.copy(folder / "report.html", tmp_path / "moved.html")
    page = open_page((tmp_path / "moved.html").as_uri())
    cards(page).nth(1).click()
    photo = page.locator("dialog .stage img")
    page.locator("dialog .note", has_text="thumbnail of it").wait_for()
    assert photo.evaluate("image => image.naturalWidth") > 0


def test_a_map_lies_on_its_photo(report):
    """At every size, upright photos and wide ones: the same box, and all of it on the stage."""
    cards(report).first.click()
    report.keyboard.press("m")
    for _ in range(2):
        for width, height in ((390, 844), (844, 390), (1280, 900)):
            report.set_viewport_size({"width": width, "height": height})
            photo = report.locator("dialog .stage img").bounding_box()
            assert report.locator("dialog canvas").bounding_box() == photo
            assert photo["width"] > 40
            stage = report.locator("dialog .stage").bounding_box()
            for side, length in (("x", "width"), ("y", "height")):
                assert photo[side] >= stage[side]
                assert photo[side] + photo[length] <= stage[side] + stage[length] + 0.5
        report.keyboard.press("ArrowRight")


def test_a_phone_shows_the_scale_of_the_map_and_the_way_on(open_page, folder):
    page = open_page((folder / "report.html").as_uri(), width=390, height=600, has_touch=True)
    cards(page).first.tap()
    assert page.locator("dialog .ramp").bounding_box()["height"] == 8
    for name in ("Quality map", "Next →"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["y"] + box["height"] <= 600


def test_the_scale_of_a_map_ends_where_scores_end(open_page, tmp_path, row):
    class Explainer:
        card = SimpleNamespace(label=UNITS)

        def explain(self, _path):
            return QualityMap(np.array([[0, 4], [8, 30]], np.float32), 10.0, 16, 16)

    out = tmp_path / "report.html"
    rows = table_of([row("a.png", 10.0)], "t")
    out.write_text(scores_page(rows, Place(out, tmp_path), UNITS, explainer=Explainer()))
    page = open_page(out.as_uri())
    cards(page).first.click()
    ends = page.locator(".ramp-ends span").all_inner_texts()
    assert ends == ["0.0 worse here", "better here 30.0"]
    # White is the image's own score: at a quarter of the remaining scale, not in its middle.
    colors = page.locator(".ramp").evaluate("ramp => ramp.style.backgroundImage")
    assert colors.count("rgb(") == 9
    assert "rgb(178, 24, 43)" not in colors
    assert "rgb(33, 102, 172)" in colors


def test_steps_in_the_dialog_are_told(report):
    cards(report).first.click()
    status = report.locator("dialog [role=status]")
    held = status.element_handle()
    report.keyboard.press("ArrowRight")
    assert status.inner_text() == "photo_01.jpg: 12.0, 2 of 12."
    assert held.evaluate("node => node.isConnected")  # same live region: a new one stays silent
