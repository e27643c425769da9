"""An output never replaces a user's file: the call is refused, and nothing changes."""

import os
import shutil
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
GRID = """
recipe = "{recipe}"
seeds = [0]
references = ["baseline"]
[settings.tiny]
[variants.baseline]
"""
NAMES = ("photo_00.jpg", "photo_05.png")


@pytest.fixture
def folder(tmp_path, photo_folder, tiny_model_folder, official_trees, monkeypatch):
    """A user's photos, tables and folders, in the current folder."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES:
        shutil.copy(photo_folder / name, photos)
    shutil.copy(photo_folder / "photo_05.png", "ph.png")
    os.link("ph.png", "hard.png")
    (tmp_path / "soft.png").symlink_to("ph.png")
    for table, column in (("labels", "mos"), ("a", "score"), ("b", "score"), ("rated", "score")):
        rows = [f"photos/{name},{number}" for number, name in enumerate(NAMES)]
        (tmp_path / f"{table}.csv").write_text("\n".join([f"name,{column}", *rows, ""]))
    (tmp_path / "link.csv").symlink_to("labels.csv")
    (tmp_path / "rated.jsonl").write_text('{"name": "a.jpg", "score": 3}\n')
    (tmp_path / "notes.csv").write_text("my own notes\n")
    (tmp_path / "grid.toml").write_text(GRID.format(recipe=RECIPES / "own.toml"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")
    (tmp_path / "model").symlink_to(tiny_model_folder)
    (tmp_path / "tree").symlink_to(official_trees["livec"][0])
    return tmp_path


def content(folder):
    """Every file below a folder, links followed at the top, with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = [
    ("explain ph.png -m model --out ph.png", "--out would replace 'ph.png'"),
    ("explain ph.png -m model --out soft.png", "--out would replace 'ph.png'"),
    ("explain soft.png -m model --out hard.png", "--out would replace 'soft.png'"),
    ("evaluate labels.csv --scores a.csv --out labels.csv", "--out would replace 'labels.csv'"),
    ("evaluate labels.csv --scores a.csv --out link.csv", "--out would replace 'labels.csv'"),
    ("evaluate labels.csv --scores a.csv --out ./photos/../a.csv", "--out would replace 'a.csv'"),
    ("evaluate labels.csv --root . -m model --out x.csv --per-image x.csv",
     "--out and --per-image would write the same file 'x.csv'"),
    ("compare a.csv b.csv --labels labels.csv --out a.csv", "--out would replace 'a.csv'"),
    ("compare a.csv b.csv --labels labels.csv --out link.csv", "--out would replace 'labels.csv'"),
    ("score photos -m model --out v.csv --frames v.csv",
     "--out and --frames would write the same file 'v.csv'"),
    ("score photos -m model --out v.csv --frames photos/../v.csv",
     "--out and --frames would write the same file"),
    ("score --list a.csv -m model --out a.csv", "--out would replace 'a.csv'"),
    ("cull --list a.csv -m model --out a.csv", "--out would replace 'a.csv'"),
    ("report a.csv --frames labels.csv --out page.html", "--out would replace 'labels.csv'"),
    ("gate ph.png --min 1 -m model --baseline a.csv --max-drop 1 --json base.json",
     "--json would replace 'a.csv'"),
    ("bench cross labels.csv -m model --results labels.csv", "--results would replace"),
    ("bench diagnose labels.csv -m model --figure diagnosis.png --out diagnosis.json",
     "--out and --figure would write the same file"),
    ("score photos -m model --out rated.csv", "'rated.csv' exists and is not a table that qfm"),
    ("score photos -m model --out rated.jsonl", "'rated.jsonl' exists and is not a table that"),
    ("score photos -m model --out s.csv --frames notes.csv", "'notes.csv' exists and is not"),
    ("cull photos -m model --out rated.csv", "'rated.csv' exists and is not a table that qfm"),
    ("evaluate labels.csv --scores a.csv --out notes.csv", "'notes.csv' exists and is not a table"),
    ("evaluate labels.csv --root . -m model --per-image notes.csv", "'notes.csv' exists and is"),
    ("compare a.csv b.csv --labels labels.csv --out notes.csv", "'notes.csv' exists and is not"),
    ("explain photos/photo_05.png -m model --out ph.png", "'ph.png' exists and is not"),
    ("report a.csv --out own.html", "'own.html' exists and is not a file of this kind"),
    ("score photos -m model --out s.csv --report own.html", "'own.html' exists and is not a file"),
    ("cull photos -m model --out s.csv --report own.html", "'own.html' exists and is not a file"),
    ("gate ph.png --min 1 -m model --json own.json", "'own.json' exists and is not a file of this"),
    ("gate ph.png --min 1 -m model --junit own.xml", "'own.xml' exists and is not a file of this"),
    ("data export livec --root tree --out notes.csv", "'notes.csv' exists and is not a table"),
    ("export --to hub-folder -m model --out own", "'own' exists and is not a model folder"),
    ("export --to hub-folder -m model --out model", "model holds a model that is no hub folder"),
    ("calibrate labels.csv -m model --out model", "model holds a model that is not calibrated"),
    ("export --to onnx -m model --out own", "'own' exists and is not an exported model"),
    ("calibrate labels.csv -m model --out photos", "'photos' exists and is not a model folder"),
    ("data split labels.csv --out photos --leaks skip", "'photos' exists and is not a folder of"),
    ("train RECIPES/own.toml --set data.root=. --set data.labels=labels.csv --out photos",
     "'photos' exists and is not a run folder"),
    ("bench folds RECIPES/own.toml --set data.root=. --set data.labels=labels.csv --out photos",
     "'photos' exists and is not a benchmark folder"),
    ("bench curve RECIPES/own.toml --shares 100 --set data.root=. --set data.labels=labels.csv "
     "--out photos", "'photos' exists and is not a benchmark folder"),
    ("bench folds RECIPES/own.toml --set data.root=. --set data.labels=labels.csv --results a.csv",
     "'a.csv' cannot be written: a.csv is not a folder."),
    ("bench ablate grid.toml --set data.root=. --set data.labels=labels.csv --out photos",
     "'photos' exists and is not a grid folder"),
    ("bench ablate grid.toml --set data.root=. --set data.labels=labels.csv "
     "--results a.csv/below",
     "a.csv is not a folder."),
    ("data split labels.csv --out ph.png --leaks skip", "ph.png is not a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "sentence"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_somebodys_own_is_not_replaced(qfm, folder, line, sentence):
    (folder / "page.html").symlink_to("labels.csv")
    (folder / "base.json").symlink_to("a.csv")
    for name in ("own.html", "own.json", "own.xml"):
        (folder / name).write_text("somebody's own")
    if "diagnosis" in line:
        (folder / "diagnosis.json").touch()
        (folder / "diagnosis.png").symlink_to("diagnosis.json")
    before = content(folder)
    answer = qfm(*line.replace("RECIPES", str(RECIPES)).split())
    assert answer.code == 2, answer.err
    assert sentence in answer.err
    assert answer.err.startswith("qfm: ")
    assert len(answer.err.splitlines()) == 1
    assert content(folder) == before


REPLACED = [
    "evaluate labels.csv --scores labels.csv --column mos --out figures.csv",
    "compare labels.csv others.csv --labels labels.csv --column mos --out apart.csv",
    "explain ph.png -m model --out map.png",
    "report a.csv --out page.html",
    "gate ph.png --min 1 -m model --json gate.json --junit gate.xml",
    "score photos -m model --out t.csv",
    "score photos -m model --out t.parquet",
    "cull photos -m model --out t.jsonl",
    "data split labels.csv --out folds --leaks skip --folds 1",
    "export --to hub-folder -m model --out hub",
]


@pytest.mark.parametrize("line", REPLACED)
def test_what_the_same_command_wrote_is_replaced(qfm, folder, line):
    (folder / "hub").mkdir()
    (folder / "hub" / ".gitattributes").touch()  # as in a new hub repository
    (folder / "t.csv").touch()  # as made by `mktemp`
    rows = "".join(f"image{number}.jpg,{number}\n" for number in range(20))
    (folder / "labels.csv").write_text(f"name,mos\n{rows}")
    (folder / "others.csv").write_text(f"name,mos\n{rows.replace(',9', ',5')}")
    for _ in range(2):
        answer = qfm(*line.split())
        assert answer.code == 0, answer.err
