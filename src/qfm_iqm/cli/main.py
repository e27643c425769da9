"""Entry point of `qfm`: turns user errors and Ctrl-C into one sentence and an exit code.

Only standard library modules are imported before `main` runs, so that it handles Ctrl-C early.
`ExitCode` lists the exit codes.
"""

import errno
import os
import sys
from contextlib import suppress

# Errors of the operating system that the user's path causes, wherever they occur.
_REFUSALS = {
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EIO,
    errno.ENOSPC, errno.EDQUOT, errno.ESTALE,
}  # fmt: skip


def main() -> None:
    """Entry point of the `qfm` command."""
    try:
        _main()
    except KeyboardInterrupt:
        exec("")  # resets a flag of Python: else it dies by SIGINT if Ctrl-C ended an `exec`
        print("Interrupted: nothing was written.", file=sys.stderr)
        sys.exit(130)  # ExitCode.INTERRUPTED, which may not be imported yet


def _main() -> None:
    from qfm_iqm.exit_codes import ExitCode
    from qfm_iqm.processes import keep_current_folder_out

    keep_current_folder_out()
    _open_closed_streams()
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]  # rich would print nothing
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.READER_LEFT
    except OSError as error:
        reason = "stdout is closed" if _is_closed(error) else error.strerror
        with suppress(OSError):  # stderr may be full too
            _say(f"The output cannot be written: {reason}.")
        code = ExitCode.FAILED
    else:
        sys.exit(code)
    # Else flushing the buffers when Python exits would fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.exit(code)


def _run() -> str | int | None:
    """Runs the command line and returns its exit code.

    Raises:
        OSError: the output cannot be written; `BrokenPipeError` if its reader has closed it.
    """
    from qfm_iqm.cli.commands import app
    from qfm_iqm.errors import QFMError
    from qfm_iqm.exit_codes import ExitCode

    try:
        app()
    except QFMError as error:
        _say(str(error))
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # typer or rich turned it into a code
            raise left.__context__ from None
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            raise KeyboardInterrupt from None  # typer turned it into a code
        return left.code
    except OSError as error:
        if isinstance(error, BrokenPipeError) or _is_refused(error):
            raise
        if isinstance(error.filename, str) and error.errno in _REFUSALS:
            _say(f"'{error.filename}' cannot be used: {error.strerror}.")
        elif _is_homeless():
            _say("The current folder was removed: change to another one.")
        else:
            _print_traceback()
    except Exception:  # a bug; Python's exit code 1 has another meaning here
        _print_traceback()
    return ExitCode.FAILED


def _say(sentence: str) -> None:
    """Prints a sentence as one line."""
    from qfm_iqm.errors import printable

    print(f"qfm: {printable(sentence)}", file=sys.stderr)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _is_homeless() -> bool:
    """Whether the current folder was removed, so that a relative path leads nowhere."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib is imported later
    except FileNotFoundError:
        return True
    return False


def _is_refused(error: OSError) -> bool:
    """Whether stdout is full or closed: errors of named files have a file name."""
    return (error.errno == errno.ENOSPC and error.filename is None) or _is_closed(error)


def _is_closed(error: OSError) -> bool:
    """Whether stdout was closed and `_open_closed_streams` replaced it."""
    import fcntl

    writing = fcntl.fcntl(1, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
    return error.errno == errno.EBADF and not writing


def _open_closed_streams() -> None:
    """Replaces standard streams that the caller has closed (`>&-`) by the null device.

    Else the first opened file would get a stream's descriptor, and terminal output would go into
    it. The replacement of stdout is read-only, so that writing to it fails and no output is lost
    silently.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        if handle == 1:
            os.dup2(reading := os.open(os.devnull, os.O_RDONLY), 1)
            os.close(reading)
    os.close(handle)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
