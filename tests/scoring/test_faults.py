"""Two thousand damaged and hostile files in one job."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import psutil
import pytest

from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows

COUNT = 2000


def bomb(width, height):
    """A PNG of a few bytes whose header claims many pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("zeros.jpg", bytes(1_000_000))
    return file.getvalue()


def mutated(content, draw):
    kind = draw.randrange(5)
    if kind == 0:  # flipped bits
        changed = bytearray(content)
        for _ in range(draw.choice([1, 3, 30])):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == 1:  # cut off
        return content[: draw.randrange(len(content))]
    if kind == 2:  # a piece is missing or repeated
        start, end = sorted(draw.randrange(len(content)) for _ in range(2))
        return content[:start] + content[end:] if draw.random() < 0.5 else content[:end] * 2
    if kind == 3:  # numbers of the header
        changed = bytearray(content)
        changed[draw.randrange(min(64, len(changed)))] = draw.choice([0, 1, 127, 255])
        return bytes(changed)
    return draw.choice([*HOSTILE, draw.randbytes(500), content[:20] + draw.randbytes(300)])


HOSTILE = (
    b"",
    b"no image\n" * 50,
    archive(),
    bomb(60_000, 60_000),
    bomb(15_000, 15_000),
    bomb(0, 7),
)


@pytest.fixture(scope="module")
def files(photo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutated")
    draw = random.Random(3)
    photos = sorted(photo_folder.iterdir(), key=lambda path: path.stat().st_size)[:6]
    contents = [path.read_bytes() for path in photos]
    paths = []
    for number in range(COUNT):
        suffix = draw.choice([".jpg", ".png", ".webp", ".tif", ".heic", ".gif", ".txt"])
        path = folder / f"{number:04d}{suffix}"
        path.write_bytes(mutated(draw.choice(contents), draw))
        paths.append(str(path))
    return paths


def most_held(process):
    """The peak memory of a process in bytes."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:  # the process just ended
        return 0
    return 1024 * int(dict(line.split(":", 1) for line in lines).get("VmHWM", "0").split()[0])


def test_every_one_is_a_row(files, tiny_model_folder, tmp_path):
    out = tmp_path / "scores.parquet"
    limit = 2_000_000_000
    scorer = Scorer(load_model(tiny_model_folder), readers=2, processes=True, max_memory=limit)
    job = Job(out, files, scorer, resume=False)
    coming = most = 0
    others = {process.pid for process in psutil.Process().children()}
    for _ in job.run():
        coming += 1
        if coming % 20:
            continue
        readers = [one for one in psutil.Process().children() if one.pid not in others]
        most = max(most, *map(most_held, readers), 0)
    outcome = job.finish()
    rows = read_rows(out)
    assert coming == outcome.rows == len(rows) == COUNT
    assert [row.path for row in rows] == files
    good = [row for row in rows if row.status == "ok"]
    assert 0.05 < len(good) / COUNT < 0.9  # some survive: not every flipped bit breaks an image
    for row in rows:
        assert (row.score is None) == (row.status == "error") == bool(row.error)
        assert "\n" not in row.error
        assert "ended" not in row.error  # no reader was lost
    assert outcome.errors == COUNT - len(good)
    assert 0 < most < limit
