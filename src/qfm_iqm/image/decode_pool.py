"""Reading ahead: files go to readers, and come back as readings in the order they went.

Two kinds of readers behind one function each. Threads start at once and suit a few files. Processes
suit many: a decoder that is killed takes no more with it than the file it was reading. In both,
the memory of large images is shared out by `image.memory_budget`.

In both, an item that is None marks a border, and comes back as None in its place.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import connection
from typing import TypeVar

from qfm_iqm.errors import ImageError, QFMError
from qfm_iqm.image.decode import name_of
from qfm_iqm.image.decode_worker import Worker, WorkerDeathError
from qfm_iqm.image.load import Reading, ReadingPolicy, read
from qfm_iqm.image.memory_budget import MemoryBudget, give_freed_memory_back, usable_cores

Item = str | None
Given = TypeVar("Given")
Got = TypeVar("Got")

_AHEAD = 4  # files on their way for each reading process
_QUEUED = 2  # files that a reading process has before it
_TRIES = 2
_STARTS = 4  # processes that end before they read anything, in all


def read_in_threads(
    items: Iterable[Item], policy: ReadingPolicy, threads: int, memory: int
) -> Iterator[Reading | None]:
    """Reads in threads of this process.

    Args:
        items: files, and None for a border.
        policy: how to read.
        threads: how many.
        memory: bytes that images on their way may take.

    Yields:
        A reading, or None for a border, in order. Its pixels count as gone when the next is asked
        for.
    """
    budget = _ThreadBudget(MemoryBudget(memory, _ahead(threads)))

    def entered() -> Iterator[tuple[int, str] | None]:
        for number, path in enumerate(items):
            if path is not None:
                budget.enter(number)
            yield None if path is None else (number, path)

    def read_one(task: tuple[int, str]) -> tuple[int, Reading]:
        number, path = task
        reading = read(path, policy, partial(budget.admit, number), budget.share)
        if budget.is_large(number):
            give_freed_memory_back()
        budget.settle(number, 0 if reading.pixels is None else reading.pixels.nbytes)
        return number, reading

    try:
        for found in call_in_threads(entered(), read_one, threads):
            if found is None:
                yield None
            else:
                number, reading = found
                del found
                yield reading
                del reading
                budget.leave(number)
    finally:
        budget.close()


class _ThreadBudget:
    """A memory budget that threads wait at."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.share = budget.share
        self._budget = budget
        self._changed = threading.Condition()
        self._admitted: set[int] = set()
        self._closed = False
        _open_budgets.add(self)

    def enter(self, number: int) -> None:
        with self._changed:
            self._budget.enter(number)

    def admit(self, number: int, needed: int) -> None:
        """Waits until there is memory for an image.

        Raises:
            ImageError: there never is so much.
        """
        with self._changed:
            answer = self._budget.ask(number, needed)
            if answer == "refuse":
                raise ImageError(self._budget.refusal(needed))
            if answer == "wait":
                self._look_again()
                self._changed.wait_for(lambda: number in self._admitted or self._closed)
                self._admitted.discard(number)
                if self._closed:
                    raise ImageError("reading has ended")

    def is_large(self, number: int) -> bool:
        with self._changed:
            return self._budget.is_large(number)

    def settle(self, number: int, held: int) -> None:
        with self._changed:
            self._budget.settle(number, held)
            self._look_again()

    def leave(self, number: int) -> None:
        with self._changed:
            self._budget.leave(number)
            self._look_again()

    def close(self) -> None:
        """Lets the threads go that still wait: nobody wants what they would read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _look_again(self) -> None:
        self._admitted.update(self._budget.admitted())
        self._changed.notify_all()


_open_budgets: weakref.WeakSet[_ThreadBudget] = weakref.WeakSet()


def _close_all() -> None:
    for budget in list(_open_budgets):
        budget.close()


# Python waits at its end for the threads of pools, and a reader that was not closed would have
# some that wait for memory. Nothing public is called before: `atexit` comes after.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _ahead(threads: int) -> int:
    """Files that may be on their way at once in threads."""
    return 2 * threads + 1


def call_in_threads(
    items: Iterable[Given | None], function: Callable[[Given], Got], threads: int
) -> Iterator[Got | None]:
    """Calls a function with each item, in threads of this process.

    Args:
        items: what to call it with, and None for a border.
        function: called in a thread.
        threads: how many.

    Yields:
        What `function` gave, and None for a border, in order.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        ahead: deque[Future[Got] | None] = deque()
        try:
            for item in items:
                ahead.append(None if item is None else pool.submit(function, item))
                if len(ahead) == _ahead(threads):
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Got] | None) -> Got | None:
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
            worker.answer(number, self.budget.refusal(needed))

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
