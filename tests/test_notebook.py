"""The notebook runs from top to bottom and shows what it describes."""

from pathlib import Path

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient")
NOTEBOOK = Path(__file__).parents[1] / "examples" / "scores.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests use the other cores
    (tmp_path / "examples").symlink_to(NOTEBOOK.parent)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    tables = [o["data"]["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert len(tables) == 2
    assert "photos/web/engine_cut_off.jpg" in tables[0] and "truncated" in tables[0]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    said = shown[-1]["text"]
    left, right = (float(word.strip(",")) for word in said.split() if word[0].isdigit())
    assert left > right + 20, said


def test_the_notebook_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs") and not cell.get("execution_count")
