"""The documents are true: links have targets, and tables show the measured figures."""

import csv
import doctest
import re
import runpy
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import qfm_iqm
from qfm_iqm.exit_codes import ExitCode
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
        whole = {name: base.get(name, {}) | section for name, section in block.items()}
        check_recipe(base | whole, page.name)


def test_the_table_of_exit_codes_is_that_of_the_code():
    text = (ROOT / "docs" / "integrations.md").read_text("utf-8")
    table = re.search(r"<!-- exit codes -->\n(.*?)(\n\n|\Z)", text, re.DOTALL)[1].strip()
    rows = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    assert table.replace(r"\|", "|").splitlines()[2:] == rows


# ---- examples ----

METRICS = sorted(f"qfm_iqm.metrics.{path.stem}" for path in ROOT.glob("src/qfm_iqm/metrics/[a-z]*"))
HOMES = sorted({getattr(qfm_iqm, name).__module__ for name in qfm_iqm.__all__})


@pytest.mark.parametrize("name", [*HOMES, *METRICS])
def test_examples_in_docstrings_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(name)).failed == 0


def test_every_public_name_has_an_example():
    for name in qfm_iqm.__all__:
        assert ">>> " in getattr(qfm_iqm, name).__doc__, name


# ---- figures ----

FIGURES = re.compile(r"<!-- figures(, a file for each row)?: ([^>]+?) -->\n?$")
NUMBER = re.compile(r"(?<![\d.])-?(?:\d[\d,]*\.?\d*|\.\d+)")
GENERATED = {"docs/default_model.md"}  # compared with docs/model_card.py below
FACTS = {"docs/formats.md"}  # bits and layouts of formats, no measurements


def tables_of(text):
    """Tables with the lines before them: (lines before, header cells, rows of cells)."""
    text = re.sub(r"```.*?```", "", TABLE.sub("", text), flags=re.DOTALL)
    for match in re.finditer(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in match[0].splitlines()
        ]
        yield text[: match.start()], lines[0], lines[2:]


def holds_figures(rows):
    return any(re.match(r"[-+±]?\.?\d", cell) for row in rows for cell in row[1:])


def is_rounding_of(figure, values):
    """Whether a figure, as shown in a table, is one of the values, rounded to its digits."""
    digits = len(figure.partition(".")[2])
    value = float(figure.replace(",", ""))
    return any(abs(value - other) <= 0.5 * 10**-digits + 1e-9 for other in values)


def named(rows, name):
    """The rows of a results file in which some cell is this name; all if none is."""
    found = [row for row in rows if name.replace(",", "") in row.values()]
    return found or rows


def without_source(before, header, rows):
    """Figures of a table that are none of the files named before it."""
    said = FIGURES.search(before)
    if said is None:
        return ["a table of figures names no file: <!-- figures: FILE -->"]
    files = [list(csv.DictReader((ROOT / name).open())) for name in said[2].split()]
    each = files if said[1] else [[row for file in files for row in file]] * len(rows)
    missing = []
    for source, (label, *cells) in zip(each, rows, strict=True):
        quoted = re.search(r"`(.+?)`", label)
        about = named(source, quoted[1] if quoted else label.partition(",")[0])
        for title, cell in zip(header[1:], cells, strict=True):
            values = [
                float(text)
                for row in named(about, title)
                for text in row.values()
                if re.fullmatch(r"-?\d+\.?\d*(e-?\d+)?", text or "")
            ]
            found = NUMBER.findall(cell)
            missing += [
                f"{label}: {figure}" for figure in found if not is_rounding_of(figure, values)
            ]
    return missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_figures_of_measurements_come_from_the_files_they_name(page):
    if name_of(page) not in GENERATED | FACTS:
        for table in tables_of(page.read_text("utf-8")):
            if holds_figures(table[2]):
                assert without_source(*table) == []


def test_a_figure_without_a_source_would_be_found():
    text = (ROOT / "docs" / "scale.md").read_text("utf-8")
    (table,) = [t for t in tables_of(text) if holds_figures(t[2])]
    assert without_source(*table) == []
    for right, wrong in (
        ("104.8", "104.7"),
        ("1,645", "1,644"),
        ("0.13", "0.27"),
        ("32.7", "3.42"),
    ):
        (changed,) = [t for t in tables_of(text.replace(f" {right} ", f" {wrong} ", 1))
                      if holds_figures(t[2])]  # fmt: skip
        assert len(without_source(*changed)) == 1, wrong
    unmarked = text.replace("<!-- figures", "<!-- numbers")
    assert any(without_source(*t) for t in tables_of(unmarked) if holds_figures(t[2]))


def test_the_default_models_card_is_what_its_card_and_results_say():
    expected = runpy.run_path(str(ROOT / "docs" / "model_card.py"))["default_page"]()
    assert (ROOT / "docs" / "default_model.md").read_text("utf-8") == expected
