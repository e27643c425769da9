"""The report on two score tables in a real browser, opened from disk."""

import shutil

import pytest

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.comparison import comparison_page
from qfm_iqm.report.scores import Place
from qfm_iqm.scoring.table import table_of

UNITS = LabelUnits(minimum=0, maximum=100)


def cards(page):
    return page.locator("#grid .card")


@pytest.fixture
def photos(tmp_path, photo_folder):
    shutil.copytree(photo_folder, tmp_path / "one")
    return tmp_path


def write(photos, first, second):
    out = photos / "compare.html"
    out.write_text(comparison_page(first, second, Place(out, photos), UNITS))
    return out.as_uri()


def test_one_model_on_two_versions(open_page, photos, check_accessibility, row):
    names = sorted(path.name for path in (photos / "one").iterdir())[:6]
    first = table_of([row(f"one/{name}", 50.0 + i) for i, name in enumerate(names)], "before.csv")
    changed = [52.0, 41.0, 52.0, 63.0, 54.5, None]
    second = table_of(
        [row(f"one/{n}", s, "" if s else "lost") for n, s in zip(names, changed, strict=True)],
        "after.csv",
    )
    page = open_page(write(photos, first, second))
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
    # The axes go from 40 to 65. A click on the image that B made worse overrides the filter.
    scatter.click(position={"x": 0.44 * side, "y": (1 - 0.04) * side})
    assert page.locator("dialog .big").inner_text() == "−10.0"


@pytest.fixture
def two_models(photos, row):
    """All scores of B are higher; by rank B is better in one image, and A in another."""
    names = sorted(path.name for path in (photos / "one").iterdir())[:4]
    first, second = (
        table_of([row(f"one/{n}", s, model=m) for n, s in zip(names, scores, strict=True)], m)
        for m, scores in (("small", (10.0, 20.0, 30.0, 40.0)), ("large", (80.0, 70.0, 90.0, 95.0)))
    )
    return write(photos, first, second)


def test_two_models_say_the_same_everywhere(open_page, two_models):
    page = open_page(two_models)
    assert page.inner_text("#wins-text") == ("B ranks higher in 1 image, A in 1; 2 rank the same.")
    for side in "ab":
        page.select_option("#side", side)
        assert page.inner_text("#shown") == "1 of 4 images"
        assert page.locator(f"#grid .card.{side}").count() == 1
    assert "scores better" not in page.inner_text("main")
    cards(page).first.click()
    assert page.locator("dialog .big").inner_text() == "+33 %"
    assert "Rank in B minus rank in A" in page.inner_text("dialog .sentence")
    assert "Path in A" not in page.inner_text("dialog dl")
    page.keyboard.press("Escape")
    # Plotted by rank: the two that differ lie on both sides of the diagonal.
    side = page.locator("#scatter").bounding_box()["width"]
    place = [(100 * rank / 3 + 4) / 108 * side for rank in (0, 1)]
    page.locator("#scatter").click(position={"x": place[1], "y": side - place[0]})
    assert page.locator("dialog .big").inner_text() == "−33 %"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_comparison_is_accessible(open_page, two_models, check_accessibility, scheme, width):
    page = open_page(two_models, width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    check_accessibility(page)
    cards(page).first.click()
    check_accessibility(page)
