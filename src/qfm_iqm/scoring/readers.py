"""Reading ahead: files go to readers, and come back as readings in the order they went.

Two kinds of readers behind one function each. Threads start at once and suit a few files. Processes
suit many: a decoder that is killed takes no more with it than the file it was reading, and the
memory of large images is shared out by `scoring.budget`.

In both, an item that is None marks a border, and comes back as None in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection
from typing import Any

from qfm_iqm.errors import QFMError
from qfm_iqm.image.reading import name_of
from qfm_iqm.scoring.budget import MemoryBudget, usable_cores
from qfm_iqm.scoring.reading import Reading, ReadingPolicy
from qfm_iqm.scoring.worker import Worker, WorkerDeathError

Item = str | None

_AHEAD = 4  # files on their way for each reading process
_QUEUED = 2  # files that a reading process has before it
_TRIES = 2
_STARTS = 4  # processes that end before they read anything, in all


def read_in_threads(
    items: Iterable[Item], reader: Callable[[str], Any], threads: int
) -> Iterator[Any]:
    """Reads in threads of this process.

    Args:
        items: files, and None for a border.
        reader: what to call with a file, in a thread.
        threads: how many.

    Yields:
        What `reader` gave, and None for a border, in order.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        ahead: deque[Future[Any] | None] = deque()
        try:
            for item in items:
                ahead.append(None if item is None else pool.submit(reader, item))
                if len(ahead) > 2 * threads:
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Any] | None) -> Any:
    return None if future is None else future.result()


def read_in_processes(
    items: Iterable[Item], policy: ReadingPolicy, processes: int, memory: int
) -> Iterator[Reading | None]:
    """Reads in processes of their own.

    A file during whose reading a process ended unasked (a crash, or the system's killer) is given
    to another process once, and then gets a reading with an error.

    Args:
        items: files, and None for a border.
        policy: how to read.
        processes: how many.
        memory: bytes that images on their way may take.

    Yields:
        A reading, or None for a border, in order. Its pixels count as gone when the next is asked
        for.

    Raises:
        QFMError: processes end before they read anything.
    """
    pool = _ReadingPool(policy, processes, memory)
    try:
        yield from pool.read(items)
    finally:
        pool.close()


class _ReadingPool:
    def __init__(self, policy: ReadingPolicy, processes: int, memory: int) -> None:
        self.policy = policy
        self.ahead = _AHEAD * processes
        self.budget = MemoryBudget(memory, self.ahead)
        self.workers: list[Worker] = []
        for _ in range(processes):
            self.workers.append(self._start())
        self.waiting: deque[tuple[int, str]] = deque()  # no process has them yet
        self.done: dict[int, Reading | None] = {}
        self.tries: dict[int, int] = {}
        self.failed_starts = 0

    def _start(self) -> Worker:
        return Worker(self.policy, self.budget.share)

    def read(self, items: Iterable[Item]) -> Iterator[Reading | None]:
        coming = iter(items)
        given, entered, finished = 0, 0, False
        while True:
            while not finished and entered - given < self.ahead:
                item = next(coming, coming)  # None is an item
                if item is coming:
                    finished = True
                    break
                if item is None:
                    self.done[entered] = None
                else:
                    self.budget.enter(entered)
                    self.waiting.append((entered, str(item)))
                entered += 1
            if given == entered:
                return
            self._hand_out()
            self._listen(wait=given not in self.done)
            while given in self.done:
                yield self.done.pop(given)
                self.budget.leave(given)
                given += 1
                if not finished:
                    break  # hand out more before anything else

    def _hand_out(self) -> None:
        for number in self.budget.admitted():
            for worker in self.workers:
                if worker.reads(number):
                    worker.answer(number, "")
        by_load = sorted(self.workers, key=lambda worker: len(worker.tasks))
        for worker in by_load * _QUEUED:
            if self.waiting and len(worker.tasks) < _QUEUED:
                worker.give(*self.waiting.popleft())

    def _listen(self, *, wait: bool) -> None:
        """Takes what workers say; waits for the first of it if asked to."""
        pipes = {worker.pipe: worker for worker in self.workers}
        for pipe in connection.wait(list(pipes), None if wait else 0):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                message = worker.hear()
            except WorkerDeathError as death:
                self._bury(worker, death)
                continue
            if isinstance(message, Reading):
                number, _ = worker.tasks.popleft()
                held = 0 if message.pixels is None else message.pixels.nbytes
                self.budget.settle(number, held)
                self.done[number] = message
            elif message is not None:
                self._consider(worker, message)

    def _consider(self, worker: Worker, needed: int) -> None:
        number = worker.tasks[0][0]
        answer = self.budget.ask(number, needed)
        if answer == "go":
            worker.answer(number, "")
        elif answer == "refuse":
            worker.answer(
                number,
                f"decoding it takes about {needed / 1e9:.2f} GB, and the memory set for images is "
                f"{self.budget.largest / 1e9:.2f} GB; reduce it or raise the limit",
            )

    def _bury(self, worker: Worker, death: WorkerDeathError) -> None:
        """A process has ended unasked: its files go to others, the one it was reading once."""
        tasks = list(worker.tasks)
        self.workers.remove(worker)
        worker.close()
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts == _STARTS:
                raise QFMError(f"The processes that read images end by themselves ({death}).")
        elif tasks:
            number, path = tasks[0]
            self.tries[number] = self.tries.get(number, 0) + 1
            self.budget.settle(number, 0)
            if self.tries[number] == _TRIES:
                reason = f"the process that read it was ended {_TRIES} times ({death})"
                self.done[number] = Reading(path, error=f"cannot read {name_of(path)}: {reason}")
                del tasks[0]
        self.waiting.extendleft(reversed(tasks))
        self.workers.append(self._start())

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def default_processes() -> int:
    """One reading process for each core that this process may use, at most 16."""
    return min(16, usable_cores())
