"""Culling as a job, with the default model: moments, ranks, duplicates, interruptions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from qfm_iqm.culling.comparison import compared, rereading
from qfm_iqm.culling.job import CullJob
from qfm_iqm.culling.measures import NAMES
from qfm_iqm.culling.row import CULL_SCHEMA, CullRow
from qfm_iqm.culling.sights import SightScorer
from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.image.decode_pool import read_ahead
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.row import write_rows
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows_of


@pytest.fixture(scope="module")
def runtime():
    return load_runtime("default", "onnx")


@pytest.fixture
def scorer(runtime):
    return SightScorer(runtime, readers=1)


@pytest.fixture
def files(library):
    return [str(path) for path in sorted(library.iterdir())]


def culled(out, files, scorer, **options):
    job = CullJob(out, files, scorer, resume=options.pop("resume", False), **options)
    try:
        list(job.run())
        job.finish()
    finally:
        job.close()
    return read_rows_of(out, CullRow, CULL_SCHEMA)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_moments_ranks_and_duplicates(tmp_path, files, scorer, kind):
    out = tmp_path / f"cull.{kind}"
    rows = culled(out, files, scorer)
    assert len(rows) == len(files)
    names = {}
    for row in rows:
        names.setdefault(row.moment, []).append(Path(row.path).name)
    assert {frozenset(group) for moment, group in names.items() if moment is not None} == {
        frozenset({"a0.jpg", "a1.jpg", "a2.jpg", "copy of a1.jpg"}),
        frozenset({"b0.jpg", "b1.jpg", "b2.jpg"}),
        frozenset({"c.jpg"}),
        frozenset({"z.jpg"}),
    }
    of = {Path(row.path).name: row for row in rows}
    assert {name for name, row in of.items() if row.keep} == {"a1.jpg", "b2.jpg", "c.jpg", "z.jpg"}
    assert "sharper" in of["b2.jpg"].reason
    assert of["c.jpg"].reason == "the only photo of its moment"
    copy = of["copy of a1.jpg"]
    assert (copy.duplicate, Path(copy.duplicate_of).name) == ("exact", "a1.jpg")
    assert copy.reason == "the same file as a1.jpg"
    assert of["a0.jpg"].taken == "2024-05-01T12:00:10"
    assert of["broken.jpg"].status == "error"
    assert of["broken.jpg"].moment is of["broken.jpg"].rating is None
    ranked = sorted(
        (row for row in rows if row.moment == of["b0.jpg"].moment), key=lambda r: r.rank
    )
    assert [row.rank for row in ranked] == [1, 2, 3]
    ratings = [row.rating for row in sorted(rows[:-1], key=lambda row: row.score)]
    assert ratings == sorted(ratings)
    assert set(ratings) == {1, 2, 3, 4, 5}
    assert not (tmp_path / f"cull.{kind}.job").exists()


def test_scores_are_those_of_qfm_score(tmp_path, files, runtime, scorer):
    theirs = {row.path: row for row in Scorer(runtime, readers=1).score_paths(files)}
    for row in culled(tmp_path / "cull.csv", files, scorer):
        assert row.score == theirs[row.path].score
        assert row.sha256 == theirs[row.path].sha256


def test_an_interrupted_comparison_goes_on(tmp_path, files, scorer):
    whole = culled(tmp_path / "whole.jsonl", files, scorer)
    out = tmp_path / "cull.jsonl"

    def stopped(moments, _):
        yield next(moments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        culled(out, files, scorer, progress=stopped)
    record = out.with_name("cull.jsonl.job") / "compared.jsonl"
    assert len(record.read_text().splitlines()) == 1
    with record.open("ab") as file:
        file.write(b'1\n\0\xff\n["torn')
    with pytest.raises(QFMError, match="--resume"):
        culled(out, files, scorer)
    assert culled(out, files, scorer, resume=True) == whole


@pytest.fixture
def photos(library, tmp_path):
    """A copy of the library, without the file that is not a photo."""
    folder = tmp_path / "photos"
    shutil.copytree(library, folder)
    (folder / "broken.jpg").unlink()
    return folder


def test_a_complete_table_is_made_again_without_reading_a_photo(tmp_path, photos, scorer):
    out = tmp_path / "cull.csv"
    files = sorted(map(str, photos.iterdir()))
    whole = culled(out, files, scorer)
    apart = culled(tmp_path / "apart.csv", files, scorer, gap=0)
    assert [row.moment for row in apart] != [row.moment for row in whole]
    assert culled(out, files, scorer, resume=True, gap=0) == apart
    photos.rename(tmp_path / "elsewhere")  # any read would now be an error
    assert culled(out, files, scorer, resume=True) == whole


def test_new_photos_are_all_that_is_read_of_a_table_that_grows(tmp_path, photos, scorer):
    out = tmp_path / "cull.csv"
    files = sorted(map(str, photos.iterdir()))
    whole = culled(tmp_path / "whole.csv", files, scorer)
    culled(out, [file for file in files if not file.endswith("c.jpg")], scorer)
    for path in photos.glob("[ab]*.jpg"):  # moments that do not change
        path.write_text("no photo")
    assert culled(out, files, scorer, resume=True) == whole


@pytest.fixture(scope="module")
def gone(library, runtime, tmp_path_factory):
    """Paths of photos that no longer exist, and the complete table of them."""
    folder = tmp_path_factory.mktemp("gone")
    for name in ("b0.jpg", "b2.jpg"):
        shutil.copy(library / name, folder / name)
    files = sorted(map(str, folder.iterdir()))
    culled(folder / "cull.csv", files, SightScorer(runtime, readers=1))
    for file in files:
        Path(file).unlink()
    return files, folder


@pytest.mark.parametrize(
    "change", ["none", "without resume", "no folder", "damaged", "another version"]
)
def test_all_is_read_again_where_nothing_holds(tmp_path, gone, scorer, change):
    files, folder = gone
    out, kept = tmp_path / "cull.csv", tmp_path / "cull.csv.resume"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    if change == "no folder":
        shutil.rmtree(kept)
    elif change == "damaged":
        (kept / "sights.jsonl").write_text("{")
    elif change == "another version":
        facts = json.loads((kept / "job.json").read_text()) | {"version": "0.0.1"}
        (kept / "job.json").write_text(json.dumps(facts))
    rows = culled(out, files, scorer, resume=change != "without resume")
    assert {row.status for row in rows} == {"ok" if change == "none" else "error"}


def test_a_job_of_scoring_is_not_taken_for_one_of_culling(tmp_path, files, runtime, scorer):
    out = tmp_path / "scores.csv"
    Job(out, files, Scorer(runtime, readers=1), resume=False).close()
    with pytest.raises(QFMError, match="started by another command or version"):
        CullJob(out, files, scorer, resume=True)


@pytest.mark.parametrize("change", ["none", "no folder"])
def test_photos_that_are_not_named_stay_while_they_exist(tmp_path, photos, scorer, change):
    out = tmp_path / "cull.csv"
    files = sorted(map(str, photos.iterdir()))
    *first, b0, b1, b2, c, z = files
    expected = culled(tmp_path / "whole.csv", [*first, b0, b2, c, z], scorer)
    culled(out, [*first, b0, b1, c, z], scorer)
    Path(b1).unlink()
    if change == "no folder":
        shutil.rmtree(tmp_path / "cull.csv.resume")
    job = CullJob(out, [b2], scorer, resume=True)
    list(job.run())
    job.finish()
    assert job.gone == [b1]
    found = {row.path: row for row in job.rows}
    assert found.keys() == {row.path for row in expected}
    for row in expected:
        same = found[row.path]
        assert (same.moment, same.rank, same.score) == (row.moment, row.rank, row.score)


def test_a_table_of_scores_is_not_made_one_of_culling(tmp_path, files, runtime, scorer):
    out = tmp_path / "scores.csv"
    write_rows(Scorer(runtime, readers=1).score_paths(files[:2]), out)
    before = out.read_bytes()
    with pytest.raises(TableError, match="it lacks the column 'moment'"):
        CullJob(out, files, scorer, resume=True)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_photo_that_is_gone_is_ranked_by_its_score(tmp_path, library, scorer):
    folder = tmp_path / "photos"
    shutil.copytree(library, folder)
    sights = list(scorer.score_paths(sorted(map(str, folder.glob("b*.jpg")))))
    sights = [sight for sight in sights if sight.score is not None]
    (folder / "b1.jpg").unlink()
    (folder / "b0.jpg").write_bytes((folder / "a0.jpg").read_bytes())
    (found,) = compared([sights], rereading(scorer))
    assert found.shape == (3, len(NAMES))
    known = np.isfinite(found).all(1)
    assert known.tolist() == [Path(sight.path).name == "b2.jpg" for sight in sights]


def test_a_photo_that_is_back_is_measured(tmp_path, library, scorer):
    folder = tmp_path / "photos"
    shutil.copytree(library, folder)
    sights = list(scorer.score_paths([str(folder / name) for name in ("b1.jpg", "b2.jpg")]))
    record = tmp_path / "compared.jsonl"
    (whole,) = compared([sights], rereading(scorer))
    (folder / "b1.jpg").rename(folder / "away")
    (torn,) = compared([sights], rereading(scorer), record)
    assert np.isfinite(torn).all(1).tolist() == [False, True]
    (folder / "away").rename(folder / "b1.jpg")
    (found,) = compared([sights], rereading(scorer), record)
    assert found.tolist() == whole.tolist()


def test_one_photo_at_a_time_is_in_memory(library, scorer, monkeypatch):
    alive = 0

    def counted(*arguments, **options):
        nonlocal alive
        for reading in read_ahead(*arguments, **options):
            alive += 1
            assert alive == 1
            yield reading
            alive -= 1

    monkeypatch.setattr("qfm_iqm.culling.comparison.read_ahead", counted)
    sights = list(scorer.score_paths(sorted(map(str, library.glob("a*.jpg")))))
    list(compared([sights], rereading(scorer)))


def test_what_is_kept_of_a_photo_is_small(library, scorer):
    (sight,) = scorer.score_paths([str(library / "c.jpg")])
    assert len(json.dumps(vars(sight))) < 3000
    assert set(CULL_SCHEMA) > {"path", "moment", "rank", "keep", "reason", "score"}
