"""The exit codes of `qfm`, also used for the documentation and the man page."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """An exit code.

    Attributes:
        meaning: description for users.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """A code with its meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    DONE = 0, "Done. `qfm gate`: every image passes or is within the review band."
    FINDINGS = (
        1,
        "Done, but a file could not be scored, a folder could not be listed or a sidecar could not "
        "be written. `qfm gate`: an image fails. `qfm data check`: the download is incomplete.",
    )
    FAILED = (
        2,
        "The call was wrong, or qfm itself failed. `qfm gate`: an image could not be scored.",
    )
    INTERRUPTED = (
        130,
        "Interrupted by Ctrl-C; `--resume` continues. (`qfm serve` then exits with 0.)",
    )
    READER_LEFT = 141, "The program that read the output has ended, as in `qfm ... | head`."
