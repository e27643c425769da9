"""The test ledger: many processes append at once, and it is never rewritten."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.evaluation.ledger import NAME, Look, append_look, ledger_path, record_look
from qfm_iqm.metrics.evaluation import evaluate
from qfm_iqm.model.folder import load_card

LOOK = Look("2026-01-02", "abc", "m", "cd", 'rated, "of"', "ef", 5, 0.5, None, "=1+1")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_look_is_a_row_of_what_was_measured(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("QFM_TEST_LEDGER")
    monkeypatch.chdir(tmp_path)
    card = load_card(tiny_model_folder)
    card = card.model_copy(update={"training": {"data": "photos", "split_sha256": "ab" * 32}})
    draw = np.random.default_rng(4)
    labels = draw.normal(size=30)
    found = evaluate(labels + draw.normal(size=30), labels, n_boot=0)
    path = record_look(found, card, tmp_path / "figures.csv", "release")
    assert path == tmp_path / NAME
    header, row = rows_of(path)
    assert tuple(header) == Look._fields
    told = dict(zip(header, row, strict=True))
    assert (told["model"], told["data"], told["why"]) == (card.name, "photos", "release")
    assert told["weights_sha256"] == card.weights_sha256
    assert (told["split_sha256"], told["images"]) == ("ab" * 32, "30")
    assert float(told["srcc"]) == found.value("whole", "srcc")
    assert float(told["plcc"]) == found.value("whole", "plcc")
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True
        )
        assert told["commit"].removesuffix("-dirty") == head.stdout[:12]


def test_its_place_is_said_the_projects_or_beside_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QFM_TEST_LEDGER", "said.csv")
    assert ledger_path(tmp_path / "runs/a") == Path("said.csv")
    monkeypatch.delenv("QFM_TEST_LEDGER")
    assert ledger_path(tmp_path / "runs/a") == tmp_path / "runs" / NAME
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (results / NAME).touch()
    assert ledger_path(tmp_path / "runs/a").resolve() == results / NAME


def test_rows_are_appended_and_what_a_kill_left_stays_apart(tmp_path):
    path = tmp_path / "deep" / NAME
    append_look(path, LOOK)
    first = path.read_bytes()
    append_look(path, LOOK._replace(images=6))
    assert path.read_bytes().startswith(first)
    assert [row[6] for row in rows_of(path)] == ["images", "5", "6"]
    assert rows_of(path)[1][-1] == "'=1+1"  # no formula for a spreadsheet
    with path.open("ab") as file:
        file.write(b"2026-01-03,ab")
    append_look(path, LOOK)
    assert rows_of(path)[-2:] == [["2026-01-03", "ab"], rows_of(path)[1]]
    with pytest.raises(TableError, match="cannot be written"):
        append_look(path / "below" / NAME, LOOK)


def test_many_processes_append_whole_rows_under_one_header(tmp_path):
    path = tmp_path / NAME
    code = (
        "import sys; from pathlib import Path\n"
        "from qfm_iqm.evaluation.ledger import Look, append_look\n"
        "for n in range(50):\n"
        f"    append_look(Path({str(path)!r}), "
        "Look('d', 'c', sys.argv[1], 'w' * 500, 'd', 's', n, 0.1, 0.2, 'y'))\n"
    )
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen([*command, str(k)], env=os.environ) for k in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    header, *rows = rows_of(path)
    assert tuple(header) == Look._fields
    assert sorted((row[2], int(row[6])) for row in rows) == [
        (str(k), n) for k in range(3) for n in range(50)
    ]
