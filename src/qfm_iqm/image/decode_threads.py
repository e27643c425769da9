"""Reads ahead in threads of this process, which start at once and suit a few files."""

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
    """Reads files in threads of this process, with `memory` bytes for the images in flight.

    Yields:
        A reading, or None for a border (an item None), in order. Its pixels count as freed when
        the next one is requested.
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
                yield from coming  # the other frames of a video, decoded on demand
                budget.leave(number)
    finally:
        budget.close()


class _ThreadBudget:
    """A thread-safe memory budget that threads can wait for."""

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
            ImageError: the image needs more than there ever is.
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
        """Releases waiting threads, because their readings are no longer needed."""
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


# At exit Python waits for the threads of pools, and an unclosed reader may have threads that wait
# for memory. `atexit` runs after that wait, and no public hook runs before it.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def _ahead(threads: int) -> int:
    """Number of files that may be in flight at once."""
    return 2 * threads + 1


def call_in_threads(
    items: Iterable[Given | None], function: Callable[[Given], Got], threads: int
) -> Iterator[Got | None]:
    """Calls a function with each item in threads of this process.

    Args:
        items: arguments of the calls, and None for a border.
        function: called in a thread.
        threads: number of threads.

    Yields:
        The results, and None for a border, in order.
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
