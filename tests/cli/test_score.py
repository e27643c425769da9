import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qfm_iqm.model.folder import load_model

HEADER = [
    "path", "sha256", "width", "height", "score", "crop_std", "percentile", "mos_low",
    "mos_high", "out_of_distribution", "frames", "p10", "worst", "worst_at", "cause",
    "second_cause", "blur",
    "noise", "compression", "exposure", "contrast", "color", "status", "error",
    "model", "weights", "runtime", "precision", "seconds",
]  # fmt: skip


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


class _Quiet(SimpleHTTPRequestHandler):
    """Serves the files of a folder."""

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def photos(photo_folder, tmp_path):
    """A folder of good, bad and strangely named files."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(photo_folder / "photo_00.jpg", folder / "a.jpg")
    shutil.copy(photo_folder / "photo_05.png", folder / "sub" / "space and\nline.png")
    shutil.copy(photo_folder / "photo_09.webp", folder / "sub" / "тень 影.webp")
    (folder / "broken.jpg").write_text("no image")
    (folder / "notes.txt").write_text("not meant")
    return folder


def test_csv_goes_into_a_pipe(qfm, photos, tiny_model_folder):
    answer = qfm("score", photos, "--model", tiny_model_folder)
    assert answer.code == 1  # one image could not be scored
    rows = rows_of(answer.out)
    assert list(rows[0]) == HEADER
    names = ["a.jpg", "broken.jpg", "sub/space and\nline.png", "sub/тень 影.webp"]
    assert [row["path"] for row in rows] == [f"{photos}/{name}" for name in names]
    assert [row["status"] for row in rows] == ["ok", "error", "ok", "ok"]
    model = load_model(tiny_model_folder)
    for row in rows:
        if row["status"] == "error":
            assert row["score"] == row["crop_std"] == row["width"] == row["height"] == ""
            assert row["error"]
            continue
        assert float(row["score"]) == pytest.approx(model.score(row["path"]).value, abs=2e-4)
        with Image.open(row["path"]) as image:
            assert (int(row["width"]), int(row["height"])) == image.size
        assert row["model"] == "tiny-test_vit"
        assert row["error"] == ""
    assert "Scored 3 images in" in answer.err
    assert "1 could not be scored, 1 other file skipped" in answer.err


def test_all_formats_hold_the_same(qfm, photos, tiny_model_folder, tmp_path):
    for kind in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"scores.{kind}"
        answer = qfm("score", photos, "-m", tiny_model_folder, "--out", out)
        assert answer.code == 1
        assert answer.out == ""
        assert str(out) in answer.err
        assert "broken.jpg" in answer.err

    def but_seconds(rows):
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    from_json = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    from_parquet = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    from_csv = rows_of((tmp_path / "scores.csv").read_bytes().decode())
    assert but_seconds(from_json) == but_seconds(from_parquet)
    as_text = [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in from_json
    ]
    assert but_seconds(from_csv) == but_seconds(as_text)
    again = rows_of(qfm("score", photos, "-m", tiny_model_folder).out)
    assert but_seconds(again) == but_seconds(from_csv)


def test_good_files_only_are_code_0(qfm, photo_folder, tiny_model_folder):
    answer = qfm("score", photo_folder, "-m", tiny_model_folder, "--batch-size", 3, "--readers", 1)
    assert answer.code == 0
    assert len(rows_of(answer.out)) == 12


def test_a_path_where_nothing_is_gives_a_row(qfm, tiny_model_folder, tmp_path):
    answer = qfm("score", tmp_path / "gone.jpg", "-m", tiny_model_folder)
    assert answer.code == 1
    (row,) = rows_of(answer.out)
    assert (row["path"], row["status"]) == (str(tmp_path / "gone.jpg"), "error")
    assert "gone.jpg" in row["error"]


def test_an_empty_path_is_refused(qfm, photo_folder, tiny_model_folder, tmp_path):
    out = tmp_path / "t.csv"
    answer = qfm("score", photo_folder, "", "-m", tiny_model_folder, "--out", out)
    assert answer.code == 2
    assert answer.err == "qfm: One of the paths is empty: name images or folders.\n"
    assert not list(tmp_path.iterdir())


def test_many_errors_are_summed_up(qfm, tiny_model_folder, tmp_path):
    gone = [tmp_path / f"{number}.jpg" for number in range(8)]
    answer = qfm("score", *gone, "-m", tiny_model_folder, "-o", tmp_path / "t.csv")
    assert answer.code == 1
    assert "... and 3 more, in " in answer.err
    assert len(rows_of((tmp_path / "t.csv").read_text())) == 8


def test_all_files(qfm, photos, tiny_model_folder):
    rows = rows_of(qfm("score", photos, "-m", tiny_model_folder, "--all-files").out)
    assert any(row["path"].endswith("notes.txt") for row in rows)
    only_text = photos / "texts"
    only_text.mkdir()
    (only_text / "x.txt").touch()
    answer = qfm("score", only_text, "-m", tiny_model_folder)
    assert answer.code == 2
    assert "There is no image in" in answer.err
    assert "see --all-files" in answer.err


def test_the_reading_policy_is_an_option(qfm, photo_folder, tiny_model_folder, tmp_path):
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((photo_folder / "photo_00.jpg").read_bytes()[:-100])
    assert qfm("score", cut, "-m", tiny_model_folder).code == 1
    assert qfm("score", cut, "-m", tiny_model_folder, "--allow-truncated").code == 0
    answer = qfm("score", photo_folder, "-m", tiny_model_folder, "--max-megapixels", 0.001)
    assert answer.code == 1
    assert {row["status"] for row in rows_of(answer.out)} == {"error"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "scores.txt"], r"must end in \.csv, \.jsonl or \.parquet"),
        (["--out", "folder.csv"], "it is a folder"),
        (["--out", "gone/scores.csv"], "there is no folder gone"),
        (["--resume"], "--resume continues a table"),
        (["--engine", "ray"], "--engine ray writes a table"),
        (["--runtime", "abacus"], "There is no runtime 'abacus'"),
        (["--precision", "int8"], "comes without an int8 network"),
        (["--list", "gone.txt"], "The list gone.txt cannot be read: No such file"),
        (["--model", "gone"], "There is no model 'gone'"),
        (["--model", "folder.csv"], "is not a model folder"),
        (["--device", "warp"], "The device 'warp' cannot be used"),
        (["--device", "meta"], "The device 'meta' cannot be used"),
    ],
)
def test_mistakes_are_refused_before_scoring(
    qfm, photo_folder, tiny_model_folder, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    Path("folder.csv").mkdir()

    def never(*_, **__):
        raise AssertionError("scored before the mistake was found")

    monkeypatch.setattr("qfm_iqm.image.load.read_resized", never)
    model = [] if "--model" in arguments else ["--model", tiny_model_folder]
    answer = qfm("score", photo_folder, *model, *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert re.match(f"qfm: .*{sentence}", answer.err)
    assert len(answer.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_an_unwritable_place_is_refused(
    qfm, photo_folder, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write all
    answer = qfm("score", photo_folder, "-m", tiny_model_folder, "-o", tmp_path / "t.csv")
    assert answer.code == 2
    assert "no permission" in answer.err


def test_lists_and_patterns(qfm, photos, tiny_model_folder, tmp_path, monkeypatch):
    names = tmp_path / "names.txt"
    names.write_bytes(os.fsencode(f"{photos}/a.jpg\n\n{photos}/sub\n"))
    rows = rows_of(qfm("score", "--list", names, "-m", tiny_model_folder).out)
    assert [Path(row["path"]).name for row in rows] == [
        "a.jpg",
        "space and\nline.png",
        "тень 影.webp",
    ]
    stdin = io.TextIOWrapper(io.BytesIO(os.fsencode(f"{photos}/sub/space and\nline.png\0")))
    monkeypatch.setattr("sys.stdin", stdin)
    (row,) = rows_of(qfm("score", "--list", "-", "-m", tiny_model_folder).out)
    assert row["path"].endswith("space and\nline.png")
    answer = qfm(
        "score", photos, "-m", tiny_model_folder, "--include", "*.jpg", "--include", "sub/*",
        "--exclude", "broken*", "--exclude", "*.webp",
    )  # fmt: skip
    assert answer.code == 0
    names = [Path(row["path"]).name for row in rows_of(answer.out)]
    assert names == ["a.jpg", "space and\nline.png"]


def test_lists_from_windows(qfm, photos, tiny_model_folder, tmp_path, monkeypatch):
    """A byte order mark is not part of a name, and UTF-16 is not read as single characters."""
    monkeypatch.chdir(tmp_path)
    names = ["photos/a.jpg", "photos/sub/тень 影.webp"]
    for encoding in ("utf-16", "utf-8-sig"):
        Path("list.txt").write_bytes("\r\n".join([*names, ""]).encode(encoding))
        answer = qfm("score", "--list", "list.txt", "-m", tiny_model_folder)
        assert [row["path"] for row in rows_of(answer.out)] == names
        assert answer.code == 0
    Path("list.txt").write_bytes("\r\n".join(names).encode("utf-16-le"))
    answer = qfm("score", "--list", "list.txt", "-m", tiny_model_folder)
    assert answer.code == 2
    assert "The list list.txt has null characters" in answer.err


@pytest.mark.parametrize("option", [("--include", "*.jpg"), ("--exclude", "*"), ("--all-files",)])
def test_what_chooses_in_folders_needs_a_folder(qfm, photos, tiny_model_folder, option):
    named = (photos / "a.jpg", "http://127.0.0.1:1/b")
    answer = qfm("score", *named, "-m", tiny_model_folder, *option)
    assert answer.code == 2
    assert f"{option[0]} has no effect where no folder is named" in answer.err
    assert qfm("score", photos, "-m", tiny_model_folder, *option).code in (0, 1, 2)


def test_every_url_is_a_row(qfm, photos, tiny_model_folder, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(photos / "a.jpg", photos / "no_ending")
    handler = partial(_Quiet, directory=photos)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        urls = [f"http://{host}/{path}" for path in ("a.jpg?size=2", "no_ending", "gone.png")]
        urls += ["http://127.0.0.1:1/dead.jpg", "http://nowhere.invalid/x"]
        named = (urls[0], photos / "a.jpg", *urls[1:])
        rows = rows_of(qfm("score", *named, "-m", tiny_model_folder).out)
        server.shutdown()
    local = rows.pop(1)
    assert [row["path"] for row in rows] == urls
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "error", "error"]
    assert {row["score"] for row in rows[:2]} == {local["score"]}
    assert [row["error"] for row in rows[2:]] == [
        f"cannot read '{urls[2]}': {host} answered 404 File not found",
        f"cannot read '{urls[3]}': 127.0.0.1:1 cannot be reached: Connection refused",
        f"cannot read '{urls[4]}': the host nowhere.invalid was not found",
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_names_that_look_like_formulas_keep_their_identity(
    qfm, photo_folder, tiny_model_folder, tmp_path, monkeypatch, suffix
):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.jpg", "+a.jpg", "-b.jpg", "@c.jpg", "\td.jpg", "'e.jpg", "f;=1.jpg"]
    for name, photo in zip(names, sorted(photo_folder.glob("*.jpg")) * 2, strict=False):
        shutil.copy(photo, name)
    Path("list").write_text("\n".join(names))
    command = ("score", "--list", "list", "-m", tiny_model_folder, "-o", f"t.{suffix}")
    answer = qfm(*command, "--report", "r.html")
    assert answer.code == 0, answer.err
    if suffix == "csv":
        assert [row["path"] for row in rows_of(Path("t.csv").read_text())] == [
            *(f"'{name}" for name in names[:5]), *names[5:],
        ]  # fmt: skip
        assert '"f;=1.jpg",' in Path("t.csv").read_text()  # quoted, whatever the delimiter
    # Each row is recognized: nothing is scored twice, and the table is the same.
    before = Path(f"t.{suffix}").read_bytes()
    assert f"{len(names)} files already have a row" in qfm(*command, "--resume").err
    assert Path(f"t.{suffix}").read_bytes() == before
    assert qfm("report", f"t.{suffix}", f"t.{suffix}", "-o", "c.html").code == 0
    if suffix == "jsonl":
        return
    with Path("labels.csv").open("w", newline="") as file:  # as people write them
        csv.writer(file).writerows([("name", "mos"), *((n, i) for i, n in enumerate(names))])
    answer = qfm("evaluate", "labels.csv", "--scores", f"t.{suffix}", "--bootstrap", 0)
    assert answer.code == 0, answer.err
    assert re.search(rf"whole +{len(names)} ", answer.out)


def test_a_table_is_continued(qfm, photos, photo_folder, tiny_model_folder, tmp_path):
    out = tmp_path / "t.csv"
    (photos / "broken.jpg").unlink()
    assert qfm("score", photos, "-m", tiny_model_folder, "-o", out).code == 0
    before = rows_of(out.read_text())
    answer = qfm("score", photos, "-m", tiny_model_folder, "-o", out, "--resume")
    assert answer.code == 0
    assert "3 files already have a row" in answer.err
    assert rows_of(out.read_text()) == before  # the seconds too: nothing was scored again
    shutil.copy(photo_folder / "photo_01.jpg", photos / "0_new.jpg")
    assert qfm("score", photos, "-m", tiny_model_folder, "-o", out, "--resume").code == 0
    after = rows_of(out.read_text())
    assert after[:3] == before
    assert [Path(row["path"]).name for row in after[3:]] == ["0_new.jpg"]


def test_memory_may_be_limited(qfm, photos, tiny_model_folder):
    answer = qfm("score", photos, "-m", tiny_model_folder, "--max-memory", "2GB", "--readers", 1)
    assert answer.code == 1
    assert [row["status"] for row in rows_of(answer.out)] == ["ok", "error", "ok", "ok"]
    assert qfm("score", photos, "--max-memory", "much").code == 2
    refused = qfm("score", photos, "--max-memory", "100MB")
    assert refused.code == 2
    assert "--max-memory must be at least 500MB" in refused.err


# ---- real processes ------------------------------------------------------------------------------


def test_names_that_are_no_text_pass_through_a_pipe(start, photo_folder, tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copy(photo_folder / "photo_00.jpg", raw)
    process = start("score", raw)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[1].split(b",")[0] == raw


def on_terminal(start, *arguments, width=200):
    """The exit code of a command, what it shows on a terminal, and its messages."""
    ours, theirs = pty.openpty()
    process = start(*arguments, stdout=theirs, env=os.environ | {"COLUMNS": str(width)})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # raised when the terminal's other side is closed
        pass
    _, err = process.communicate(timeout=120)
    os.close(ours)
    return process.returncode, shown.decode(), err.decode()


def test_a_terminal_gets_a_table(start, photos):
    (photos / os.fsdecode(b"caf\xe9.jpg")).write_text("no image either")
    code, text, err = on_terminal(start, "score", photos)
    assert code == 1, err
    assert "Traceback" not in err
    assert "a.jpg" in text
    assert "тень 影" in text
    assert "error" in text
    assert re.search(r"\d\d\.\d\d\b", text)
    assert not text.startswith("path,")


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_narrow_terminal_gets_the_most_important_columns(start, photo_paths, width):
    code, text, err = on_terminal(start, "score", *photo_paths[:3], "--causes", width=width)
    assert code == 0, err
    title = next(line for line in text.splitlines() if "score" in line)
    assert [name for name in ("score", "cause", "percentile", "crop_std") if name in title] == (
        ["score", "cause", "percentile", "crop_std"][: {30: 1, 80: 3, 200: 4}[width]]
    )
    assert len(re.findall(r"\d\d\.\d\d\b", text)) >= 3
    assert "…" not in text


def test_a_closed_pipe_ends_it_quietly(start, photo_folder):
    # Longer than a pipe's buffer, so that writing is sure to fail.
    many = [photo_folder / "photo_00.jpg"] + [f"gone_{number}_{'x' * 60}" for number in range(900)]
    process = start("score", *many)
    assert process.stdout.readline().decode().strip().split(",") == HEADER
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 141  # as for other programs after SIGPIPE
    assert b"Traceback" not in err
    assert b"Broken" not in err
    assert b"Exception" not in err


def test_an_interruption_keeps_what_was_scored_and_is_resumed(start, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (220, 220, 3), np.uint8)
    Image.fromarray(noise).save(folder / "000.png", compress_level=1)
    for number in range(1, 300):
        os.link(folder / "000.png", folder / f"{number:03d}.png")
    out = tmp_path / "scores.csv"
    ours, theirs = pty.openpty()  # its progress bar shows that it has started
    process = start("score", folder, "-o", out, stderr=theirs)
    os.close(theirs)
    shown, sent, deadline = b"", False, time.monotonic() + 400
    try:
        while piece := os.read(ours, 65536):
            shown += piece
            counts = re.findall(rb"(\d+)/300", shown)
            if not sent and counts and int(counts[-1]) >= 3:  # the first shard is written
                process.send_signal(signal.SIGINT)
                sent = True
            assert time.monotonic() < deadline
    except OSError:
        pass
    assert process.wait(timeout=300) == 130
    os.close(ours)
    process.stdout.close()
    assert sent
    assert b"Traceback" not in shown
    assert {path.name for path in tmp_path.iterdir()} == {"many", "scores.csv.job"}
    text = " ".join(shown.decode().split())
    left = int(re.search(r"Interrupted: (\d+) images were not scored.", text)[1])
    assert left < 300
    assert "--resume" in text
    rest = start("score", folder, "-o", out, "--resume")
    _, err = rest.communicate(timeout=300)
    assert rest.returncode == 0, err
    assert f"{300 - left} files already have a row." in err.decode()
    rows = rows_of(out.read_text())
    assert [row["path"] for row in rows] == [f"{folder}/{n:03d}.png" for n in range(300)]
    assert {row["status"] for row in rows} == {"ok"}
    assert {path.name for path in tmp_path.iterdir()} == {"many", "scores.csv"}
