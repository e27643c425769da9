"""Pools of decoding processes, for jobs and for the service.

If a process dies, only the image it was decoding is lost; a process that takes too long is killed;
both are replaced. A job reads many files ahead, in order and within a memory budget
(`read_in_processes`). The service decodes images as they come, from many threads (`DecodingPool`).
"""

import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection

from qfm_iqm.errors import QFMError
from qfm_iqm.image.decode import name_of
from qfm_iqm.image.decode_threads import read_in_threads
from qfm_iqm.image.decode_worker import Worker, WorkerDeathError
from qfm_iqm.image.load import Reading, ReadingPolicy
from qfm_iqm.image.memory_budget import MemoryBudget, images_share, readers_within

# Limit for one file of a job: a server may take `fetch.LONGEST` to send it, and decoding as long.
IMAGE_SECONDS = 1200.0

_AHEAD = 4  # files in flight per process
_QUEUED = 2  # files queued at a process
_TRIES = 2
_STARTS = 4  # failed starts of processes that end a job


def read_ahead(
    items: Iterable[str | None],
    policy: ReadingPolicy,
    readers: int,
    *,
    processes: bool,
    max_memory: int | None,
) -> Iterator[Reading | None]:
    """Reads files ahead within a memory limit.

    Args:
        items: files, and None for a border.
        policy: how to read.
        readers: number of threads or processes; fewer processes if they would take more than half
            of the memory.
        processes: read in separate processes instead of threads.
        max_memory: bytes for the whole program; None allows half of the machine's free memory for
            the images in flight.

    Yields:
        A reading, or None for a border, in order. Its pixels count as freed when the next one is
        requested.

    Raises:
        QFMError: processes end before they read anything.
    """
    if not processes:
        yield from read_in_threads(items, policy, readers, images_share(max_memory, 0))
        return
    if max_memory is not None:
        readers = readers_within(max_memory, readers)
    yield from read_in_processes(items, policy, readers, images_share(max_memory, readers))


def read_in_processes(
    items: Iterable[str | None], policy: ReadingPolicy, processes: int, memory: int
) -> Iterator[Reading | None]:
    """Reads files in separate processes, with `memory` bytes for the images in flight.

    If a process dies while reading a file (by a crash or the OOM killer), the file is given to
    another process once; the second time it gets a reading with an error. A file that takes longer
    than `IMAGE_SECONDS` gets an error at once. Items and readings are those of `read_ahead`.

    Raises:
        QFMError: processes end before they read anything.
    """
    readers = _Readers(policy, processes, memory)
    try:
        yield from readers.read(items)
    finally:
        for worker in readers.workers:
            worker.close()


class _Readers:
    """The processes of a job and their files."""

    def __init__(self, policy: ReadingPolicy, processes: int, memory: int) -> None:
        self.policy = policy
        self.ahead = _AHEAD * processes
        self.budget = MemoryBudget(memory, self.ahead)
        self.workers: list[Worker] = []
        for _ in range(processes):
            self.workers.append(self._start())
        self.waiting: deque[tuple[int, str]] = deque()  # files not yet given to a process
        self.done: dict[int, deque[Reading | None]] = {}  # readings to yield, in order
        self.streaming: dict[int, Worker] = {}  # process of each video that has given a frame
        self.tries: dict[int, int] = {}
        self.failed_starts = 0

    def _start(self) -> Worker:
        return Worker([self.policy], IMAGE_SECONDS, share=self.budget.share)

    def read(self, items: Iterable[str | None]) -> Iterator[Reading | None]:
        coming = iter(items)
        given, entered, finished = 0, 0, False
        while True:
            while not finished and entered - given < self.ahead:
                item = next(coming, coming)  # None is an item
                if item is coming:
                    finished = True
                    break
                if item is None:
                    self.done[entered] = deque([None])
                else:
                    self.budget.enter(entered)
                    self.waiting.append((entered, str(item)))
                entered += 1
            if given == entered:
                return
            self._hand_out()
            self._listen(wait=given not in self.done)
            while readings := self.done.get(given):
                reading = readings.popleft()
                yield reading
                if reading is not None and reading.time is not None:  # a frame: more will follow
                    if given in self.streaming:
                        self.streaming[given].go_on()
                    if not readings:
                        del self.done[given]
                    continue
                del self.done[given]
                self.budget.leave(given)
                given += 1
                if not finished:
                    break  # hand out more files first

    def _hand_out(self) -> None:
        for number in self.budget.admitted():
            for worker in self.workers:
                if worker.tasks and worker.tasks[0][0] == number:
                    worker.admit()
        by_load = sorted(self.workers, key=lambda worker: len(worker.tasks))
        for worker in by_load * _QUEUED:
            # In order, so that the next file never queues behind a video that waits for it.
            late = bool(self.waiting and worker.tasks and worker.tasks[-1][0] > self.waiting[0][0])
            if self.waiting and len(worker.tasks) < _QUEUED and not late:
                worker.give(*self.waiting.popleft())

    def _listen(self, *, wait: bool) -> None:
        """Handles messages of processes; with `wait`, waits for one or for the first deadline."""
        deadlines = [worker.deadline for worker in self.workers if worker.deadline is not None]
        most = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        speaking = connection.wait([worker.socket for worker in self.workers], most if wait else 0)
        now = time.monotonic()
        for worker in list(self.workers):
            late = worker.deadline is not None and worker.deadline <= now
            if worker.socket not in speaking and not late:
                continue
            try:
                said = worker.hear()
            except WorkerDeathError as death:
                self._bury(worker, death)
                continue
            if said is None:
                continue
            number, message = said
            if isinstance(message, Reading):
                if message.time is None:
                    self._settle(number, message)
                else:
                    self.budget.keep(number)
                    self.streaming[number] = worker
                    self.done.setdefault(number, deque()).append(message)
                continue
            answer = self.budget.ask(number, message)
            if answer != "wait":
                worker.admit(self.budget.refusal(message) if answer == "refuse" else "")

    def _settle(self, number: int, reading: Reading) -> None:
        self.streaming.pop(number, None)
        self.budget.settle(number, 0 if reading.pixels is None else reading.pixels.nbytes)
        self.done.setdefault(number, deque()).append(reading)

    def _bury(self, worker: Worker, death: WorkerDeathError) -> None:
        """Replaces a dead process; its files go to others, the one it was reading only once."""
        self.workers.remove(worker)
        worker.close()
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts == _STARTS:
                raise QFMError(f"The processes that read images die at startup ({death}).")
        elif worker.tasks:
            number, path = worker.tasks[0]
            self.budget.settle(number, 0)
            self.tries[number] = self.tries.get(number, 0) + 1
            reason = f"the process that read it died {_TRIES} times ({death})"
            if number in self.streaming:  # some of its frames have been used
                self.tries[number] = _TRIES
                reason = f"the process that read it died ({death})"
            if death.late:
                reason = f"reading it takes longer than {IMAGE_SECONDS / 60:g} minutes"
            if death.late or self.tries[number] == _TRIES:
                worker.tasks.popleft()
                error = f"cannot read {name_of(path)}: {reason}"
                self._settle(number, Reading(path, error=error, too_large=death.late))
        self.waiting.extendleft(reversed(worker.tasks))
        self.workers.append(self._start())


class DecodingPool:
    """Decoding processes for requests at any time; `decode` is thread-safe.

    Args:
        policies: reading policies; `decode` chooses one.
        workers: number of processes.
        seconds: time limit for one image.
        decode_bytes: memory limit of a process for one image.

    Attributes:
        restarts: number of replaced processes.

    Raises:
        QFMError: a process does not start.
    """

    def __init__(
        self,
        policies: Sequence[ReadingPolicy],
        workers: int,
        seconds: float,
        decode_bytes: int,
    ) -> None:
        self.restarts = 0
        self._options = (policies, seconds, decode_bytes)
        self._workers = workers
        self._idle: queue.Queue[Worker] = queue.Queue()
        starting = [self._start() for _ in range(workers)]
        try:
            for worker in starting:  # they start in parallel
                worker.hear()
                self._idle.put(worker)
        except WorkerDeathError as death:
            for worker in starting:
                worker.close()
            raise QFMError(f"A decoding process did not start: {death}.") from None

    def decode(self, content: bytes, name: str, *, policy: int = 0) -> Reading:
        """Decodes one image; blocks while all processes are busy.

        Args:
            content: the encoded bytes.
            name: name of the image in errors.
            policy: index of the reading policy.

        Returns:
            The reading; it has an error if the image cannot be read within the limits.
        """
        worker = self._idle.get()
        try:
            worker.give(0, name, content, policy=policy)
            said = worker.hear()
            if said is None or not isinstance(said[1], Reading):
                raise WorkerDeathError("its answer is invalid")
            return said[1]
        except WorkerDeathError as death:
            worker.close()
            worker = self._replacement()
            reason = "takes longer than allowed"
            if not death.late:
                reason = "crashed or took too much memory"
            error = f"cannot read {name_of(name)}: decoding it {reason}"
            return Reading(name, error=error, too_large=True)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Ends each process when its image is done."""
        for _ in range(self._workers):
            self._idle.get().close()

    def _start(self) -> Worker:
        policies, seconds, decode_bytes = self._options
        return Worker(policies, seconds, decode_bytes=decode_bytes)

    def _replacement(self) -> Worker:
        self.restarts += 1
        worker = self._start()
        with suppress(WorkerDeathError):  # a failed start is noticed at its next image
            worker.hear()
        return worker
