"""What the documents say is what is there: links lead somewhere, tables are the measured ones."""

import re
import tomllib
from pathlib import Path

import pytest

from qfm_iqm.training.recipe_file import check_recipe

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


def test_parts_of_recipes_are_accepted(tmp_path):
    base = tomllib.loads((ROOT / "recipes" / "biq2021.toml").read_text("utf-8"))
    base["data"]["root"] = str(tmp_path)
    for table in ("labelled.csv", "unlabelled.csv"):
        (tmp_path / table).touch()
    blocks = [
        (page, tomllib.loads(block))
        for page in PAGES
        for block in re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert blocks
    for page, block in blocks:
        check_recipe(base | block, page.name)


def test_figures_of_measurements_come_from_somewhere():
    tables = [match for page in PAGES for match in TABLE.findall(page.read_text("utf-8"))]
    assert tables
