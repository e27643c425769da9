"""Reading ahead in threads of this process: they start at once, and suit a few files."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from qfm_iqm.errors import ImageTooLargeError
from qfm_iqm.image.load import Reading, ReadingPolicy, readings
from qfm_iqm.image.memory_budget import MemoryBudget, give_freed_memory_back

Given = TypeVar("Given")
Got = TypeVar("Got")


def read_in_threads(
    items: Iterable[str | None], policy: ReadingPolicy, threads: int, memory: int
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

    def read_one(task: tuple[int, str]) -> tuple[int, Reading, Iterator[Reading]]:
        number, path = task
        coming = readings(path, policy, partial(budget.admit, number), budget.share)
        reading = next(coming)
        if reading.time is not None:
            budget.keep(number)
            return number, reading, coming
        if budget.is_large(number):
            give_freed_memory_back()
        budget.settle(number, 0 if reading.pixels is None else reading.pixels.nbytes)
        return number, reading, coming

    try:
        for found in call_in_threads(entered(), read_one, threads):
            if found is None:
                yield None
            else:
                number, reading, coming = found
                del found
                yield reading
                del reading
                yield from coming  # the other frames of a video, decoded as they are asked for
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
                raise ImageTooLargeError(self._budget.refusal(needed))
            if answer == "wait":
                self._look_again()
                self._changed.wait_for(lambda: number in self._admitted or self._closed)
                self._admitted.discard(number)
                if self._closed:
                    raise ImageTooLargeError("reading has ended")

    def is_large(self, number: int) -> bool:
        with self._changed:
            return self._budget.is_large(number)

    def settle(self, number: int, held: int) -> None:
        with self._changed:
            self._budget.settle(number, held)
            self._look_again()

    def keep(self, number: int) -> None:
        with self._changed:
            self._budget.keep(number)
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
