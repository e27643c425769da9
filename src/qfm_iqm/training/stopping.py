"""Being asked to stop: the running step is finished, the state saved, and the run ends."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class InterruptedRunError(Exception):
    """The run was asked to stop; its state is on disk."""


class StopRequest:
    """While entered, Ctrl-C and a termination signal ask to stop; a second one stops at once.

    Attributes:
        asked: whether somebody has asked.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        try:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._ask)
        except ValueError:
            pass  # not in the main thread: signals are somebody else's
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signum, signal.default_int_handler)
