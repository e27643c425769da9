import subprocess
import sys

import pytest

from qfm_iqm.errors import QFMError
from qfm_iqm.scoring.locks import LockFile

HOLDER = """
import sys
from pathlib import Path
from qfm_iqm.scoring.locks import LockFile
lock = LockFile(Path(sys.argv[1]))
print([lock.try_acquire(n) for n in map(int, sys.argv[2:])], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


@pytest.fixture
def holder(path):
    """Another process that takes locks and holds them until it is killed."""
    started = []

    def start(*numbers):
        command = [sys.executable, "-c", HOLDER, str(path), *map(str, numbers)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_is_held_by_one_process_and_goes_with_it(path, holder):
    lock = LockFile(path)
    assert lock.try_acquire(1 << 40)
    process, took = holder(3, 4, 1 << 40)
    assert took == "[True, True, False]"
    assert not lock.try_acquire(3)
    assert lock.try_acquire(5)
    process.kill()
    process.wait()
    assert lock.try_acquire(3)
    lock.release(3)
    _, took = holder(3, 5)
    assert took == "[True, False]"
    lock.close()


def test_closing_gives_everything_back(path, holder):
    lock = LockFile(path)
    with lock.held(7):
        assert holder(7)[1] == "[False]"
    assert holder(7)[1] == "[True]"
    lock.try_acquire(8)
    lock.close()
    lock.close()
    assert holder(8)[1] == "[True]"


def test_one_process_opens_it_once(path):
    lock = LockFile(path)
    with pytest.raises(QFMError, match="is already in use by this process"):
        LockFile(path)
    lock.close()
    LockFile(path).close()


def test_a_file_that_was_exchanged_is_noticed(path):
    lock = LockFile(path)
    assert lock.current()
    path.rename(path.with_name("old"))
    assert not lock.current()
    path.touch()
    assert not lock.current()
    lock.close()
