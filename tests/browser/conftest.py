"""A real browser: Debian's Chromium, driven by Playwright.

Without a browser, tests here are skipped; with QFM_BROWSER=required, as in `make test-browser`,
they fail.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.folder import load_model
from qfm_iqm.report.scores import Place, scores_page
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import ScoreTable, table_of

HOSTILE = "<img src=x onerror=document.title='taken'>.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# For containers: root, and a small /dev/shm, which pages would fill.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """The browser.

    Each module starts its own: while Playwright is open, its event loop runs in this thread, and a
    test of another module that calls `asyncio.run` would fail.
    """
    try:
        from playwright.sync_api import sync_playwright

        missing = None if CHROMIUM else "there is no chromium: apt-get install chromium"
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed: pip install 'qfm-iqm[browser]'"
    if missing:
        if os.environ.get("QFM_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[object]:
    """`open_page(url, width=, height=, **context options)`: a page that must not complain.

    Expected failures of requests (a refused image) are named in `page.allowed`.
    """
    contexts = []
    complaints = []

    def begin(url, *, width=1280, height=900, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def told(message):
            if message.type == "error" and "Failed to load resource" not in message.text:
                complaints.append(message.text)

        page.on("console", told)
        page.goto(url)
        return page

    yield begin
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def check_accessibility() -> object:
    """Fails on findings of axe that are serious or critical."""

    def check(page):
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(page).response["violations"]
        serious = [
            (finding["id"], node["html"], node.get("failureSummary"))
            for finding in found
            if finding["impact"] in ("serious", "critical")
            for node in finding["nodes"]
        ]
        assert serious == []

    return check


@pytest.fixture(scope="session")
def row() -> Callable[..., ScoreRow]:
    """`row(path, score)`: a row of a table of scores."""

    def make(path, score, error="", model="tiny"):
        status = "error" if error else "ok"
        return ScoreRow(
            path=path,
            score=score,
            crop_std=1.5,
            width=100,
            height=80,
            status=status,
            error=error,
            model=model,
        )

    return make


@pytest.fixture(scope="session")
def folder(tmp_path_factory, photo_folder, tiny_model_folder, row) -> Path:
    """Photos in two folders, and the report on them: scores 4, 12, ... 92, and maps of three."""
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
    rows += [row("one/broken.jpg", None, "cannot read 'one/broken.jpg': it is <b>broken</b>")]
    table = table_of(rows, "scores.csv")
    columns = dict(table.columns) | {
        "percentile": [50.0] * 13, "mos_low": [1.0] * 13, "mos_high": [9.0] * 13,
        "out_of_distribution": [False] * 13
    }  # fmt: skip
    model = load_model(tiny_model_folder)
    place = Place(root / "report.html", root)
    units = LabelUnits(minimum=0, maximum=100)
    page = scores_page(
        ScoreTable("scores.csv", columns), place, units, threshold=30, explainer=model, maps=3
    )
    (root / "report.html").write_text(page, encoding="utf-8")
    return root


@pytest.fixture
def report(open_page, folder):
    """The report on the folder, open."""
    return open_page((folder / "report.html").as_uri())
