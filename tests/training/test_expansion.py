"""Pseudo-labels of unlabeled images: the teacher's scores, cached, never another teacher's."""

import csv
import io
import shutil

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.errors import TableError
from qfm_iqm.model.folder import load_model, save_model
from qfm_iqm.training import expansion
from qfm_iqm.training.expansion import UnlabeledPool, expand, find_pool
from qfm_iqm.training.reporting import Reporter

SILENT = Reporter(None)


@pytest.fixture(scope="module")
def teacher(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture
def folder(unlabeled_folder, tmp_path):
    """The unlabeled images, to be changed."""
    return shutil.copytree(unlabeled_folder, tmp_path / "unlabeled")


@pytest.fixture
def pool_of(rated_set):
    return lambda place: find_pool(place, rated_set)


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch):
    monkeypatch.setattr(expansion, "GROUP", 8)


@pytest.fixture
def scored(monkeypatch):
    """Lists the paths that a scorer was asked for."""
    asked = []
    real = expansion.Scorer.score_paths

    def score_paths(self, paths):
        asked.extend(paths)
        return real(self, paths)

    monkeypatch.setattr(expansion.Scorer, "score_paths", score_paths)
    return asked


# The pool


def test_a_folder_is_a_pool_of_all_images_below_it(pool_of, folder):
    (folder / "notes.txt").touch()
    pool = pool_of(folder)
    assert len(pool.names) == 20
    assert set(pool.names) == {str(p.relative_to(folder)) for p in folder.rglob("*.jpg")}
    assert pool.contents == pool.names
    assert pool.paths == tuple(folder / name for name in pool.names)


def test_a_table_is_a_pool_with_contents(pool_of, rated_set, tmp_path):
    table = tmp_path / "pool.csv"
    table.write_text("name,content\nscene1_level0.jpg,one\nscene2_level0.jpg,two\n")
    pool = pool_of(table)
    assert pool == UnlabeledPool(
        ("scene1_level0.jpg", "scene2_level0.jpg"),
        ("one", "two"),
        (rated_set / "scene1_level0.jpg", rated_set / "scene2_level0.jpg"),
    )
    assert pool.without({0}).contents == ("two",)


def test_a_table_beside_images_elsewhere(make_recipe, folder):
    (folder / "pool.csv").write_text("name\n" + sorted(p.name for p in folder.glob("*.jpg"))[0])
    recipe = make_recipe(
        distillation__unlabeled="pool.csv", distillation__root=str(folder), method__kind="qfm"
    )
    pool = find_pool(recipe.pool, recipe.pool_root)
    assert pool.paths == (folder / pool.names[0],)
    assert pool.paths[0].is_file()


def test_a_pool_without_images_is_refused(pool_of, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TableError, match="There is no image in"):
        pool_of(tmp_path)
    (tmp_path / "pool.csv").write_text("name\ngone.jpg\n")
    with pytest.raises(TableError, match=r"match no file .*gone\.jpg"):
        pool_of(tmp_path / "pool.csv")


# The pseudo-labels


def test_pseudo_labels_are_what_qfm_score_says(
    pool_of, folder, teacher, tiny_model_folder, tmp_path
):
    unlabeled = expand(pool_of(folder), teacher, tmp_path / "e.csv", SILENT)
    done = CliRunner().invoke(
        app,
        ["score", str(folder), "--model", str(tiny_model_folder), "-o", str(tmp_path / "s.csv")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    assert len(set(scores.values())) == 20
    # Within the engine's tolerance: 1e-5 of the labels' standard deviation of 10.
    assert {str(image.path): image.score for image in unlabeled} == pytest.approx(scores, abs=1e-4)
    assert [image.content for image in unlabeled] == list(pool_of(folder).contents)


def test_what_is_kept_is_not_computed_again(pool_of, folder, teacher, tmp_path, scored):
    cache = tmp_path / "e.csv"
    (folder / "unlabeled08.jpg").rename(folder / "=1+1.jpg")  # not a formula in a spreadsheet
    first = expand(pool_of(folder), teacher, cache, SILENT)
    assert len(scored) == 20
    content = cache.read_bytes()
    assert b'\n"\'=1+1.jpg",' in content
    assert expand(pool_of(folder), teacher, cache, SILENT) == first
    assert len(scored) == 20
    assert cache.read_bytes() == content
    # A smaller pool reuses its scores; a new image is scored with its group, and added.
    assert expand(pool_of(folder).without({3}), teacher, cache, SILENT) == first[:3] + first[4:]
    assert len(scored) == 20
    shutil.copy(folder / "unlabeled07.jpg", folder / "more" / "zz.jpg")
    more = expand(pool_of(folder), teacher, cache, SILENT)
    assert more[:20] == first
    assert len(scored) == 25
    assert cache.read_bytes().startswith(content)
    assert len(cache.read_bytes().splitlines()) == 23


def test_cut_off_anywhere_it_ends_with_the_same_bytes(pool_of, folder, teacher, tmp_path, scored):
    cache = tmp_path / "e.csv"
    pool = pool_of(folder)
    first = expand(pool, teacher, cache, SILENT)
    content = cache.read_bytes()
    rows = content.index(b"\n", content.index(b"\n") + 1) + 1  # start of the rows
    step = (len(content) - rows) // 9
    for cut in (0, 5, rows - 30, rows, rows + 3, *range(rows + step, len(content), step)):
        cache.write_bytes(content[:cut])
        scored.clear()
        assert expand(pool, teacher, cache, SILENT) == first, cut
        assert cache.read_bytes() == content, cut
        known = max(0, content[:cut].count(b"\n") - 2)
        assert len(scored) == 20 - known // 8 * 8
    assert not list(tmp_path.glob("*.partial"))


def test_labels_of_another_teacher_are_refused(pool_of, folder, build_model, teacher, tmp_path):
    cache = tmp_path / "e.csv"
    expand(pool_of(folder), teacher, cache, SILENT)
    content = cache.read_bytes()
    save_model(build_model(seed=1), tmp_path / "other")
    with pytest.raises(TableError, match=r"e\.csv are from another teacher: delete that file"):
        expand(pool_of(folder), load_model(tmp_path / "other"), cache, SILENT)
    assert cache.read_bytes() == content


def test_a_file_that_is_no_such_table_is_refused(pool_of, folder, teacher, tmp_path):
    (tmp_path / "e.csv").write_text("name,score\nunlabeled03.jpg,50\n")
    with pytest.raises(TableError, match="from another teacher"):
        expand(pool_of(folder), teacher, tmp_path / "e.csv", SILENT)


def test_an_image_changed_since_is_refused(pool_of, folder, teacher, tmp_path):
    cache = tmp_path / "e.csv"
    expand(pool_of(folder), teacher, cache, SILENT)
    changed = folder / "unlabeled05.jpg"
    Image.open(changed).rotate(180).save(changed, quality=92)
    with pytest.raises(
        TableError, match=r"1 images have changed since .*the first unlabeled05\.jpg"
    ):
        expand(pool_of(folder), teacher, cache, SILENT)


def test_unreadable_images_are_listed_and_left_out(pool_of, folder, teacher, tmp_path):
    (folder / "broken.jpg").write_bytes(b"no image")
    cache, pool = tmp_path / "e.csv", pool_of(folder)
    for _ in range(2):  # scored, and taken from the cache
        console = Console(file=io.StringIO(), width=80)
        unlabeled = expand(pool, teacher, cache, Reporter(console))
        assert len(unlabeled) == 20
        assert "broken.jpg" not in {image.path.name for image in unlabeled}
        assert "unlabeled image broken.jpg is left out: " in console.file.getvalue()
        assert f"1 of 21 unlabeled images cannot be read; all are listed in {cache}." in (
            " ".join(console.file.getvalue().split())
        )


def test_more_than_five_percent_unreadable_are_refused(pool_of, folder, teacher, tmp_path):
    for name in ("broken.jpg", "empty.png"):
        (folder / name).touch()
    sentence = r"2 of 22 unlabeled images cannot be read, the first broken\.jpg: at most 5%"
    with pytest.raises(TableError, match=sentence):
        expand(pool_of(folder), teacher, tmp_path / "e.csv", SILENT)


def test_any_file_name_is_kept(pool_of, folder, teacher, tmp_path):
    names = ["a\rb.jpg", "a\x0bb.jpg", "a\u2028b.jpg", "two\nlines.jpg", "'\",.jpg", "\udcff.jpg"]
    for name in names:
        shutil.copy(folder / "unlabeled01.jpg", folder / name)
    cache, pool = tmp_path / "e.csv", pool_of(folder)
    assert set(names) < set(pool.names)
    first = expand(pool, teacher, cache, SILENT)
    content = cache.read_bytes()
    assert expand(pool, teacher, cache, SILENT) == first
    assert cache.read_bytes() == content
