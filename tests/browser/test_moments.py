"""The page of `qfm cull` in a real browser, opened from disk."""

import shutil

import pytest

from qfm_iqm.culling.row import CullRow
from qfm_iqm.report.moments import moments_page
from qfm_iqm.report.scores import Place

HOSTILE = "<img src=x onerror=document.title='taken'>.png"


@pytest.fixture(scope="module")
def moments(tmp_path_factory, photo_folder):
    """Three moments of 3, 2 and 5 photos, and their page."""
    root = tmp_path_factory.mktemp("moments")
    rows = []
    photos = sorted(photo_folder.iterdir())
    for moment, count in enumerate((3, 2, 5), 1):
        for rank in range(1, count + 1):
            photo = photos[len(rows)]
            name = HOSTILE if len(rows) == 4 else photo.name
            shutil.copy(photo, root / name)
            rows.append(
                CullRow(
                    name, score=90.0 - len(rows), moment=moment, photos=count, rank=rank,
                    keep=rank == 1, reason="sharper than the others" if rank == 1 else "less sharp",
                    duplicate="near" if rank == 3 else "", rating=3, taken="2024-05-01T12:30:05",
                )
            )  # fmt: skip
    rows.append(CullRow("alone.jpg", score=5.0, moment=4, photos=1, rank=1, keep=True))
    page = moments_page(rows, "cull.csv", Place(root / "cull.html", root), count=2)
    (root / "cull.html").write_text(page, encoding="utf-8")
    return root


@pytest.fixture
def page(open_page, moments):
    return open_page((moments / "cull.html").as_uri())


def panes(page):
    return page.locator(".pane")


def counts(page):
    return page.inner_text("#said")


def saved(page):
    with page.expect_download() as download:
        page.click("#export")
    return download.value.path().read_bytes().decode().splitlines()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_it_shows(open_page, moments, check_accessibility, scheme):
    page = open_page((moments / "cull.html").as_uri(), color_scheme=scheme)
    assert panes(page).count() == 3
    assert page.inner_text("#moment-title") == "Moment 1 of 3: 3 photos, 2024-05-01 12:30:05"
    assert panes(page).nth(0).locator("p").last.inner_text() == "1. sharper than the others"
    assert "near duplicate" in panes(page).nth(2).inner_text()
    assert counts(page) == "3 photos to keep, 7 to reject."
    widths = [panes(page).nth(i).bounding_box()["width"] for i in range(3)]
    assert max(widths) - min(widths) < 2  # side by side
    check_accessibility(page)
    page.keyboard.press("ArrowDown")
    assert HOSTILE in page.inner_text(".panes")
    assert page.title() == "Photos to keep"
    page.keyboard.press("ArrowDown")
    assert panes(page).count() == 5
    assert len({round(panes(page).nth(i).bounding_box()["width"]) for i in range(4)}) == 1
    check_accessibility(page)


def test_keys_keep_and_reject_and_the_list_follows(page):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    assert counts(page) == "4 photos to keep, 6 to reject; 1 decision of your own."
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.locator(".pane").nth(1).get_by_role("button", name="Keep").click()
    listed = saved(page)
    assert len(listed) == 6
    assert listed[:2] == ["photo_00.jpg", "photo_02.jpg"]
    assert HOSTILE not in listed
    # Decisions are kept. The browser's processes share them late: the page that may not have sent
    # them yet stays untouched until another page sees them.
    other = page.context.new_page()
    for _ in range(100):
        other.goto(page.url)
        if "decisions" in counts(other):
            break
        other.wait_for_timeout(250)
    assert counts(other).startswith("4 photos to keep, 6 to reject; 3 decisions")
    other.close()
    page.reload()
    assert counts(page).startswith("4 photos to keep, 6 to reject; 3 decisions")
    page.click("#suggested")
    assert counts(page) == "3 photos to keep, 7 to reject."
    assert HOSTILE in saved(page)


def scales(page):
    """Scale and shift of each photo, to half a pixel."""
    script = """images => images.map((image) => {
        const { a, e, f } = new DOMMatrix(getComputedStyle(image).transform);
        return [a, e, f].map((value) => Math.round(2 * value) / 2).join(" ");
    })"""
    return page.eval_on_selector_all(".view img", script)


def test_all_photos_of_a_moment_zoom_and_move_together(page):
    before = scales(page)
    assert len(set(before)) == 1
    page.keyboard.press("+")
    zoomed = scales(page)
    assert len(set(zoomed)) == 1
    assert zoomed != before
    assert page.inner_text("#scale") == "1.5 ×"
    box = page.locator(".view").nth(1).bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] + 20)
    page.mouse.up()
    moved = scales(page)
    assert len(set(moved)) == 1
    assert moved != zoomed
    page.mouse.wheel(0, -300)
    assert page.inner_text("#scale") == "3.0 ×"
    page.keyboard.press("0")
    assert scales(page) == before
    assert page.locator("#out").is_disabled()
    page.keyboard.press("z")
    assert (
        page.inner_text("#scale") == "fitted" or page.locator("#pixels[aria-pressed=true]").count()
    )


def test_moments_are_reached_by_keys_buttons_and_the_slider(page):
    page.click("#next")
    assert "Moment 2 of 3" in page.inner_text("#moment-title")
    slider = page.get_by_role("slider", name="Moment")
    slider.focus()
    page.keyboard.press("End")
    assert "Moment 3 of 3" in page.inner_text("#moment-title")
    assert page.locator("#next").is_disabled()
    before = counts(page)
    page.keyboard.press("x")
    assert counts(page) != before
    page.keyboard.press("k")
    assert counts(page) == before
    page.keyboard.press("ArrowUp")
    assert "Moment 2 of 3" in page.inner_text("#moment-title")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert "Moment 3 of 3" in page.inner_text("#moment-title")
    page.locator(".pane").first.focus()
    page.keyboard.press("ArrowUp")
    assert "Moment 2 of 3" in page.inner_text("#moment-title")
    assert page.evaluate("document.activeElement.matches('.pane')")


def test_a_phone(open_page, moments, check_accessibility):
    page = open_page((moments / "cull.html").as_uri(), width=360, height=740, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check_accessibility(page)
    panes(page).nth(1).get_by_role("button", name="Keep").tap()
    assert counts(page).startswith("4 photos to keep")


def test_nothing_to_choose_from(open_page, tmp_path):
    out = tmp_path / "cull.html"
    row = CullRow("alone.jpg", score=5.0, moment=1, photos=1, rank=1, keep=True)
    out.write_text(moments_page([row], "t", Place(out, tmp_path)))
    page = open_page(out.as_uri())
    assert page.locator("#nothing").is_visible()
    assert page.locator("#moments").is_hidden()


def test_decisions_stay_with_their_photos(open_page, tmp_path):
    """Another gap changes the suggestions; another library with the same names has no decisions."""

    def page_of(place, keeps, mark=""):
        rows = [
            CullRow(
                f"{name}.jpg", sha256=mark + name, score=50.0, moment=1, photos=3, rank=rank,
                keep=name in keeps, reason="sharper than the others",
            )
            for rank, name in enumerate("abc", 1)
        ]  # fmt: skip
        out = tmp_path / place
        out.write_text(moments_page(rows, "cull.csv", Place(out, tmp_path), count=0), "utf-8")
        return out.as_uri()

    page = open_page(page_of("cull.html", "a"))
    panes(page).nth(2).get_by_role("button", name="Keep").click()
    assert saved(page) == ["b.jpg"]
    page_of("cull.html", "bc")
    page.reload()
    assert saved(page) == ["a.jpg"]
    assert "of your own" not in counts(page)
    page_of("cull.html", "b")
    page.reload()
    assert saved(page) == ["a.jpg"]
    assert "1 decision of your own" in counts(page)
    page.goto(page_of("other.html", "a", mark="other"))
    assert saved(page) == ["b.jpg", "c.jpg"]


def test_a_thumbnail_in_place_of_a_photo_is_said_to_be_one(open_page, moments, tmp_path):
    shutil.copy(moments / "cull.html", tmp_path / "cull.html")  # without its photos
    page = open_page((tmp_path / "cull.html").as_uri())
    assert "thumbnail" in panes(page).first.locator(".note").inner_text()
