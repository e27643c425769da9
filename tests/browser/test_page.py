"""The service's page in a real browser, with a real service."""

import csv
import json

import pytest

from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.scorer import Scorer

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def scores(photo_folder, tiny_model_folder):
    rows = Scorer(load_model(tiny_model_folder), device="cpu").score_paths(
        sorted(photo_folder.iterdir())
    )
    return {row.path.rpartition("/")[2]: row.score for row in rows}


def add(page, *files):
    page.set_input_files("#files", [str(file) for file in files])


def finished(page, text):
    page.locator("#progress", has_text=text).wait_for()


def cards(page):
    return page.locator("#grid .card")


def test_three_images_and_a_broken_one(
    open_page, service, photo_folder, scores, tmp_path, check_accessibility
):
    page = open_page(service.url)
    page.locator("#model", has_text="tiny-test_vit").wait_for()
    check_accessibility(page)
    broken = tmp_path / "<b>broken<b>.jpg"
    broken.write_text("no image")
    photos = [photo_folder / f"photo_0{i}.jpg" for i in range(3)]
    add(page, photos[0], broken, *photos[1:])
    finished(page, "3 photos scored, 1 could not be")
    shown = dict(
        zip(
            page.locator("#grid .name").all_inner_texts(),
            page.locator("#grid .score").all_inner_texts(),
            strict=True,
        )
    )
    assert shown.pop("<b>broken<b>.jpg") == "–"
    assert shown.keys() == {photo.name for photo in photos}
    for name, text in shown.items():
        assert float(text) == pytest.approx(scores[name], abs=0.06)
    assert "not an image of a known format" in page.locator(".card.error").inner_text()
    check_accessibility(page)
    page.locator(".card.error").click()
    assert page.locator("dialog .big").inner_text() == "Not scored"
    assert page.inner_text("dialog .sentence").startswith("it is not an image of a known format")
    page.keyboard.press("Escape")

    with page.expect_download() as saved:
        page.click("#json")
    rows = json.loads(saved.value.path().read_text())
    assert [row.get("score") for row in rows] == [
        scores[photos[0].name],
        None,
        scores[photos[1].name],
        scores[photos[2].name],
    ]
    with page.expect_download() as saved:
        page.click("#csv")
    rows = list(csv.DictReader(saved.value.path().open(encoding="utf-8", newline="")))
    assert [row["path"] for row in rows][1] == broken.name
    assert float(rows[0]["score"]) == scores[photos[0].name]

    page.select_option("#order", "worst")
    texts = [text for text in page.locator("#grid .score").all_inner_texts() if text != "–"]
    assert texts == sorted(texts, key=float)
    page.click("#clear")
    assert page.locator("#results").is_hidden()


def test_a_map_by_keyboard_alone(open_page, service, photo_folder, check_accessibility):
    page = open_page(service.url)

    def tab_to(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(selector)

    page.locator("#model", has_text="tiny").wait_for()
    tab_to("#choose")
    with page.expect_file_chooser() as chooser:
        page.wait_for_timeout(300)  # until the browser intercepts file choosers
        page.keyboard.press("Enter")
    chooser.value.set_files([str(photo_folder / f"photo_{n}") for n in ("03.jpg", "04.png")])
    finished(page, "2 photos scored")
    tab_to("#order")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#order") == "worst"
    page.keyboard.press("ArrowUp")
    tab_to(".card")
    page.keyboard.press("Enter")
    page.locator(".map-switch").wait_for()
    page.keyboard.press("m")
    assert page.locator("dialog canvas").is_visible()
    check_accessibility(page)
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-name").inner_text() == "photo_04.png"
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    # First the browser restores the focus; then the page moves it on the close event.
    page.wait_for_function("document.activeElement.title === 'photo_04.png'")


def test_two_side_by_side(open_page, service, photo_folder, check_accessibility):
    page = open_page(service.url)
    add(page, photo_folder / "photo_05.png", photo_folder / "photo_06.png")
    finished(page, "2 photos scored")
    page.focus("#compare")
    page.keyboard.press("Enter")
    assert "Pick two" in page.inner_text("#hint")
    for place in (0, 1):
        cards(page).nth(place).focus()
        page.keyboard.press("Enter")
    assert page.locator("dialog .stage img").count() == 2
    first, second = (float(text) for text in page.locator("#grid .score").all_inner_texts())
    side = "Left" if first > second else "Right"
    text = page.locator("dialog .big").inner_text()
    assert text.startswith(f"{side} is better by ") or text == "Both are equally good"
    assert page.get_by_role("button", name="Next").count() == 0
    check_accessibility(page)
    # Each photo has its map, and both maps share one scale.
    page.locator("dialog canvas").nth(1).wait_for(state="attached")
    page.keyboard.press("m")
    for place in (0, 1):
        photo = page.locator("dialog figure").nth(place)
        assert photo.locator("canvas").bounding_box() == photo.locator("img").bounding_box()
    assert page.locator(".ramp").count() == 1
    check_accessibility(page)


def test_dropping_three_and_pasting_one(open_page, service, photo_folder, scores):
    page = open_page(service.url)
    names = {"drop": [f"photo_0{i}.jpg" for i in range(3)], "paste": ["photo_07.png"]}
    for kind, target in (("drop", "#drop"), ("paste", "body")):
        contents = [[name, list((photo_folder / name).read_bytes())] for name in names[kind]]
        page.locator(target).evaluate(
            """(target, [kind, contents]) => {
                const data = new DataTransfer();
                for (const [name, content] of contents) {
                    data.items.add(new File([new Uint8Array(content)], name, {type: "image/*"}));
                }
                const options = {bubbles: true, cancelable: true};
                target.dispatchEvent(kind === "drop"
                    ? new DragEvent("drop", {...options, dataTransfer: data})
                    : new ClipboardEvent("paste", {...options, clipboardData: data}));
            }""",
            [kind, contents],
        )
        finished(page, f"{len(names['drop']) + (kind == 'paste')} photos scored")
    shown = page.locator("#grid .name").all_inner_texts()
    assert shown == names["drop"] + names["paste"]
    for name, text in zip(shown, page.locator("#grid .score").all_inner_texts(), strict=True):
        assert float(text) == pytest.approx(scores[name], abs=0.06)


def test_the_desk_in_the_dark(open_page, service, photo_folder, check_accessibility):
    page = open_page(service.url, color_scheme="dark")
    add(page, photo_folder / "photo_00.jpg")
    finished(page, "1 photo scored")
    check_accessibility(page)
    cards(page).first.click()
    page.locator(".map-switch").wait_for()
    check_accessibility(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(open_page, service, photo_folder, check_accessibility, scheme):
    page = open_page(service.url, width=360, height=740, color_scheme=scheme, has_touch=True)
    add(page, *sorted(photo_folder.iterdir())[:3])
    finished(page, "3 photos scored")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "paste" not in page.inner_text("#drop")
    check_accessibility(page)
    cards(page).first.tap()
    assert page.get_by_role("dialog").bounding_box()["width"] == 360
    check_accessibility(page)


def test_a_service_that_has_gone(open_page, photo_folder, serve):
    with serve("default") as service:
        page = open_page(service.url)
        page.locator("#model", has_text="default").wait_for()
    add(page, photo_folder / "photo_00.jpg")
    page.locator(".card.error", has_text="cannot be reached").wait_for()
    assert "try again" in page.locator(".card.error").inner_text()


def test_a_token_is_asked_for_once(open_page, photo_folder, serve):
    with serve("default", "--token", "a-secret-of-ours") as service:
        page = open_page(service.url)
        page.fill("#token", "another-secret")
        page.keyboard.press("Enter")
        page.locator("#login-note", has_text="not the token").wait_for()
        page.fill("#token", "a-secret-of-ours")
        page.keyboard.press("Enter")
        page.locator("#model", has_text="default").wait_for()
        add(page, photo_folder / "photo_00.jpg")
        finished(page, "1 photo scored")
        page.reload()
        page.locator("#model", has_text="default").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_description_for_programs(open_page, service, check_accessibility, scheme):
    page = open_page(f"{service.url}/docs", color_scheme=scheme)
    page.locator(".route", has_text="/v1/score").wait_for()
    assert "curl -F files=@a.jpg" in page.inner_text("main")
    assert "crop_std" in page.inner_text("main")
    check_accessibility(page)
