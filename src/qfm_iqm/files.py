"""Writes files atomically: checks the path, writes a file beside it, then renames that."""

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
    """Raises, before any work is done, if a file cannot be written.

    Args:
        path: file to write.
        endings: allowed file extensions.
        mark: text in the first 64 KiB of a file that this package wrote: only such a file, or an
            empty one, is replaced. For tables, see `scoring.table.check_replaceable`.

    Raises:
        TableError: the extension is wrong, the path is a folder, not writable, or a file that this
            package did not write.
    """
    if path.suffix.lower() not in endings:
        raise TableError(f"'{path}' cannot be written: its name must end in {_either(endings)}.")
    with writing(path):
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
        with writing(path), path.open("rb") as file:
            beginning = file.read(1 << 16)
        if beginning and mark.encode() not in beginning:
            raise TableError(
                f"'{path}' exists and is not a file of this kind written by qfm: choose another "
                "name, or remove it first."
            )


def check_distinct(
    outputs: Mapping[str, Path | None], inputs: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Raises, before any work is done, if an output would replace an input or another output.

    Two names of one file (a link, another spelling of its path) count as the same.

    Args:
        outputs: files to write by option name; None if not written.
        inputs: files to read; None if not given. URLs are ignored.

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
                f"{other} and {option} would write the same file '{path}': give them different "
                "names."
            )
    if not any(path is not None and path.exists() for path in outputs.values()):
        return  # nothing is replaced; there may be many inputs
    for source in inputs:
        if source is not None and (option := taken.get(_identity(source), "")):
            raise TableError(
                f"{option} would replace '{os.fspath(source)}', which this command reads: choose "
                "another name."
            )


def _identity(path: str | os.PathLike[str]) -> object:
    """A key that is equal for all names of a file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - names of images stay as they were given
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def check_place(folder: Path) -> None:
    """Raises, before any work is done, if a folder cannot be written or created.

    Args:
        folder: folder to write.

    Raises:
        TableError: the path is a file or not writable.
    """
    with writing(folder):
        for place in (folder, *folder.absolute().parents):
            if _status(place):
                break
            if place.is_symlink():
                raise TableError(f"'{folder}' cannot be written: {place} is a broken link.")
        if not place.is_dir():
            raise TableError(f"'{folder}' cannot be written: {place} is not a folder.")
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise TableError(f"'{folder}' cannot be written: no permission.")


def check_folder(folder: Path, marks: Collection[str], what: str, *, whole: bool = False) -> None:
    """Raises, before any work is done, if a folder cannot be written or holds foreign files.

    Hidden files do not count: a repository of the hub has some before it holds a model.

    Args:
        folder: folder to write.
        marks: names that identify an earlier output of the same kind, which may be continued or
            replaced.
        what: the kind of output with its article, e.g. "a model folder".
        whole: the folder is replaced as a whole, so it may hold only files in `marks`.

    Raises:
        TableError: the path is a file, not writable, or a folder with other files.
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
            f"'{folder}' exists and is not {what}, but holds other files: choose another name."
        )


def _either(words: tuple[str, ...]) -> str:
    """Joins words as `a, b or c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields an empty file to write to, and moves it to `path` at the end.

    An existing file stays complete until then, also if anything is raised. Its owner and
    permissions are kept; a new file gets those of the process's umask. If `path` is a link, its
    target is replaced. A pipe or device cannot be replaced: the complete content is sent to it.

    Raises:
        TableError: the file cannot be written.
    """
    with writing(path):
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
    """Yields an empty file beside `path`, and renames it to `path` at the end."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    # Created like any new file, so that the umask and the folder determine its permissions.
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield partial
        if before is not None:
            with suppress(PermissionError):  # changing the owner needs privileges
                os.chown(partial, before.st_uid, before.st_gid)
            partial.chmod(stat.S_IMODE(before.st_mode))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an `OSError` into a `TableError`: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise TableError(f"'{path}' cannot be written: {error.strerror}.") from error


def _status(path: Path) -> os.stat_result | None:
    """The status of a path, following links; None if nothing is there."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def writing_text(path: Path) -> Iterator[TextIO]:
    """Yields a UTF-8 text file, line ends unchanged, that replaces `path` at the end.

    File names that are not valid Unicode are written as their original bytes.

    Raises:
        TableError: the file cannot be written.
    """
    with (
        replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def write_whole(text: str, path: Path) -> None:
    """Writes a UTF-8 text file in one step, line ends unchanged.

    Raises:
        TableError: the file cannot be written.
    """
    with writing_text(path) as file:
        file.write(text)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text, which may hold file names that are not valid Unicode."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def copy_whole(source: Path, path: Path) -> None:
    """Copies a file's content in one step.

    Raises:
        TableError: the file cannot be written.
    """
    with replacing(path) as partial:
        shutil.copyfile(source, partial)
