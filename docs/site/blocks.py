"""Runs the code of the documentation as a reader would: page by page, from top to bottom.

    python docs/site/blocks.py PAGE...            reports what fails or differs
    python docs/site/blocks.py --write PAGE...    writes the output of commands into the page

Each page runs in its own folder with the files that `examples/photos.py` writes. A block's language
decides how it is run:

    console     commands after `$ `, in a terminal of 120 columns; the page shows their output
    bash        commands, as one script
    python      runs in one interpreter with the page's other Python; its output must match the
                comments after each `print(...)`, or the block of text that follows

Other languages (toml, yaml, text ...) are not run. A comment before a block changes that:

    <!-- exit: 1 -->        the last command must end with this code
    <!-- setup: COMMANDS -->      is run and not shown
    <!-- not run: REASON -->      the block is not run; `qfm` must know its verbs and options
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyte
import typer

ROOT = Path(__file__).parents[2]
COLUMNS, LINES = 120, 400
RUN = ("console", "bash", "python", "setup")
BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<word>exit|not run|setup): (?P<said>.*?) -->\n)?"
    r"(?:^(?P<indent>[ ]*)```(?P<language>[a-z]+)[^\n]*\n(?P<code>.*?)^[ ]*```$)?",
    re.MULTILINE | re.DOTALL,
)
TIMES = re.compile(r"in [\d.]+ m?s\b|\([\d.]+ images/s\)|[\d.]+ images/s")
NUMBER = re.compile(r"-?\d+\.\d+")
TOLERANCE = 0.15  # of a score: processors round differently


@dataclass(frozen=True)
class Block:
    """A block of code in a page.

    Attributes:
        language: language after the fence, or setup.
        code: code without the fence and its indent.
        line: first line, counted from 1.
        span: span of the code in the page's text.
        exit: expected exit code of its last command.
        not_run: reason why it is not run; None if it is.
    """

    language: str
    code: str
    line: int
    span: tuple[int, int]
    exit: int = 0
    not_run: str | None = None

    @property
    def runs(self) -> bool:
        """Whether the block is run."""
        return self.language in RUN and self.not_run is None


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        word, said = match["word"], match["said"]
        if word == "setup":
            yield Block("setup", said, line, match.span("said"))
        if match["language"] is None:
            continue
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        yield Block(
            match["language"],
            code,
            line,
            match.span("code"),
            int(said) if word == "exit" else 0,
            said if word == "not run" else None,
        )


def run_page(page: Path, folder: Path, *, write: bool = False) -> list[str]:
    """Runs a page's blocks in a folder.

    Args:
        page: a Markdown file.
        folder: has the files of `examples/photos.py`; the current folder during the run.
        write: write the output of commands into the page.

    Returns:
        One sentence per failure.
    """
    with_ours = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PATH"] = with_ours  # with `qfm`, for Python that starts it too
    text, faults, changes = page.read_text("utf-8"), [], []
    names: dict[str, object] = {"__name__": "__main__"}
    for name in ("examples", "recipes"):
        (folder / name).symlink_to(ROOT / name)  # as in a clone
    with contextlib.chdir(folder), ending_what_was_started() as started:
        every = list(blocks_of(text))
        for block, following in zip(every, [*every[1:], *every[:1]], strict=True):
            where = f"{page.name}:{block.line}"
            if block.not_run is not None:
                found = [said for call in calls_of(block.code) for said in unknown(call)]
            elif block.language == "console":
                printed, found = run_console(block, started)
                changes.append((block.span, printed))
            elif block.language in ("bash", "setup"):
                code, printed = in_terminal(f"set -e\n{block.code}", started)
                found = [] if code == block.exit else [f"ended with {code}: {printed}"]
            elif block.language == "python":
                after = following.code if following.language == "text" else None
                printed, found = run_python(block, names, where, after)
                if after is not None:
                    changes.append((following.span, printed))
            else:
                continue
            faults += [f"{where}: {fault}" for fault in found]
    if write:
        for (start, end), printed in reversed(changes):
            text = text[:start] + printed + text[end:]
        page.write_text(text, "utf-8")
    return faults


def run_console(block: Block, started: list[int]) -> tuple[str, list[str]]:
    """The block with its commands' output, and the differences from the page."""
    # A command ends at a line without a final backslash.
    parts = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE)
    whole, faults = "", []
    for place, (command, expected) in enumerate(parts):
        code, printed = in_terminal(command, started)
        wanted = block.exit if place == len(parts) - 1 else 0
        if code != wanted:
            faults.append(f"'{command}' ended with {code}, not {wanted}: {printed}")
        if not alike(printed, expected):
            faults.append(f"'{command}' gives\n{printed}\nbut the page says\n{expected}")
        whole += f"$ {command}\n{printed}"
    return whole, faults


@contextlib.contextmanager
def ending_what_was_started() -> Iterator[list[int]]:
    """A list of process groups; ends what still runs in them after the page."""
    started: list[int] = []
    try:
        yield started
    finally:
        for group in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


def in_terminal(command: str, started: list[int]) -> tuple[int, str]:
    """Exit code of a command, and what a terminal shows at its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {
        "TERM": "xterm",
    }
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "QFM_TEST_LEDGER"):
        environment.pop(name, None)
    with subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        started.append(process.pid)
        screen = pyte.Screen(COLUMNS, LINES)
        stream = pyte.ByteStream(screen)
        with contextlib.suppress(OSError):  # on Linux, when the other end is closed
            while sent := os.read(ours, 1 << 16):
                stream.feed(sent)
    os.close(ours)
    shown = "\n".join(line.rstrip() for line in screen.display).strip("\n")
    return process.returncode, shown and shown + "\n"


def run_python(
    block: Block, names: dict[str, object], where: str, expected: str | None
) -> tuple[str, list[str]]:
    """Runs Python with the names of earlier blocks; returns its output and the faults."""
    if expected is None:
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block.code, re.MULTILINE)
        expected = "".join(f"{one}\n" for one in said) or None
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, where, "exec"), names)
    except (Exception, SystemExit) as error:
        if not isinstance(error, SystemExit) or error.code != block.exit:
            return printed.getvalue(), [f"{type(error).__name__}: {error}"]
    shown, faults = printed.getvalue(), []
    if expected is not None and not alike(shown, expected):
        faults.append(f"prints\n{shown}\nbut the page says\n{expected}")
    return shown, faults


def alike(printed: str, expected: str) -> bool:
    """Whether two outputs differ only in times, spaces and the last digits of numbers."""

    def told(text: str) -> tuple[list[str], list[float]]:
        text = TIMES.sub("TIME", text)
        return re.sub(r"─+", "─", NUMBER.sub("#", text)).split(), [
            float(number) for number in NUMBER.findall(text)
        ]

    (words, numbers), (other_words, others) = told(printed), told(expected)
    return words == other_words and all(
        abs(one - other) <= TOLERANCE for one, other in zip(numbers, others, strict=True)
    )


def calls_of(code: str) -> Iterator[list[str]]:
    """The calls of `qfm` in shell code, each split into words."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "qfm" in words:
            yield words[words.index("qfm") + 1 :]


def unknown(words: list[str]) -> Iterator[str]:
    """The verbs and options of a call that the parser does not know."""
    from qfm_iqm.cli.commands import app

    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        verb = rest.pop(0)
        if verb not in command.commands:
            yield f"qfm has no verb '{verb}'"
            return
        command = command.commands[verb]
    options = {name for parameter in command.params for name in parameter.opts}
    for word in rest:
        if word.startswith("--") and word.partition("=")[0] not in options:
            yield f"{command.name} has no option '{word}'"


def write_photos(folder: Path) -> None:
    """Fills a folder with the photos of the pages."""
    subprocess.run([sys.executable, ROOT / "examples" / "photos.py"], cwd=folder, check=True)


def main(arguments: list[str]) -> int:
    """Runs pages; the exit code is 1 if something failed."""
    write = "--write" in arguments
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch, "prepared")
        prepared.mkdir()
        write_photos(prepared)
        for number, name in enumerate(name for name in arguments if name != "--write"):
            folder = Path(scratch, str(number))
            shutil.copytree(prepared, folder)
            faults += run_page(Path(name).resolve(), folder, write=write)
    print("\n".join(faults), file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
