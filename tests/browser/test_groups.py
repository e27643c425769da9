"""The groups on the service's page in a real browser, with a real service."""

import json
import shutil

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx")

from qfm_iqm.cli.commands import app


def add(page, *files):
    page.set_input_files("#files", [str(file) for file in files])


def scored(page, count):
    page.locator("#progress", has_text=f"{count} photos scored").wait_for()


@pytest.fixture
def grouped(open_page, service, library):
    """`grouped(**options)`: a page with the groups of the library."""

    def begin(**options):
        page = open_page(service.url, **options)
        add(page, *sorted(library.iterdir()))
        scored(page, 9)
        page.click("#groups")
        page.locator("#groups-view").wait_for()
        return page

    return begin


def names(page):
    return page.locator(".pane .name").all_inner_texts()


def saved(page):
    with page.expect_download() as download:
        page.click("#export")
    return download.value.path().read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def table(library, tiny_model_folder, tmp_path_factory):
    """The rows of `qfm cull` for the library."""
    from typer.testing import CliRunner

    out = tmp_path_factory.mktemp("cull") / "cull.jsonl"
    CliRunner().invoke(
        app, ["cull", str(library), "--model", str(tiny_model_folder), "--out", str(out)]
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return [row | {"name": row["path"].rpartition("/")[2]} for row in rows]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_groups_are_those_of_the_command(grouped, table, check_accessibility, scheme):
    page = grouped(color_scheme=scheme)
    check_accessibility(page)
    assert page.locator("#drop, #grid, #csv").locator("visible=true").count() == 0
    several = [row for row in table if (row["photos"] or 0) > 1]
    for moment in (1, 2):
        rows = [row for row in several if row["moment"] == moment]
        assert page.inner_text("#moment-title").startswith(
            f"Moment {moment} of 2: {len(rows)} photos, 2024-05-01 12:"
        )
        assert names(page) == [row["name"] for row in rows]
        for row, pane in zip(rows, page.locator(".pane").all(), strict=True):
            assert f"{row['rank']}. " in pane.inner_text()
            assert row["reason"] in pane.inner_text()
            assert (f"{row['duplicate']} duplicate" in pane.inner_text()) == bool(row["duplicate"])
            pane.locator("img").evaluate("image => image.decode()")  # it is shown
        page.keyboard.press("ArrowDown")
    assert page.inner_text("#said") == "2 photos to keep, 5 to reject."
    assert "Photos alone in their moment\n2" in page.inner_text("#figures")
    rejected = [row["name"] for row in several if not row["keep"]]
    assert saved(page) == rejected


def test_decisions_stay_with_their_photos(grouped, library):
    page = grouped()
    page.wait_for_function("document.activeElement.matches('.pane')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    kept = names(page)[1]
    assert "1 decision of your own" in page.inner_text("#said")
    page.keyboard.press("+")
    assert page.inner_text("#scale") == "1.5 ×"
    transform = "all => all.map((image) => getComputedStyle(image).transform)"
    assert len(set(page.eval_on_selector_all(".view img", transform))) == 1
    page.keyboard.press("Escape")
    assert page.locator("#grid .card").first.is_visible()
    assert page.locator("#groups-view").is_hidden()
    assert page.evaluate("document.activeElement.id") == "groups"
    page.keyboard.press("x")  # does not reject when cards are shown
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("#groups")  # nothing changed: no request
    page.wait_for_function("document.activeElement.matches('.pane')")
    assert "1 decision of your own" in page.inner_text("#said")
    assert not [url for url in asked if "/v1/" in url]
    page.get_by_role("button", name="Back to all photos").click()
    # After one more photo, the groups are computed again, and decisions are kept.
    add(page, library / "b2.jpg")
    scored(page, 10)
    page.click("#groups")
    page.locator("#groups-view").wait_for()
    assert [url for url in asked if url.endswith("/v1/cull")]
    assert "1 decision of your own" in page.inner_text("#said")
    assert kept not in saved(page)
    page.click("#suggested")
    assert kept in saved(page)


def test_a_phone(grouped, check_accessibility):
    page = grouped(width=360, height=740, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    check_accessibility(page)
    page.locator(".pane").nth(1).get_by_role("button", name="Keep").tap()
    assert page.inner_text("#said").startswith("3 photos to keep")
    page.get_by_role("button", name="Back to all photos").tap()
    assert page.locator("#grid").is_visible()


def test_photos_of_one_name_and_of_one_content(open_page, service, library, tmp_path):
    for number, name in enumerate(("b0.jpg", "b1.jpg", "b2.jpg")):
        (tmp_path / str(number)).mkdir()
        shutil.copy(library / name, tmp_path / str(number) / "same.jpg")
    shutil.copy(library / "b2.jpg", tmp_path / '2 "x" <b>.jpg')
    page = open_page(service.url)
    for number in range(3):
        add(page, tmp_path / str(number) / "same.jpg")
    add(page, tmp_path / '2 "x" <b>.jpg')
    scored(page, 4)
    of_cards = page.eval_on_selector_all("#grid img", "all => all.map(image => image.src)")
    page.click("#groups")
    page.locator("#groups-view").wait_for()
    assert sorted(names(page)) == ['2 "x" <b>.jpg', "same.jpg", "same.jpg", "same.jpg"]
    shown = page.eval_on_selector_all(".view img", "all => all.map(image => image.src)")
    assert sorted(shown) == sorted(of_cards)


def test_nothing_to_choose_from(open_page, service, library, check_accessibility):
    page = open_page(service.url)
    add(page, library / "c.jpg")
    page.locator("#progress", has_text="1 photo scored").wait_for()
    assert page.locator("#groups").is_disabled()
    add(page, library / "a1.jpg")
    scored(page, 2)
    page.click("#groups")
    page.locator("#nothing").wait_for()
    assert "there is nothing to choose from" in page.inner_text("#nothing")
    assert page.locator("#moments").is_hidden()
    assert page.evaluate("document.activeElement.id") == "cards"
    check_accessibility(page)
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    assert page.locator("#grid").is_visible()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"files": 2}, "in at most 2 photos and 5 MB at once, but these are 3 photos and 0 MB"),
        ({"request_bytes": 20_000}, "but these are 3 photos"),
    ],
)
def test_more_photos_than_one_request_may_bring(
    open_page, service, library, check_accessibility, limits, says
):
    page = open_page("about:blank")

    def fewer(route):
        facts = route.fetch().json()
        route.fulfill(json=facts | {"limits": facts["limits"] | limits})

    page.route("**/v1/model", fewer)
    asked = []
    page.route("**/v1/cull", lambda route: asked.append(route))
    page.goto(service.url)
    page.locator("#model", has_text="tiny").wait_for()
    add(page, *(library / f"a{number}.jpg" for number in range(3)))
    scored(page, 3)
    page.click("#groups")
    page.locator("#hint", has_text=says).wait_for()
    assert page.locator("#grid").is_visible()
    assert asked == []
    check_accessibility(page)


def test_what_the_service_refuses_is_told(open_page, service, library):
    page = open_page(service.url)
    add(page, *(library / f"a{number}.jpg" for number in range(3)))
    scored(page, 3)
    held = []
    page.route("**/v1/cull", lambda route: held.append(route))
    page.click("#groups")
    page.locator("#hint", has_text="Comparing 3 photos").wait_for()
    assert page.locator("#groups").is_disabled()
    held.pop().fulfill(status=421, json={"error": "Not for this host."})
    page.locator("#hint", has_text="Not for this host.").wait_for()
    page.click("#groups")
    page.locator("#hint", has_text="Comparing 3 photos").wait_for()
    held.pop().abort()
    page.locator("#hint", has_text="cannot be reached").wait_for()
    page.click("#groups")
    page.locator("#hint", has_text="Comparing 3 photos").wait_for()
    page.click("#clear")  # cancels pending requests
    page.wait_for_timeout(200)
    assert page.locator("#results, #groups-view").locator("visible=true").count() == 0
    page.unroute("**/v1/cull")
    add(page, *(library / f"b{number}.jpg" for number in range(3)))
    scored(page, 3)
    assert page.locator("#hint").is_hidden()
    page.click("#groups")
    page.locator("#groups-view").wait_for()
    # Adding photos returns to all photos.
    page.evaluate("add([new File(['x'], 'new.jpg')])")
    page.locator(".card.error").wait_for()
    assert page.locator("#groups-view").is_hidden()
