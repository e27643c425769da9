import math
import random
import subprocess
import sys

import pytest

from qfm_iqm.image import memory_budget as budget
from qfm_iqm.image.memory_budget import MemoryBudget, container_room, images_share, readers_within


@pytest.mark.parametrize("seed", range(20))
def test_images_on_their_way_never_take_more_and_none_waits_for_ever(seed):
    """A slow simulation: images enter in order, decode, are settled, and leave in order."""
    draw = random.Random(seed)
    total, ahead = 1000, draw.randint(1, 8)
    account = MemoryBudget(total, ahead)
    sizes = [draw.choice([1, 5, 90, 300, 700, 990]) for _ in range(60)]
    used = {}  # bytes really in memory
    refused, entered, given, decoding, settled = set(), 0, 0, [], set()
    for _ in range(10_000):
        if given == len(sizes):
            break
        if entered < len(sizes) and entered - given < ahead:
            account.enter(entered)
            used[entered] = 0
            answer = account.ask(entered, sizes[entered])
            if answer == "go":
                decoding.append(entered)
            elif answer == "refuse":
                refused.add(entered)
                account.settle(entered, 0)
                settled.add(entered)
            entered += 1
        decoding += account.admitted()
        for number in decoding:
            used[number] = sizes[number]
        assert sum(used.values()) <= total
        if decoding and draw.random() < 0.5:
            number = decoding.pop(draw.randrange(len(decoding)))
            used[number] = sizes[number] // 3
            account.settle(number, used[number])
            settled.add(number)
        if given in settled:
            account.leave(given)
            used.pop(given)
            given += 1
    assert given == len(sizes)
    assert refused == {n for n, size in enumerate(sizes) if size > account.largest}


def test_pixels_that_wait_for_an_image_before_them_do_not_keep_it_out():
    account = MemoryBudget(1000, 4)
    for number in range(3):
        account.enter(number)
    assert account.ask(1, 700) == "wait"
    assert account.admitted() == [1]
    assert account.ask(0, 800) == "wait"
    assert account.admitted() == []  # no room while the other image is being decoded
    account.settle(1, 600)
    assert account.ask(2, 800) == "wait"
    assert account.admitted() == [0]  # else all would stop; the last image can wait
    account.settle(0, 100)
    assert account.admitted() == []
    account.leave(0)
    account.leave(1)
    assert account.admitted() == [2]


def test_the_limit_is_for_the_whole_program(monkeypatch):
    monkeypatch.setattr(budget, "resident", lambda: 500_000_000)
    monkeypatch.setattr(budget, "available", lambda: 8_000_000_000)
    assert images_share(2_000_000_000, 2) == 1_500_000_000 - 2 * budget.READER
    assert images_share(2_000_000_000, 0) == 1_500_000_000 - budget.READER
    assert images_share(400_000_000, 2) == budget.LEAST
    assert images_share(None, 2) == 4_000_000_000


def test_half_of_the_limit_stays_with_the_images(monkeypatch):
    monkeypatch.setattr(budget, "resident", lambda: 450_000_000)
    for limit, wanted in ((2_000_000_000, 8), (4_000_000_000, 8), (8_000_000_000, 2), (10**8, 3)):
        number = readers_within(limit, wanted)
        assert 1 <= number <= wanted
        room = limit - 450_000_000
        assert number == 1 or room - number * budget.READER >= limit // 2
        assert number == wanted or room - (number + 1) * budget.READER < limit // 2


def test_what_the_system_says():
    """In a separate process: in a long session the system may reclaim as much as is taken."""
    script = """
from qfm_iqm.image.memory_budget import available
from qfm_iqm.image.memory_budget import resident
before = resident()
block = b"x" * (64 << 20)
print(resident() - before, available())
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    taken, free = map(int, answer.stdout.split())
    assert 60 << 20 < taken < 80 << 20
    assert free > 64 << 20


def test_a_container_leaves_what_its_limit_says_without_cached_files(tmp_path, monkeypatch):
    assert container_room(tmp_path) == math.inf
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 250000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert container_room(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("1000000\n")
    assert container_room(tmp_path) == 550_000
    monkeypatch.setattr(budget, "CGROUP", tmp_path)
    assert budget.available() == 550_000
    (tmp_path / "memory.max").write_text("100\n")
    assert container_room(tmp_path) == 0
