"""What the documents say is what is there: links lead somewhere, tables are the measured ones."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TABLE = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_local_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_those_of_the_results(page):
    for source, content in TABLE.findall(page.read_text("utf-8")):
        assert content.strip() == (ROOT / source).read_text("utf-8").strip(), source


def test_figures_of_measurements_come_from_somewhere():
    tables = [match for page in PAGES for match in TABLE.findall(page.read_text("utf-8"))]
    assert tables
