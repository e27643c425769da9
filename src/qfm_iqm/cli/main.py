"""`qfm`: the one place where a user's mistake, and Ctrl-C, become a sentence.

Nothing but Python's own modules is imported before `main` runs: Ctrl-C is heeded from there on.
`ExitCode` lists the exit codes.
"""

import errno
import os
import sys

# What the system says of a place that somebody named, wherever it is come upon.
_REFUSALS = {
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EIO,
    errno.ENOSPC, errno.EDQUOT, errno.ESTALE,
}  # fmt: skip


def main() -> None:
    """Entry point of the `qfm` command."""
    try:
        _main()
    except KeyboardInterrupt:
        exec("")  # else Python, where Ctrl-C ended an `exec`, dies by the signal in place of a code
        print("Interrupted: nothing was written.", file=sys.stderr)
        sys.exit(130)  # ExitCode.INTERRUPTED, which may not be there yet


def _main() -> None:
    from qfm_iqm.exit_codes import ExitCode
    from qfm_iqm.processes import keep_current_folder_out

    keep_current_folder_out()
    _open_closed_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.READER_LEFT
    except OSError as error:
        reason = "stdout is closed" if _is_closed(error) else error.strerror
        _say(f"The output cannot be written: {reason}.")
        code = ExitCode.FAILED
    else:
        sys.exit(code)
    # What is still held back for a reader would fail once more when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2) if code == ExitCode.READER_LEFT else (1,):
        os.dup2(nowhere, stream)
    sys.exit(code)


def _run() -> str | int | None:
    """Runs the verb that was asked for, and gives its exit code.

    Raises:
        OSError: the output cannot be written; `BrokenPipeError` if nobody reads it any more.
    """
    from qfm_iqm.cli.commands import app
    from qfm_iqm.errors import QFMError
    from qfm_iqm.exit_codes import ExitCode

    try:
        app()
    except QFMError as error:
        _say(str(error))
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # that typer and rich made a code of
            raise left.__context__ from None
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            raise KeyboardInterrupt from None  # that typer made a code of
        return left.code
    except OSError as error:
        if isinstance(error, BrokenPipeError) or _is_refused(error):
            raise
        if isinstance(error.filename, str) and error.errno in _REFUSALS:
            _say(f"'{error.filename}' cannot be used: {error.strerror}.")
        else:
            _print_traceback()
    except Exception:  # a defect; Python's own code 1 would be an answer here
        _print_traceback()
    return ExitCode.FAILED


def _say(sentence: str) -> None:
    """Prints a sentence as one line: line ends and control codes in names are written out."""
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in sentence)
    print(f"qfm: {''.join(shown)}", file=sys.stderr)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _is_refused(error: OSError) -> bool:
    """Whether the output has no room or is closed; of a file, an error names it."""
    return (error.errno == errno.ENOSPC and error.filename is None) or _is_closed(error)


def _is_closed(error: OSError) -> bool:
    """Whether stdout is what `_open_closed_streams` put in its place."""
    import fcntl

    writing = fcntl.fcntl(1, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
    return error.errno == errno.EBADF and not writing


def _open_closed_streams() -> None:
    """Opens the null device in place of standard streams that the caller has closed (`>&-`).

    Else the first file that is opened would take a stream's number, and what is meant for the
    terminal would go into it. What is written to a closed stdout is lost, and so fails: it is open
    for reading alone.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        if handle == 1:
            os.dup2(reading := os.open(os.devnull, os.O_RDONLY), 1)
            os.close(reading)
    os.close(handle)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
