"""Progress of a training run: a bar with loss, speed and remaining time; one line per epoch."""

import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Reporter:
    """Shows progress on a console; prints nothing without one.

    A terminal shows a live bar; other outputs, such as a log file, get only the line per epoch.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._total, self._steps = 0.0, 0  # loss of the epoch's steps in this process

    def begin_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Starts the bar of an epoch, with `done` steps already complete."""
        self._total, self._steps = 0.0, 0
        self._bar(f"epoch {epoch + 1}/{epochs}", steps, done)

    def step(self, loss: float, crops: int) -> None:
        """Advances by one step."""
        self._total, self._steps = self._total + loss, self._steps + 1
        if self._progress is not None:
            speed = self._progress.tasks[0].speed
            rate = f"{speed * crops:.0f} crops/s" if speed else ""
            self._progress.update(self._task, advance=1, note=f"loss {self._loss():.4f}  {rate}")

    def end_epoch(self, epoch: int, figures: Mapping[str, float | None], *, best: bool) -> None:
        """Prints the figures of an epoch."""
        self.close()
        if self._console is not None:
            parts = "  ".join(
                f"{key.removesuffix('/srcc')} {value:.4f}"
                for key, value in figures.items()
                if key.endswith("/srcc") and value is not None
            )
            mark = "  (best so far)" if best else ""
            self._console.print(
                f"epoch {epoch + 1}: loss {self._loss():.4f}  validation SRCC: {parts}{mark}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def say(self, sentence: str) -> None:
        """Prints one sentence."""
        self.close()
        if self._console is not None:
            self._console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def _loss(self) -> float:
        """The mean loss of the epoch's steps so far; without those before a resumption."""
        return self._total / self._steps if self._steps else math.nan

    def scoring(self, items: Iterator[T], total: int, title: str = "scoring") -> Iterator[T]:
        """Yields the items and shows a progress bar."""
        self._bar(title, total, 0)
        for item in items:
            if self._progress is not None:
                self._progress.update(self._task, advance=1)
            yield item
        self.close()

    def _bar(self, title: str, total: int, done: int) -> None:
        self.close()
        if self._console is None or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, note="")
        self._progress.start()

    def close(self) -> None:
        """Removes the bar and restores the cursor, wherever training stopped."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def in_bytes(count: float) -> str:
    """Formats an amount of memory, as "12.3 MiB"."""
    units = ("bytes", "KiB", "MiB", "GiB")
    power = min(len(units) - 1, int(math.log(max(count, 1), 1024)))
    return f"{count / 1024**power:.{min(power, 1)}f} {units[power]}"
