"""A real browser: Debian's Chromium, driven by Playwright.

Tests here are skipped where there is none; with QFM_BROWSER=required, as in `make test-browser`,
that is a failure.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """The browser."""
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[object]:
    """`open_page(url, width=, height=, **context options)`: a page that must not complain.

    Requests that the page itself answers for (a refused image) are named in `page.allowed`.
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
