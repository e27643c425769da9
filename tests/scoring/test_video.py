"""Videos through the engine and through jobs."""

import math

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.image.decode_pool import read_in_processes
from qfm_iqm.image.decode_threads import read_in_threads
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.job_folder import folder_of
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows
from qfm_iqm.scoring.video import FrameScore, read_frames, video_row, write_frames

from ..image.clips import clip
from ..image.samples import PHOTO

SHARP = np.asarray(Image.fromarray(PHOTO).resize((320, 320)))
SOFT = np.asarray(Image.fromarray(SHARP).filter(ImageFilter.GaussianBlur(5)))
POLICY = ReadingPolicy(Preprocessing(crop=64, shorter_side=64), every=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    (folder / "a.mp4").write_bytes(clip([SHARP] * 10 + [SOFT] * 10 + [SHARP] * 5))
    (folder / "b.mkv").write_bytes(clip([SOFT] * 12, container="matroska"))
    broken = clip([SHARP] * 20, container="avi")
    (folder / "broken.avi").write_bytes(broken[: len(broken) * 3 // 4])
    Image.fromarray(SHARP).save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def files(folder):
    names = ("photo.png", "a.mp4", "gone.mp4", "b.mkv", "broken.avi", "photo.png")
    return [str(folder / name) for name in names]


def scored(files, **options):
    frames = []
    scorer = Scorer("default", readers=2, frames=frames.append, **options)
    return list(scorer.score_paths(files)), frames


def test_a_video_is_a_row_and_its_frames_score_as_photos(files):
    (photo, video, gone, soft, broken, _), frames = scored(files)
    assert [frame.time for frame in frames] == [0, 1, 2, 0, 1]
    assert [frame.path for frame in frames] == [files[1]] * 3 + [files[3]] * 2
    scores = [frame.score for frame in frames[:3]]
    assert scores[0] == pytest.approx(photo.score, abs=3)  # tolerance for the codec
    assert len(set(scores)) > 1
    assert video.frames == 3
    assert video.score == pytest.approx(np.mean(scores), abs=1e-5)
    assert video.p10 == pytest.approx(np.percentile(scores, 10), abs=1e-5)
    assert (video.worst, video.worst_at) == (min(scores), np.argmin(scores))
    assert (video.width, video.height, len(video.sha256)) == (320, 320, 64)
    for row in (video, soft):
        assert row.percentile is row.mos_low is row.mos_high is row.crop_std is None
    assert photo.frames is photo.p10 is photo.worst is photo.worst_at is None
    assert gone.error.endswith("there is no such file")
    assert broken.error.endswith("its data end too early (a truncated file)")
    assert broken.frames is broken.score is None


def test_processes_give_what_threads_give(files):
    assert scored(files, processes=True) == scored(files)


def test_how_often_and_what_is_passed_over(files):
    (row, other), frames = scored([files[4], files[1]], every=0.5, allow_truncated=True)
    assert row.status == "ok"
    assert [frame.time for frame in frames[row.frames :]] == [0, 0.5, 1, 1.5, 2]
    seconds = [
        np.mean([f.score for f in frames[row.frames :] if math.floor(f.time) == s])
        for s in range(3)
    ]
    assert other.worst == pytest.approx(min(seconds), abs=1e-5)
    assert (other.worst_at, other.frames) == (np.argmin(seconds), 5)
    with pytest.raises(ValueError, match="every must be a finite number above 0"):
        Scorer("default", every=0)


def test_without_an_interval_videos_are_refused(files):
    (row,), frames = scored([files[1]], every=None)
    assert "it is a video, which qfm score and qfm gate score by its frames" in row.error
    assert not frames


@pytest.mark.parametrize("read", [read_in_threads, read_in_processes])
def test_frames_come_in_order_within_little_memory(folder, read):
    """More videos than readers, images between them, and a budget that holds none of them."""
    paths = [str(folder / name) for name in ("a.mp4", "photo.png", "b.mkv", "a.mp4", "b.mkv")] * 2
    found = list(read([*paths, None], POLICY, 2, 8 << 20))
    assert found[-1] is None
    order = [(reading.path, reading.time) for reading in found[:-1]]
    a = [(paths[0], round(n / 10, 1)) for n in range(25)] + [(paths[0], None)]
    b = [(paths[2], round(n / 10, 1)) for n in range(12)] + [(paths[2], None)]
    assert order == [*a, (paths[1], None), *b, *a, *b] * 2
    assert not any(reading.error for reading in found[:-1])


def test_a_video_whose_process_ends_has_an_error_and_the_others_go_on(folder):
    paths = [str(folder / name) for name in ("a.mp4", "photo.png", "b.mkv")]
    coming = read_in_processes(paths, POLICY, 1, 1 << 30)
    first = next(coming)
    assert first.time == 0
    for child in psutil.Process().children():
        if "decode_worker" in " ".join(child.cmdline()):
            child.kill()
    rest = list(coming)
    ends = [reading for reading in rest if reading.time is None]
    assert "the process that read it died" in ends[0].error
    assert [reading.error for reading in ends[1:]] == ["", ""]


def test_a_job_keeps_the_frames_of_what_it_has_scored(files, tmp_path, monkeypatch):
    monkeypatch.setattr("qfm_iqm.scoring.job_config.SHARD", 2)
    out, table = tmp_path / "scores.csv", tmp_path / "frames.csv"
    rows, frames = scored(files[:4])

    def job(resume, **options):
        return Job(out, files[:4], Scorer("default", readers=2, **options), resume=resume)

    first = job(False)
    running = first.run()
    next(running)
    running.close()
    first.close()
    with pytest.raises(QFMError, match=r"was started with --every 1, not 0\.5"):
        job(True, every=0.5)
    second = job(True)
    assert second.kept == 2
    list(second.run())
    second.finish(table)
    assert read_rows(out) == rows
    assert read_frames(table) == frames
    assert not folder_of(out).exists()
    third = job(True)  # videos of a finished table are scored again for their frames
    assert (third.kept, third.left) == (1, 3)
    list(third.run())
    third.finish(table)
    assert read_frames(table) == frames


scores = st.floats(0, 100).map(lambda value: round(value, 4))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), scores), min_size=1, max_size=40), st.booleans())
def test_the_worst_second_is_that_of_a_slow_search(pairs, better):
    frames = [FrameScore("a", time, score) for time, score in sorted(pairs)]
    row = video_row(ScoreRow("a"), frames, higher_is_better=better)
    means = {
        second: sum(f.score for f in frames if second <= f.time < second + 1)
        / sum(second <= f.time < second + 1 for f in frames)
        for second in range(21)
        if any(second <= f.time < second + 1 for f in frames)
    }
    assert row.worst == pytest.approx((min if better else max)(means.values()), abs=1e-5)
    assert means[int(row.worst_at)] == pytest.approx(row.worst, abs=1e-5)
    beyond = [
        f for f in frames if (f.score < row.p10 - 1e-5 if better else f.score > row.p10 + 1e-5)
    ]
    assert len(beyond) <= 0.1 * (len(frames) - 1) + 1  # interpolated between two frames


@pytest.mark.parametrize(
    ("flags", "said"), [([True, True, False], True), ([True, False], False), ([None], None)]
)
def test_a_video_is_out_of_distribution_if_most_frames_are(flags, said):
    frames = [FrameScore("a", 0.0, 50.0, flag) for flag in flags]
    assert video_row(ScoreRow("a"), frames, higher_is_better=True).out_of_distribution is said


def test_a_table_of_frames(tmp_path):
    no_text = b"caf\xe9.mp4".decode(errors="surrogateescape")
    frames = [FrameScore("=a,b.mp4", 0.0, 50.25, True), FrameScore(no_text, 1.5, 3.0)]
    write_frames(frames, tmp_path / "f.csv")
    assert read_frames(tmp_path / "f.csv") == frames
    (tmp_path / "other.csv").write_text("path,score\na,1\n")
    with pytest.raises(TableError, match="is not a table of frames"):
        read_frames(tmp_path / "other.csv")
    (tmp_path / "f.csv").write_text("path,time,score,out_of_distribution\na,1,2,x\n")
    with pytest.raises(TableError, match="has 'x' instead of True or False"):
        read_frames(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("cells", "column"), [("1,x", "score"), ("1,inf", "score"), ("nan,2", "time")]
)
def test_frames_have_finite_numbers(tmp_path, cells, column):
    (tmp_path / "f.csv").write_text(f"path,time,score\na,0,1\na,{cells}\n")
    with pytest.raises(TableError, match=f"of '{column}' is not a finite number \\(line 3"):
        read_frames(tmp_path / "f.csv")


def test_a_folder_of_photos_has_no_frames(tmp_path):
    write_frames([], tmp_path / "frames.csv")
    assert not list(tmp_path.iterdir())
