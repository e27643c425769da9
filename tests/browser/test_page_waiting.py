"""The service's page while responses are pending: late, refused, or no longer wanted."""

from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx")


def add(page, *files):
    page.set_input_files("#files", [str(file) for file in files])


def finished(page, text):
    page.locator("#progress", has_text=text).wait_for()


def scored(score, **more):
    """The service's response for one photo."""
    row = {"name": "x", "score": score, "crop_std": 1.0, "status": "ok", "error": "", "model": "m"}
    return {"results": [row | more]}


def cards(page):
    return page.locator("#grid .card")


@pytest.fixture
def hold(service, open_page):
    """A page whose first request for a score waits until `release()`."""
    page = open_page(service.url)
    page.locator("#model", has_text="tiny").wait_for()
    held = []
    page.route("**/v1/score?*", lambda route: held.append(route), times=1)
    return page, lambda: held.pop().continue_()


def test_one_photo_is_there_while_another_is_being_scored(hold, photo_folder):
    page, release = hold
    add(page, photo_folder / "photo_00.jpg")
    page.click("#maps")
    add(page, photo_folder / "photo_01.jpg")
    finished(page, "1 of 2 photos done")
    second = cards(page).nth(1)
    second.locator("canvas").wait_for()
    assert float(second.locator(".score").inner_text()) >= 0
    assert second.locator("canvas").bounding_box() == second.locator("img").bounding_box()
    waiting = cards(page).first
    assert waiting.locator("canvas, .score").count() == 0
    height = waiting.bounding_box()["height"]
    release()
    finished(page, "2 photos scored")
    waiting.locator("canvas").wait_for()
    assert waiting.bounding_box()["height"] == height  # the layout did not move
    page.click("#maps")
    assert page.locator("#grid canvas").count() == 0


def test_the_dialog_of_a_photo_that_waits_is_kept_up_to_date(hold, photo_folder):
    page, release = hold
    add(page, photo_folder / "photo_00.jpg")
    cards(page).first.click()
    assert page.locator("dialog .big").inner_text() == "Being scored …"
    release()
    page.locator("dialog .map-switch").wait_for()
    score = page.locator("dialog .big").inner_text()
    assert score == page.locator("#grid .score").inner_text()
    assert f"photo_00.jpg: {score}" in page.inner_text("dialog [role=status]")


def test_what_arrives_behind_the_dialog_moves_nothing_in_it(open_page, service, photo_folder):
    page = open_page(service.url)
    names = [f"photo_0{i}.jpg" for i in range(3)]
    held = []
    add(page, photo_folder / names[0])
    finished(page, "1 photo scored")
    page.select_option("#order", "worst")
    page.route("**/v1/*", lambda route: held.append(route))
    add(page, *(photo_folder / name for name in names[1:]))
    cards(page).first.click()
    assert "is being drawn" in page.inner_text("dialog .note")
    page.wait_for_timeout(300)
    assert len(held) == 3
    for route in held:
        # Both new photos are worse: in the current order, they precede the open one.
        if route.request.url.endswith("/v1/score?causes=true"):
            route.fulfill(json=scored(0.0))
    page.locator("#grid .score").nth(2).wait_for()
    assert page.locator("#grid .name").all_inner_texts()[-1] == names[0]
    assert page.inner_text("#detail-name") == names[0]
    next(route for route in held if route.request.url.endswith("/v1/map")).continue_()
    page.locator("dialog .map-switch").wait_for()
    assert page.inner_text("dialog .note") == ""
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-name") == names[1]


def test_a_busy_service_is_asked_again(open_page, service, photo_folder):
    page = open_page(service.url)
    refused = []

    def refuse(route):
        refused.append(route.request)
        route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "Too much to do."})

    page.route("**/v1/score?*", refuse, times=2)
    add(page, photo_folder / "photo_00.jpg")
    finished(page, "1 photo scored")
    assert len(refused) == 2


def test_clear_gives_up_what_is_on_its_way(hold, photo_folder):
    page, _release = hold
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    add(page, photo_folder / "photo_00.jpg")
    page.wait_for_timeout(200)
    page.click("#clear")
    page.wait_for_timeout(200)
    assert [urlsplit(url).path for url in failed] == ["/v1/score"]
    add(page, photo_folder / "photo_01.jpg")
    finished(page, "1 photo scored")
    assert page.locator("#grid .name").all_inner_texts() == ["photo_01.jpg"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (421, '{"error": "Not for this host."}', "Not for this host."),
        (500, "Internal Server Error", "an invalid response (500)"),
    ],
)
def test_a_service_that_refuses_is_told(open_page, service, photo_folder, status, body, said):
    page = open_page("about:blank")
    page.route("**/v1/*", lambda route: route.fulfill(status=status, body=body))
    page.goto(service.url)
    page.locator("#model", has_text=said).wait_for()
    add(page, photo_folder / "photo_00.jpg")
    page.locator(".card.error", has_text=said).wait_for()


def test_the_interval_says_what_it_is(open_page, service, photo_folder):
    page = open_page(service.url)
    page.locator("#model", has_text="tiny").wait_for()
    page.route(
        "**/v1/score?*", lambda route: route.fulfill(json=scored(20.0, mos_low=12.0, mos_high=34.0))
    )
    add(page, photo_folder / "photo_00.jpg")
    finished(page, "1 photo scored")
    assert "90 %: 12.000 to 34.000" in cards(page).first.inner_text()
