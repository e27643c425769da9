"""Locks between processes, any number in one file; they end with the process.

They are POSIX record locks; each byte of the file is a lock. They have no effect within a process,
so a process may open a lock file only once, which is checked here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qfm_iqm.errors import QFMError

_open: set[tuple[int, int]] = set()  # device and inode of this process's open lock files


class LockFile:
    """Locks by number.

    Args:
        path: path of the existing file.

    Raises:
        QFMError: this process already has it open, or the system has no such locks.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            import fcntl
        except ModuleNotFoundError as error:
            raise QFMError(
                "Jobs and trainings need POSIX file locks, which this system does not have."
            ) from error
        self._fcntl = fcntl
        self.path = path
        status = path.stat()
        self._identity = (status.st_dev, status.st_ino)
        if self._identity in _open:
            raise QFMError(f"{path.parent} is already in use by this process.")
        self._handle = os.open(path, os.O_RDWR)
        _open.add(self._identity)

    def try_acquire(self, number: int) -> bool:
        """Acquires a lock unless another process has it."""
        try:
            self._fcntl.lockf(
                self._handle, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB, 1, number, os.SEEK_SET
            )
        except (BlockingIOError, PermissionError):  # systems raise either
            return False
        return True

    def release(self, number: int) -> None:
        """Releases a lock."""
        self._fcntl.lockf(self._handle, self._fcntl.LOCK_UN, 1, number, os.SEEK_SET)

    def in_use(self) -> bool:
        """Whether another process has any of the locks; this process must have none."""
        try:
            self._fcntl.lockf(self._handle, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        self._fcntl.lockf(self._handle, self._fcntl.LOCK_UN)
        return False

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Waits for a lock and holds it."""
        self._fcntl.lockf(self._handle, self._fcntl.LOCK_EX, 1, number, os.SEEK_SET)
        try:
            yield
        finally:
            self.release(number)

    def current(self) -> bool:
        """Whether the file still exists and was not replaced."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def close(self) -> None:
        """Releases all locks."""
        if self._identity in _open:
            _open.remove(self._identity)
            with suppress(OSError):
                os.close(self._handle)
