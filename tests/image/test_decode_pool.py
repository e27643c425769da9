import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from qfm_iqm.errors import QFMError
from qfm_iqm.image import decode_pool
from qfm_iqm.image.decode_pool import DecodingPool, read_in_processes
from qfm_iqm.image.decode_threads import read_in_threads
from qfm_iqm.image.load import ReadingPolicy, read
from qfm_iqm.image.preprocess import Preprocessing

POLICY = ReadingPolicy(Preprocessing(crop=48, shorter_side=64))
KEEPING = ReadingPolicy(Preprocessing(crop=48))
MEMORY = 1 << 30

DEADLY = """
import os, signal
from pathlib import Path

def fetch(path):
    file = Path(path)
    mark = file.with_suffix(".mark")
    if file.stem == "always" or (file.stem.startswith("once") and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if file.stem == "endless":
        signal.pause()
    return file.read_bytes()
"""


@pytest.fixture(scope="module")
def paths(photo_folder):
    return sorted(str(path) for path in photo_folder.iterdir())


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A way to fetch files that kills the process for some of them, as the system might."""
    (tmp_path / "deadly_fetching.py").write_text(DEADLY)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{before}" if before else str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    import deadly_fetching

    return ReadingPolicy(POLICY.preprocessing, fetch=deadly_fetching.fetch)


def assert_same(readings, expected):
    assert len(readings) == len(expected)
    for ours, theirs in zip(readings, expected, strict=True):
        if theirs is None:
            assert ours is None
            continue
        assert (ours.path, ours.sha256, ours.width, ours.height, ours.error) == (
            theirs.path, theirs.sha256, theirs.width, theirs.height, theirs.error,
        )  # fmt: skip
        if theirs.pixels is None:
            assert ours.pixels is None
        else:
            assert ours.pixels.dtype == theirs.pixels.dtype
            assert np.array_equal(ours.pixels, theirs.pixels)


@pytest.mark.parametrize("policy", [POLICY, KEEPING])
def test_processes_and_threads_give_what_reading_one_by_one_gives(paths, policy, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    items = [None, *paths[:5], None, str(tmp_path / "text.jpg"), str(tmp_path / "gone"), *paths[5:]]
    expected = [None if item is None else read(item, policy) for item in items]
    assert_same(list(read_in_threads(items, policy, 3, MEMORY)), expected)
    assert_same(list(read_in_processes(items, policy, 2, MEMORY)), expected)


def test_a_file_that_kills_its_reader_is_tried_twice_and_takes_no_other_with_it(
    deadly, paths, tmp_path
):
    for name in ("always.jpg", "once_1.jpg", "once_2.jpg"):
        os.link(paths[0], tmp_path / name)
    killers = [str(tmp_path / name) for name in ("always.jpg", "once_1.jpg", "once_2.jpg")]
    items = [paths[0], killers[0], paths[1], killers[1], *paths[2:], killers[2]]
    readings = list(read_in_processes(items, deadly, 2, MEMORY))
    assert [reading.path for reading in readings] == items
    by_path = {reading.path: reading for reading in readings}
    assert by_path[killers[0]].error == (
        f"cannot read '{killers[0]}': the process that read it died 2 times (signal 9)"
    )
    assert by_path[killers[0]].pixels is None
    for item in items:
        if item != killers[0]:
            assert by_path[item].error == ""
            assert np.array_equal(by_path[item].pixels, read(item, POLICY).pixels)


def test_a_file_that_takes_too_long_is_given_up(deadly, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_pool, "IMAGE_SECONDS", 3)
    os.link(paths[0], tmp_path / "endless.jpg")
    endless = str(tmp_path / "endless.jpg")
    readings = list(read_in_processes([paths[0], endless, *paths[1:]], deadly, 1, MEMORY))
    assert [reading.path for reading in readings] == [paths[0], endless, *paths[1:]]
    assert readings.pop(1).error == (
        f"cannot read '{endless}': reading it takes longer than 0.05 minutes"
    )
    assert not any(reading.error for reading in readings)


def test_idle_readers_that_are_killed_are_replaced(paths):
    others = set(psutil.Process().children())  # a shared service may be among them

    def items():
        yield paths[0]
        yield from paths[1:4]
        for reader in set(psutil.Process().children()) - others:
            reader.kill()
        yield from paths[4:]

    readings = list(read_in_processes(items(), POLICY, 1, MEMORY))
    assert [reading.path for reading in readings] == paths
    assert all(reading.pixels is not None for reading in readings)


def test_readers_that_cannot_start_are_an_error(paths, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(QFMError, match=r"die at startup \(exit code 1\)"):
        list(read_in_processes(paths, POLICY, 1, MEMORY))


def test_nothing_stays_behind(paths):
    before = set(psutil.Process().children())
    handles = len(list(Path("/proc/self/fd").iterdir()))
    coming = read_in_processes(paths * 3, POLICY, 2, MEMORY)
    next(coming)
    workers = set(psutil.Process().children()) - before
    assert len(workers) == 2
    coming.close()
    assert set(psutil.Process().children()) == before
    assert len(list(Path("/proc/self/fd").iterdir())) == handles
    assert not any(worker.is_running() for worker in workers)


DYING = """
import os, signal, sys
import psutil
from qfm_iqm.image.decode_pool import read_in_processes
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.preprocess import Preprocessing

coming = read_in_processes(sys.argv[1:], ReadingPolicy(Preprocessing(crop=48)), 1, 1 << 30)
next(coming)
(child,) = psutil.Process().children()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_readers_end_with_the_process_they_read_for(paths):
    with subprocess.Popen(
        [sys.executable, "-c", DYING, *paths], stdout=subprocess.PIPE, text=True
    ) as process:
        child = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_large_images_share_the_memory_and_the_largest_are_refused(tmp_path):
    sizes = [(900, 700), (3000, 2000), (3000, 2000), (40, 30), (7000, 6000), (2000, 3000)]
    for number, size in enumerate(sizes):
        pixels = np.full((size[1], size[0], 3), number * 20, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", compress_level=1)
    items = [str(tmp_path / f"{number}.png") for number in range(len(sizes))]
    readings = list(read_in_processes(items, KEEPING, 2, 150 << 20))
    for reading, size in zip(readings, sizes, strict=True):
        if size == (7000, 6000):  # 42 megapixels: 4 bytes each on the canvas, 3 in the end
            assert "decoding it takes about 0.3" in reading.error
            assert "and the memory set for images is 0.1" in reading.error
        else:
            assert (reading.width, reading.height) == size
            assert np.array_equal(reading.pixels, read(reading.path, KEEPING).pixels)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Six photos of 12 megapixels, each of which takes about 60 MB while it is decoded."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(6):
        color = (number * 40, 120, 90)
        Image.new("RGB", (4000, 3000), color).save(folder / f"{number}.png")
    return sorted(str(path) for path in folder.iterdir())


THREADS = """
import sys
from pathlib import Path
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.decode_threads import read_in_threads
from qfm_iqm.image.load import ReadingPolicy

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)["VmHWM"].split()[0]) << 10

memory, small, *large = sys.argv[1:]
policy = ReadingPolicy(Preprocessing(crop=48, shorter_side=64))
for _ in read_in_threads([small] * 3, policy, 4, 1 << 30):
    pass
before = most()
readings = []
for reading in read_in_threads(large, policy, 4, int(memory)):
    readings.append(reading.error or reading.width)
print(most() - before, readings)
"""


def in_a_process(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_share_the_memory(large, paths):
    took, readings = in_a_process(THREADS, 100_000_000, paths[0], *large).split(maxsplit=1)
    assert readings.strip() == str([4000] * 6)
    assert 40_000_000 < int(took) < 130_000_000
    took, readings = in_a_process(THREADS, 1 << 30, paths[0], *large).split(maxsplit=1)
    assert readings.strip() == str([4000] * 6)
    assert int(took) > 135_000_000  # else the limit above would not matter
    took, readings = in_a_process(THREADS, 50_000_000, paths[0], *large).split(maxsplit=1)
    assert readings.count("decoding it takes about 0.06 GB") == 6
    assert int(took) < 40_000_000


ENDING = """
import sys
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.decode_threads import read_in_threads
from qfm_iqm.image.load import ReadingPolicy

coming = read_in_threads(sys.argv[1:], ReadingPolicy(Preprocessing(crop=48)), 4, 130_000_000)
print(next(coming).width)  # the pixels of this one stay: no other may be decoded
"""


def test_threads_that_wait_for_memory_do_not_outlive_their_reader(large):
    assert in_a_process(ENDING, *large) == "4000\n"


# ---- content that arrives at any time ----


@pytest.fixture(scope="module")
def pool():
    policy = ReadingPolicy(Preprocessing(crop=48, shorter_side=96), 30_000_000, statistics=True)
    pool = DecodingPool([policy, KEEPING], workers=2, seconds=60, decode_bytes=80_000_000)
    yield pool
    pool.close()


def encoded(size, color=(90, 10, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def test_readings_are_those_of_the_reader_bit_for_bit(pool, paths):
    policy = ReadingPolicy(Preprocessing(crop=48, shorter_side=96), statistics=True)
    with ThreadPoolExecutor(4) as threads:  # more than there are processes
        found = list(threads.map(lambda path: pool.decode(Path(path).read_bytes(), path), paths))
    expected = [read(path, policy) for path in paths]
    assert_same(found, expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours.statistics, theirs.statistics)


def test_each_image_is_read_in_the_way_that_is_asked_for(pool, paths):
    content = encoded((300, 200))
    sides = [pool.decode(content, "a.png", policy=way).pixels.shape[1:] for way in (0, 1, 0)]
    assert sides == [(96, 144), (200, 300), (96, 144)]
    assert_same(
        [pool.decode(Path(path).read_bytes(), path, policy=1) for path in paths],
        [read(path, KEEPING) for path in paths],
    )


def test_memory_is_bounded(pool):
    refused = pool.decode(encoded((5000, 5000)), "a.png")  # 100 MB decoded
    assert refused.too_large
    assert refused.error == "cannot read 'a.png': there is not enough memory for it"
    for _ in range(4):  # each process still works
        assert pool.decode(encoded((50, 50)), "a.png").width == 50
    assert pool.restarts == 0


def test_time_is_bounded_and_the_dead_are_replaced():
    others = set(psutil.Process().children())
    pool = DecodingPool([POLICY], workers=1, seconds=3, decode_bytes=1 << 30)
    try:
        (process,) = set(psutil.Process().children()) - others
        process.suspend()  # the process hangs
        refused = pool.decode(encoded((60, 60)), "a.png")
        assert refused.too_large
        assert refused.error == "cannot read 'a.png': decoding it takes longer than allowed"
        assert pool.restarts == 1
        assert not process.is_running()
        assert pool.decode(encoded((60, 60)), "a.png").width == 60
    finally:
        pool.close()


def test_processes_that_do_not_start_are_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(QFMError, match=r"did not start: exit code 1"):
        DecodingPool([POLICY], workers=2, seconds=3, decode_bytes=1 << 30)


def test_damaged_images_never_stop_a_process(pool, paths):
    draw = np.random.default_rng(5)
    before = pool.restarts
    refused = 0
    for path in paths:
        content = bytearray(Path(path).read_bytes())
        for _ in range(6):
            content[draw.integers(len(content))] ^= 1 << draw.integers(8)
            found = pool.decode(bytes(content[: draw.integers(1, len(content) + 1)]), path)
            assert found.too_large <= bool(found.error)
            refused += bool(found.error)
        assert pool.decode(Path(path).read_bytes(), path).error == ""
    assert refused > len(paths)
    assert pool.restarts == before
