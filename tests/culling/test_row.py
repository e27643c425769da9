"""The table of `qfm cull`: what is written is read back, and its documentation is complete."""

import re
from pathlib import Path

import pytest

from qfm_iqm.culling.row import CULL_SCHEMA, CullRow
from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import SCHEMA, write_rows
from qfm_iqm.scoring.table import read_rows_of

ROOT = Path(__file__).parents[2]
ROWS = [
    CullRow(
        "a;b/é.jpg", score=71.5, moment=1, photos=2, rank=1, keep=True,
        reason="sharper than the other", rating=5, taken="2024-05-01T12:00:00+02:00",
    ),
    CullRow(
        "=x.jpg", score=12.25, moment=1, photos=2, rank=2, keep=False, duplicate="near",
        duplicate_of="a;b/é.jpg", reason="less sharp than é.jpg", rating=1,
    ),
    CullRow("broken.jpg", status="error", error="cannot read 'broken.jpg'"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_is_written_is_read(tmp_path, kind):
    path = tmp_path / f"cull.{kind}"
    write_rows(ROWS, path, CULL_SCHEMA)
    assert read_rows_of(path, CullRow, CULL_SCHEMA) == ROWS


def test_names_that_are_no_text_are_kept(tmp_path):
    rows = [CullRow("a/\udcff.jpg", score=1.0, moment=1, reason="as good as \udcff.jpg")]
    write_rows(rows, tmp_path / "cull.jsonl", CULL_SCHEMA)
    assert read_rows_of(tmp_path / "cull.jsonl", CullRow, CULL_SCHEMA) == rows


def test_a_table_of_scores_is_not_one_of_culling(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(ROWS, path, SCHEMA)
    with pytest.raises(TableError, match="was not written by this command of this version"):
        read_rows_of(path, CullRow, CULL_SCHEMA)


def test_the_document_has_its_columns():
    text = (ROOT / "docs" / "cull.md").read_text("utf-8")
    said = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", text, re.MULTILINE)
    own = [column for name, column in CULL_SCHEMA.items() if name not in SCHEMA]
    assert said == [(column.name, column.kind, column.help) for column in own]
