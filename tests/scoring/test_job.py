import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring import job_config
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.job_folder import folder_of
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.scoring.row import write_rows
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows

# Loads the model once; then "go OUT" or "go OUT START STOP" (of the files) runs a job in a new
# process, and "wait PID" waits for it.
PROGRAM = """
import os, sys, torch
from pathlib import Path
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring import job_config
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.scorer import Scorer
torch.set_num_threads(1)
job_config.SHARD = 3
model, logs, *files = sys.argv[1:]
loaded = load_model(model)
print("loaded", flush=True)
for line in sys.stdin:
    verb, what, *only = line.split()
    if verb == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(int(what), 0)[1]), flush=True)
        continue
    process = os.fork()
    if process:
        print(process, flush=True)
        continue
    try:
        some = files[slice(*map(int, only))] if only else files
        job = Job(Path(what), some, Scorer(loaded, batch_size=4, readers=1), resume=True)
        scored = [row.path for row in job.run()]
        job.finish()
        Path(logs, str(os.getpid())).write_text("\\n".join(scored))
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
"""


class Launcher:
    """Runs jobs in separate processes."""

    def __init__(self, model, logs, files):
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(model), str(logs), *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout.readline() == "loaded\n"

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def go(self, out, *only):
        return self.ask(" ".join(map(str, ("go", out, *only))))

    def wait(self, number):
        return self.ask(f"wait {number}")

    def scored(self, number):
        return (self.logs / str(number)).read_text().split()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(job_config, "SHARD", 3)


@pytest.fixture(scope="module")
def scorer(tiny_model_folder):
    return Scorer(load_model(tiny_model_folder), batch_size=4, readers=2)


@pytest.fixture(scope="module")
def files(photo_folder, tmp_path_factory):
    """Sixty names for twelve photos, and some that cannot be scored."""
    folder = tmp_path_factory.mktemp("many")
    photos = sorted(photo_folder.iterdir())
    for number in range(60):
        os.link(photos[number % 12], folder / f"{number:02d}{photos[number % 12].suffix}")
    (folder / "31b.jpg").write_text("no image")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def launcher(tiny_model_folder, files, tmp_path_factory):
    running = Launcher(tiny_model_folder, tmp_path_factory.mktemp("logs"), files)
    yield running
    running.process.kill()
    running.process.communicate()


def done(out, files, scorer, *, resume=False):
    job = Job(out, files, scorer, resume=resume)
    rows = list(job.run())
    return rows, job.finish()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_job_gives_the_rows_of_the_engine(small_parts, scorer, files, tmp_path, suffix):
    out = tmp_path / f"scores{suffix}"
    rows, outcome = done(out, files[:13], scorer)
    assert rows == read_rows(out)
    assert [row.path for row in rows] == files[:13]
    alone = {row.path: row for row in Scorer(scorer.runtime).score_paths(files[:13])}
    for row in rows:
        assert row.score == pytest.approx(alone[row.path].score, abs=1e-3)
        assert row.sha256 == alone[row.path].sha256
    assert (outcome.rows, outcome.errors) == (13, 0)
    assert list(tmp_path.iterdir()) == [out]


def test_what_was_scored_is_kept_and_only_the_rest_is_scored(
    small_parts, scorer, files, tmp_path, monkeypatch
):
    whole, ended = tmp_path / "whole.csv", tmp_path / "ended.csv"
    done(whole, files, scorer)
    job = Job(ended, files, scorer, resume=False)
    coming = job.run()
    kept = [next(coming) for _ in range(7)]
    coming.close()
    job.close()
    assert not ended.exists()
    with pytest.raises(QFMError, match=r"There is an unfinished job .*ended.csv.job"):
        Job(ended, files, scorer, resume=False)
    job = Job(ended, files, scorer, resume=True)
    assert job.kept == 9  # whole shards
    rest = list(job.run())
    assert {row.path for row in kept}.isdisjoint(row.path for row in rest[2:])
    assert len(rest) == len(files) - 9 == len(files) - job.kept
    outcome = job.finish()
    assert (outcome.rows, outcome.errors) == (61, 1)
    assert "31b.jpg" in outcome.first_errors[0]
    assert read_rows(ended) == read_rows(whole)


def test_a_finished_table_is_continued_by_new_files_only(small_parts, scorer, files, tmp_path):
    out = tmp_path / "t.parquet"
    first, _ = done(out, files[:7], scorer)
    again, outcome = done(out, files[:7], scorer, resume=True)
    assert (again, outcome.rows) == ([], 7)
    more, outcome = done(out, files[3:12], scorer, resume=True)
    assert [row.path for row in more] == files[7:12]
    assert read_rows(out) == first + more  # files that are not named keep their rows
    anew, _ = done(out, files[:2], scorer)  # without --resume the table is rewritten
    assert read_rows(out) == anew
    assert [(row.path, row.sha256) for row in anew] == [(r.path, r.sha256) for r in first[:2]]
    scores = [row.score for row in first[:2]]  # from a shard of three: another batch
    assert [row.score for row in anew] == pytest.approx(scores, abs=1e-3)


def test_a_finished_table_of_another_model_is_not_continued(
    build_model, scorer, files, tmp_path, small_parts
):
    out = tmp_path / "t.csv"
    done(out, files[:4], scorer)
    before = out.read_bytes()
    with pytest.raises(QFMError, match=r"has rows with weights = \w+, not \w*: write to another"):
        Job(out, files[:5], Scorer(build_model(seed=1)), resume=True)
    assert out.read_bytes() == before
    assert not folder_of(out).exists()


def test_files_that_come_later_are_scored_after_the_others(small_parts, scorer, files, tmp_path):
    out = tmp_path / "t.csv"
    job = Job(out, files[4:8], scorer, resume=False)
    job.close()
    done(out, files[:8], scorer, resume=True)
    assert [row.path for row in read_rows(out)] == files[4:8] + files[:4]


def test_a_job_of_another_model_or_setting_is_not_gone_on_with(
    build_model, scorer, files, tmp_path
):
    out = tmp_path / "t.csv"
    Job(out, files[:2], scorer, resume=False).close()
    other = Scorer(build_model(seed=1))
    with pytest.raises(QFMError, match=r"was started with weights \w+, not"):
        Job(out, files[:2], other, resume=True)
    strict = Scorer(scorer.runtime, batch_size=4, max_pixels=99)
    with pytest.raises(QFMError, match=r"was started with --max-megapixels 250, not 9\.9e-05"):
        Job(out, files[:2], strict, resume=True)
    explaining = Scorer(scorer.runtime, batch_size=4, causes=True)
    with pytest.raises(QFMError, match=r"was started without --causes \(or --report\): continue"):
        Job(out, files[:2], explaining, resume=True)
    for content in ("{", "1"):
        (folder_of(out) / "job.json").write_text(content)
        with pytest.raises(QFMError, match="is not a job of this version"):
            Job(out, files[:2], scorer, resume=True)
    (folder_of(out) / "job.json").unlink()
    with pytest.raises(QFMError, match="is not a job of this version"):
        Job(out, files[:2], scorer, resume=True)
    (folder_of(out) / "lock").unlink()
    with pytest.raises(QFMError, match="is not a job of this version"):
        Job(out, files[:2], scorer, resume=True)


def test_a_kill_while_the_folder_goes_leaves_a_finished_table(
    small_parts, scorer, files, tmp_path, monkeypatch
):
    out = tmp_path / "t.csv"

    class Killed(BaseException):
        pass

    def killed(folder, **_):
        if Path(folder).exists():
            raise Killed

    job = Job(out, files[:7], scorer, resume=False)
    rows = list(job.run())
    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(Killed):
        job.finish()
    monkeypatch.undo()
    job.close()
    assert not job.folder.exists()
    again, outcome = done(out, files[:7], scorer, resume=True)
    assert (again, outcome.rows) == ([], 7)
    assert read_rows(out) == rows
    assert list(tmp_path.iterdir()) == [out]


def test_a_job_that_is_removed_meanwhile_says_so(small_parts, scorer, files, tmp_path):
    job = Job(tmp_path / "t.csv", files, scorer, resume=False)
    coming = job.run()
    next(coming)
    shutil.rmtree(job.folder)
    with pytest.raises(QFMError, match="was removed while it was running"):
        list(coming)
    job.close()


def test_a_full_disk_loses_nothing(small_parts, scorer, files, tmp_path):
    """The system refuses to write more than some bytes to a file, as it does on a full disk."""
    out = tmp_path / "t.csv"
    job = Job(out, files, scorer, resume=False)
    rows = list(job.run())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(TableError, match="cannot be written: File too large"):
            job.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    job.close()
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv.job"]
    again, outcome = done(out, files, scorer, resume=True)
    assert (again, outcome.rows) == ([], 61)
    assert read_rows(out) == rows


def test_a_part_that_cannot_be_written_loses_no_other(small_parts, scorer, files, tmp_path):
    out = tmp_path / "t.csv"
    job = Job(out, files, scorer, resume=False)
    coming = job.run()
    next(coming)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(TableError, match="The scores so far are kept: continue with --resume"):
            list(coming)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    job.close()
    job = Job(out, files, scorer, resume=True)
    assert job.kept == 3
    job.close()


def test_killed_at_random_moments_it_comes_to_the_same_table(files, tmp_path, launcher):
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    began = time.monotonic()
    assert launcher.wait(launcher.go(whole)) == 0
    seconds = time.monotonic() - began
    draw = random.Random(5)
    kills, rounds = 0, 0
    while kills < 10:
        process = launcher.go(killed)
        time.sleep(draw.uniform(0, seconds * 0.4))
        os.kill(process, signal.SIGKILL)
        if launcher.wait(process) == -signal.SIGKILL:
            kills += 1
        if killed.exists():  # it finished before the kill: another round
            assert read_rows(killed) == read_rows(whole)
            shutil.rmtree(folder_of(killed), ignore_errors=True)
            killed.unlink()
            rounds += 1
    last = launcher.go(killed)
    assert launcher.wait(last) == 0
    assert len(launcher.scored(last)) < len(files) or rounds
    assert read_rows(killed) == read_rows(whole)  # equal to the bit, except seconds
    assert not folder_of(killed).exists()


def test_two_processes_share_a_job_and_score_no_file_twice(files, tmp_path, launcher):
    out, alone = tmp_path / "shared.csv", tmp_path / "alone.csv"
    single, *both = launcher.go(alone), launcher.go(out), launcher.go(out)
    assert [launcher.wait(process) for process in (single, *both)] == [0, 0, 0]
    assert sorted(launcher.scored(both[0]) + launcher.scored(both[1])) == sorted(files)
    assert read_rows(out) == read_rows(alone)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.csv", "shared.csv"]


def test_files_that_another_process_adds_at_the_end_are_in_the_table(
    small_parts, scorer, files, tmp_path, launcher
):
    out = tmp_path / "t.csv"
    job = Job(out, files[:4], scorer, resume=False)
    list(job.run())
    other = launcher.go(out, 4, 25)
    while len((job.folder / "plan.jsonl").read_text().splitlines()) == 2:
        time.sleep(0.001)
    assert job.finish().rows == 25
    assert launcher.wait(other) == 0
    assert [row.path for row in read_rows(out)] == files[:25]


def test_two_processes_with_different_files_share_a_job(files, tmp_path, launcher):
    out = tmp_path / "t.parquet"
    first = launcher.go(out, 0, 30)
    while not out.exists() and not list(Path(f"{out}.job").glob("shards/*.jsonl")):
        time.sleep(0.001)
    os.kill(first, signal.SIGSTOP)
    second = launcher.go(out, 20, 61)
    time.sleep(1)
    os.kill(first, signal.SIGCONT)
    assert [launcher.wait(process) for process in (first, second)] == [0, 0]
    assert [row.path for row in read_rows(out)] == files
    scored = launcher.scored(first) + launcher.scored(second)
    assert len(scored) == len(set(scored))


def test_a_job_that_was_finished_without_its_files_says_so(small_parts, scorer, files, tmp_path):
    job = Job(tmp_path / "t.csv", files[:4], scorer, resume=False)
    rows = list(job.run())
    write_rows(rows[:2], job.out)
    shutil.rmtree(job.folder)
    with pytest.raises(QFMError, match=r"was finished without 2 files: continue with --resume"):
        job.finish()
    job.close()


def test_a_job_that_is_running_is_told_from_one_that_ended(files, tmp_path, launcher, scorer):
    out = tmp_path / "t.csv"
    process = launcher.go(out)
    while not list(Path(f"{out}.job").glob("shards/*.jsonl")):
        time.sleep(0.001)
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(QFMError, match=r"t.csv.job is running: join it with --resume"):
            Job(out, files, scorer, resume=False)
    finally:
        os.kill(process, signal.SIGKILL)
    launcher.wait(process)
    with pytest.raises(QFMError, match="There is an unfinished job"):
        Job(out, files, scorer, resume=False)


def test_what_a_killed_process_had_taken_the_other_takes_over(files, tmp_path, launcher):
    out = tmp_path / "t.csv"
    first, second = launcher.go(out), launcher.go(out)
    while not out.exists() and not list(Path(f"{out}.job").glob("shards/*.jsonl")):
        time.sleep(0.01)
    os.kill(first, signal.SIGKILL)
    launcher.wait(first)
    assert launcher.wait(second) == 0
    scored = launcher.scored(second)
    assert len(scored) == len(set(scored))
    assert [row.path for row in read_rows(out)] == files


def test_a_part_that_another_process_finished_meanwhile_is_not_scored_again(
    small_parts, scorer, files, tmp_path, monkeypatch
):
    """Between the check for its rows and the lock, another process writes them and releases it."""
    whole, out = tmp_path / "whole.csv", tmp_path / "t.csv"
    expected, _ = done(whole, files[:9], scorer)
    job = Job(out, files[:9], scorer, resume=False)
    acquire = job.lock.try_acquire

    def late(number):
        if number == 1 and not job._shard(1).exists():
            write_rows(expected[3:6], job._shard(1))
        return acquire(number)

    monkeypatch.setattr(job.lock, "try_acquire", late)
    assert [row.path for row in job.run()] == files[:3] + files[6:9]
    job.finish()
    assert read_rows(out) == expected


def test_a_job_that_another_process_finished_before_the_lock_is_begun_anew(
    small_parts, scorer, files, tmp_path, monkeypatch
):
    out = tmp_path / "t.csv"
    first = Job(out, files[:5], scorer, resume=False)
    expected = list(first.run())
    first.close()
    held, finished = LockFile.held, []

    @contextmanager
    def late(lock, number):
        if not finished:  # the job's owner joins the table and removes the folder
            finished.append(True)
            write_rows(expected, out)
            shutil.rmtree(folder_of(out))
        with held(lock, number):
            yield

    monkeypatch.setattr(LockFile, "held", late)
    job = Job(out, files[:5], scorer, resume=True)
    assert (job.kept, job.left) == (5, 0)
    assert list(job.run()) == []
    job.finish()
    assert read_rows(out) == expected


def test_plan_and_settings_can_be_read_by_people(scorer, files, tmp_path, small_parts):
    job = Job(tmp_path / "t.csv", files[:4], scorer, resume=False)
    lines = (job.folder / "plan.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [files[:3], files[3:4]]
    assert json.loads((job.folder / "job.json").read_text())["model"] == "tiny-test_vit"
    job.close()


def test_a_table_behind_a_link_is_written_there_with_its_permissions(scorer, files, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.csv"
    real.write_text("old")
    real.chmod(0o640)
    out = tmp_path / "t.csv"
    out.symlink_to(real)
    rows, _ = done(out, files[:3], scorer, resume=False)
    assert out.is_symlink()
    assert [row.path for row in read_rows(real)] == files[:3]
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(rows) == 3


def test_a_pipe_is_no_table(scorer, files, tmp_path):
    out = tmp_path / "t.csv"
    os.mkfifo(out)
    with pytest.raises(TableError, match="is a pipe or a device"):
        Job(out, files, scorer, resume=False)
    assert out.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_the_folder_of_a_job_has_the_permissions_that_the_umask_says(scorer, files, tmp_path, mask):
    before = os.umask(mask)
    try:
        job = Job(tmp_path / "t.csv", files[:3], scorer, resume=False)
        list(job.run())
        modes = {path.stat().st_mode & 0o777 for path in [job.folder, *job.folder.rglob("*")]}
        job.close()
    finally:
        os.umask(before)
    assert modes == {0o777 & ~mask, 0o666 & ~mask}
