"""Options that several verbs share, so that name, help and meaning are the same everywhere."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from qfm_iqm.errors import InterruptedRunError, QFMError, printable
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.files import check_output

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

LEAST_RESAMPLES = 100  # for an interval
LINE_EVERY = 30.0  # seconds between progress lines without a terminal
_SURE = 10  # items before the remaining time is estimated


def _models(incomplete: str) -> list[str]:
    """Completions of a model's name; the shell adds files itself."""
    from qfm_iqm.model.locate import packaged_models

    return [name for name in packaged_models() if name.startswith(incomplete)]


def _enough(resamples: int) -> int:
    """Refuses a number of resamples from which no interval can be told."""
    if resamples != 0 and resamples < LEAST_RESAMPLES:
        raise typer.BadParameter(f"{resamples} is too few, take 0 or at least {LEAST_RESAMPLES}")
    return resamples


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A model of the package, a model folder, or hub:owner/name.",
        show_default=True,
        autocompletion=_models,
    ),
]
ModelOrNone = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model of the package, a model folder, or hub:owner/name. Default: default.",
        autocompletion=_models,
    ),
]
Recipe = Annotated[Path, typer.Argument(help="A recipe: TOML.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a key of the recipe: --set train.epochs=4. May be repeated."
    ),
]
RunOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/NAME.")
]
Results = Annotated[Path | None, typer.Option(help="Folder that also gets the figures.")]
ModelOut = Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")]
Labels = Annotated[Path, typer.Argument(help="Table name,mos[,content,...]: CSV or Parquet.")]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder that the table's names are relative to. Default: the table's own."),
]
Label = Annotated[str, typer.Option(help="Column of the labels.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="Train on this dataset of `qfm data list`: its download is data.root."),
]
LowerIsBetter = Annotated[
    bool, typer.Option("--lower-is-better", help="Low labels mean good photos, as for DMOS.")
]
Split = Annotated[
    Literal["train", "validation", "test"] | None,
    typer.Option(help="Only this split of the table, as the model's card records it."),
]
By = Annotated[
    str | None, typer.Option(help="Column of the table whose groups are reported as well.")
]
Bootstrap = Annotated[
    int,
    typer.Option(
        help=f"Resamples behind each 95 % interval, at least {LEAST_RESAMPLES}; 0 for none.",
        callback=_enough,
    ),
]
AllowLeaks = Annotated[
    bool, typer.Option("--allow-leaks", help="Continue even if splits share images.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: a GPU if there is one.")
]
Runtime = Annotated[
    str | None,
    typer.Option(
        help="torch, onnx, openvino, or auto for the fastest that is installed. Default: the "
        "model's own (onnx for the default model on a CPU). For any other, the model is converted "
        "once and kept."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, int8 (onnx, openvino) or bf16 (torch). Default: the model's own."),
]
Photos = Annotated[list[str] | None, typer.Argument(help="Images, and folders of images.")]
ListFile = Annotated[
    str | None, typer.Option("--list", help="File with one path per line; - reads it from stdin.")
]
Include = Annotated[
    list[str] | None,
    typer.Option(help="Take only files in folders whose name matches, e.g. '*.png'."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out files in folders whose name matches.")
]
Resume = Annotated[
    bool,
    typer.Option(help="Continue an interrupted run of this table, or join one that is running."),
]
Readers = Annotated[
    int | None,
    typer.Option(help="Processes that read images. Default: one per core, at most 8.", min=1),
]
AllFiles = Annotated[bool, typer.Option(help="Take every file in folders, whatever its name.")]
Raw = Annotated[
    Literal["preview", "develop"],
    typer.Option(
        help="Camera RAW: score the embedded preview, or the developed photo if it is too small; "
        "or always develop."
    ),
]
NoPairs = Annotated[
    bool,
    typer.Option(
        "--no-pairs",
        help="In folders, score both files of a Live Photo, and of a RAW file beside its JPEG.",
    ),
]
MaxMegapixels = Annotated[float, typer.Option(help="Larger images are refused.", min=0)]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="Memory for everything but pages of Parquet files, like 2GB. Default: half of what is "
        "free."
    ),
]

_LEAST_MEMORY = 500_000_000  # program, one reader process and `image.memory_budget.LEAST`
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def refuse_idle(options: Mapping[str, object], where: str, or_else: str = "") -> None:
    """Raises if options are given that have no effect in this call.

    Args:
        options: option values by name; None, False and an empty list mean not given.
        where: condition under which they have no effect, e.g. "without --table".
        or_else: an alternative for the message, e.g. ", or give --table".
    """
    given = [
        name
        for name, value in options.items()
        if value is not None and value is not False and value != []
    ]
    if given:
        has, it = ("have", "them") if len(given) > 1 else ("has", "it")
        raise QFMError(f"{' and '.join(given)} {has} no effect {where}: leave {it} out{or_else}.")


def parse_bytes(text: str) -> int:
    """Parses the value of --max-memory, like 2GB, 800M or 1.5 G."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if found is None or not float(found[1]):
        raise QFMError(f"--max-memory takes an amount like 2GB or 800MB, not '{text}'.")
    amount = round(float(found[1]) * _UNITS[found[2]])
    if amount < _LEAST_MEMORY:
        raise QFMError(
            f"--max-memory must be at least 500MB, which qfm itself needs, not '{text}'."
        )
    return amount


def millions(value: float, option: str) -> int:
    """Converts an option's megapixels or megabytes to pixels or bytes, at least one."""
    if not math.isfinite(value) or round(value * 1e6) < 1:
        raise QFMError(f"{option} must be a finite number from 0.000001 on, not {value:g}.")
    return round(value * 1e6)


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Names the extra to install if an import in the block fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise QFMError(
            f"{purpose} needs {error.name}: install it with pip install 'qfm-iqm[{name}]'."
        ) from error


def check_figure(path: Path, purpose: str, *, mark: str = "") -> None:
    """Raises if a figure cannot be written, or matplotlib is not installed.

    Args:
        path: file to write.
        purpose: name of the figure in the error message.
        mark: see `files.check_output`.
    """
    with extra("figures", purpose):
        from qfm_iqm.report.drawing import ENDINGS
    check_output(path, *ENDINGS, mark=mark)


def messages() -> Console:
    """Console for messages: on stderr, as stdout is for results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(console: Console, sentence: str, style: str | None = None) -> None:
    """Prints a sentence as one line, without markup."""
    try:
        console.print(printable(sentence), style=style, markup=False, soft_wrap=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Work continues without messages.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def ignore_interrupts() -> None:
    """Ignores further presses of Ctrl-C: the first one is being handled, which is quick."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def interruptible(console: Console, sentence: str) -> Iterator[None]:
    """On Ctrl-C, says what is written or how to resume; `main` would say that nothing was."""
    try:
        yield
    except (InterruptedRunError, KeyboardInterrupt):
        ignore_interrupts()
        say(console, f"Interrupted: {sentence}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def with_progress(items: Iterator[T], total: int, title: str, console: Console) -> Iterator[T]:
    """Yields the items and shows progress: a bar on a terminal, otherwise occasional lines."""
    if not console.is_terminal:
        yield from _with_lines(items, total, title, console)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        for item in items:
            bar.advance(task)
            yield item


def _with_lines(items: Iterator[T], total: int, title: str, console: Console) -> Iterator[T]:
    """Prints a progress line every `LINE_EVERY` seconds, so nothing for short work."""
    began = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= LINE_EVERY and done < total:
            left = (now - began) / done * (total - done)
            when = f", {left / 60:.0f} min left" if done >= _SURE else ""
            console.print(f"{title}: {done} of {total}{when}", soft_wrap=True)
            said = now


def check_device(name: str | None) -> None:
    """Raises if torch does not know the device or this machine does not have it."""
    if name is None:
        return
    import torch

    try:
        torch.empty(0, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise QFMError(f"The device '{name}' cannot be used: {reason}") from error
