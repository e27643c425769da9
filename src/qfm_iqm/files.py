"""Files that are complete or not there: checked first, written beside their place, then moved."""

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from qfm_iqm.errors import TableError


def check_output(path: Path, *endings: str, mark: str = "") -> None:
    """Refuses, before any work is done, a file that could not be written.

    Args:
        path: where to.
        endings: what its name may end in.
        mark: text that a file of ours holds in its first 64 KiB: only such a file, or an empty one,
            is replaced. Tables have `scoring.table.check_replaceable`.

    Raises:
        TableError: another ending, a folder, a place that cannot be written to, or somebody
            else's file.
    """
    if path.suffix.lower() not in endings:
        raise TableError(f"'{path}' cannot be written: its name must end in {_either(endings)}.")
    with _writing(path):
        folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
        parent = _status(folder)
        if parent is None or not stat.S_ISDIR(parent.st_mode):
            raise TableError(f"'{path}' cannot be written: there is no folder {folder}.")
        there = _status(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise TableError(f"'{path}' cannot be written: it is a folder.")
        places = (folder,) if there is None else (folder, path)
        if not all(os.access(place, os.W_OK) for place in places):
            raise TableError(f"'{path}' cannot be written: no permission.")
    if mark and there is not None and stat.S_ISREG(there.st_mode):
        with _writing(path), path.open("rb") as file:
            beginning = file.read(1 << 16)
        if beginning and mark.encode() not in beginning:
            raise TableError(
                f"'{path}' is there and is no file of this kind that qfm wrote: give another name, "
                "or remove it first."
            )


def check_distinct(
    outputs: Mapping[str, Path | None], inputs: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Refuses, before any work is done, an output that would replace an input or another output.

    Two names of one file (a link, another spelling of its path) are one place.

    Args:
        outputs: where to write, by the option that says so; None for what is not written.
        inputs: files that are read; None for what is not given. URLs are passed over.

    Raises:
        TableError: an output is one of the inputs, or two outputs are the same file.
    """
    taken: dict[object, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(_identity(path), option)
        if other != option:
            raise TableError(
                f"{other} and {option} would write the same file '{path}': give each its own name."
            )
    if not any(path is not None and path.exists() for path in outputs.values()):
        return  # nothing is replaced, and inputs may be many
    for source in inputs:
        if source is not None and (option := taken.get(_identity(source), "")):
            raise TableError(
                f"{option} would replace '{os.fspath(source)}', which this command reads: give "
                "another name."
            )


def _identity(path: str | os.PathLike[str]) -> object:
    """What is the same for all names of a file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - names of images stay as they were given
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def check_place(folder: Path) -> None:
    """Refuses, before any work is done, a folder that could not be written, or made.

    Args:
        folder: where to.

    Raises:
        TableError: a file, or a place that cannot be written to.
    """
    with _writing(folder):
        for place in (folder, *folder.absolute().parents):
            if _status(place):
                break
            if place.is_symlink():
                raise TableError(f"'{folder}' cannot be written: {place} is a link to nothing.")
        if not place.is_dir():
            raise TableError(f"'{folder}' cannot be written: {place} is no folder.")
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise TableError(f"'{folder}' cannot be written: no permission.")


def check_folder(folder: Path, marks: Collection[str], what: str, *, whole: bool = False) -> None:
    """Refuses, before any work is done, a folder that could not be written, or is somebody's own.

    Hidden files do not count: a repository of the hub holds some before a model is in it.

    Args:
        folder: where to.
        marks: names that tell an earlier output of the same kind, which may be continued or
            replaced.
        what: that kind, e.g. "model folder".
        whole: whether the folder is replaced as a whole and so may hold nothing but these.

    Raises:
        TableError: a file, a place that cannot be written to, or a folder that holds other files.
    """
    check_place(folder)
    if not folder.is_dir():
        return
    names = {entry.name for entry in folder.iterdir()}
    if whole:
        foreign = bool(names - set(marks))
    else:
        foreign = any(not name.startswith(".") for name in names) and names.isdisjoint(marks)
    if foreign:
        raise TableError(
            f"'{folder}' is there and is no {what}, but holds other files: give another name."
        )


def _either(words: tuple[str, ...]) -> str:
    """Words to choose from: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives an empty file to write to, and brings its content to `path` at the end.

    An earlier file of that name is there, whole, until then; it stays if anything is raised. It
    keeps its permissions, and a new one has those that the process's umask says. Where `path` is a
    link, the link stays and its target is written. A pipe or device cannot be replaced: the
    complete content is sent to it.

    Raises:
        TableError: the place cannot be written to.
    """
    with _writing(path):
        before = _status(path)
        if before is None or stat.S_ISREG(before.st_mode):
            with _beside(Path(os.path.realpath(path)), before) as partial:
                yield partial
        else:
            with tempfile.TemporaryDirectory() as folder:
                partial = Path(folder) / (path.name or "content")
                partial.touch()
                yield partial
                with partial.open("rb") as content, path.open("wb") as receiver:
                    shutil.copyfileobj(content, receiver)


@contextmanager
def _beside(path: Path, before: os.stat_result | None) -> Iterator[Path]:
    """Gives an empty file beside `path`, and moves it there at the end."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    # As any new file is made: the umask and the folder say who may read it.
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield partial
        if before is not None:
            with suppress(PermissionError):  # to give a file to its owner takes the right to
                os.chown(partial, before.st_uid, before.st_gid)
            partial.chmod(stat.S_IMODE(before.st_mode))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Says of what the system refuses that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise TableError(f"'{path}' cannot be written: {error.strerror}.") from error


def _status(path: Path) -> os.stat_result | None:
    """What is at a place, links followed; None if nothing is."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def writing_text(path: Path) -> Iterator[TextIO]:
    """Gives a text file in UTF-8, line ends as they are written, that replaces `path` at the end.

    File names that are no valid Unicode are written as the system gave them.

    Raises:
        TableError: the place cannot be written to.
    """
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def write_whole(text: str, path: Path) -> None:
    """Writes a text file in UTF-8, its line ends as they are, in one step.

    Raises:
        TableError: the place cannot be written to.
    """
    with writing_text(path) as file:
        file.write(text)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text; of names of any bytes too."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def copy_whole(source: Path, path: Path) -> None:
    """Copies a file's content in one step.

    Raises:
        TableError: the place cannot be written to.
    """
    with replacing(path) as partial:
        shutil.copyfile(source, partial)
