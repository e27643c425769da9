"""Finds the files that the paths on a command line stand for."""

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any, NamedTuple

from qfm_iqm.errors import QFMError
from qfm_iqm.image.archive import is_archive, read_archive
from qfm_iqm.image.boxes import movie_seconds
from qfm_iqm.image.containers import VIDEO_SUFFIXES
from qfm_iqm.image.decode import open_file
from qfm_iqm.image.fetch import is_url, is_web
from qfm_iqm.image.formats import SUFFIXES
from qfm_iqm.image.raw import RAW_SUFFIXES
from qfm_iqm.text_tables import as_utf8

StrPath = str | os.PathLike[str]

LIVE_SECONDS = 5.0  # a longer movie next to a photo is a separate video
_CAMERA = frozenset({".jpg", ".jpeg", ".heic", ".heif", ".hif"})  # written by cameras next to RAW

_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")  # all but tabs and line endings
_NO_NAMES = {b"/", b"\\", b"\n", b"\r"}  # single bytes that no list of files names


@dataclass(frozen=True)
class FoundFiles:
    """The files under some paths.

    Attributes:
        files: unique files, spelled as under the given path; named files keep their order, those of
            a folder are sorted.
        skipped: number of files in folders whose names were not selected.
        unreadable: folders that could not be listed.
        folders: number of paths that were folders or archives.
        joined: number of files in folders that belong to another file (`followers`).
    """

    files: tuple[str, ...]
    skipped: int
    unreadable: tuple[str, ...]
    folders: int = 0
    joined: int = 0

    @property
    def videos(self) -> list[str]:
        """The files with a video's extension."""
        return [file for file in self.files if is_video_name(os.path.basename(file))]  # noqa: PTH119


class _Listed(NamedTuple):
    """A file of a folder.

    Attributes:
        path: path of the file.
        name: its file name; files with an empty name are always taken.
        within: path within the folder.
        image: whether it is known to be an image, whatever its name.
    """

    path: str
    name: str = ""
    within: str = ""
    image: bool = False


def find_images(
    paths: Iterable[str],
    *,
    all_files: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    videos: bool = False,
    pairs: bool = True,
    archives: bool = False,
) -> FoundFiles:
    """Finds image files: in folders recursively by extension; named files are always taken.

    Hidden files (names that begin with a dot) and links to folders, which may form a cycle, are
    skipped. A URL counts as a file unless its file system says that it is a folder; a web address
    is always a file.

    Args:
        paths: files, folders and URLs. A named file is taken whatever its name, even if it does not
            exist: reading it gives a row with the error.
        all_files: take every file in folders, whatever its name, including hidden ones.
        include: shell patterns; files in folders that match one are taken, whatever their
            extension. A pattern without a slash is matched with the name, one with a slash with the
            path within the folder.
        exclude: shell patterns of files to leave out, matched likewise.
        videos: also take videos.
        pairs: if several files in a folder are one photo, take only the main one.
        archives: treat tar archives and Parquet files as folders with files such as
            `shard.tar/000017.jpg`. A damaged archive is also taken as a file: reading it gives a
            row with the error.
    """
    found: dict[str, None] = {}
    unreadable: list[str] = []
    skipped = folders = joined = 0
    for path in paths:
        listed = _listed(path, all_files, unreadable, archives)
        if listed is None:
            found[path] = None
            continue
        folders += 1
        chosen = []
        for file, name, within, certain in listed:
            known = certain or is_image(name) or (videos and is_video_name(name))
            wanted = _matches(name, within, include) if include else all_files or known
            if not name or (wanted and not _matches(name, within, exclude)):
                chosen.append(file)
            else:
                skipped += 1
        left_out = followers(chosen) if pairs else set()
        joined += len(left_out)
        found.update(dict.fromkeys(file for file in chosen if file not in left_out))
    return FoundFiles(tuple(found), skipped, tuple(unreadable), folders, joined)


def _listed(
    path: str, all_files: bool, unreadable: list[str], archives: bool
) -> Iterator[_Listed] | None:
    """Lists the files of a folder; None if the path is not a folder."""
    if is_url(path):
        return _remote_folder(path)
    if archives and is_archive(path):
        return _members(path, "", all_files)
    if os.path.isdir(path):  # noqa: PTH112 - the name is kept as it was given
        listed = _local_folder(path, all_files, unreadable)
        return _with_members(listed, all_files) if archives else listed
    return None


def _with_members(listed: Iterator[_Listed], all_files: bool) -> Iterator[_Listed]:
    """Replaces each archive among the files of a folder by its members."""
    for one in listed:
        if is_archive(one.path) and not one.name.startswith(".") and not _is_table(one.path):
            yield from _members(one.path, f"{one.within}/", all_files)
        else:
            yield one


def _is_table(path: str) -> bool:
    try:
        return read_archive(path).is_table
    except OSError:
        return False


def _members(path: str, within: str, all_files: bool) -> Iterator[_Listed]:
    try:
        archive = read_archive(path)
    except OSError:
        yield _Listed(path)
        return
    for member in archive.members:
        *folders, name = member.split("/")
        hidden = any(f.startswith(".") and f != "." for f in folders)
        if all_files or archive.only_images or not hidden:
            yield _Listed(f"{path}/{member}", name, within + member, archive.only_images)
    if archive.damage:
        yield _Listed(path)


def _local_folder(path: str, all_files: bool, unreadable: list[str]) -> Iterator[_Listed]:
    walk = os.walk(path, onerror=lambda error: unreadable.append(str(error.filename)))
    for folder, folders, names in walk:
        folders[:] = sorted(f for f in folders if all_files or not f.startswith("."))
        for name in sorted(names):
            file = os.path.join(folder, name)  # noqa: PTH118 - keeps "./"
            yield _Listed(file, name, file[len(path) :].lstrip("/"))


def _remote_folder(url: str) -> Iterator[_Listed] | None:
    if is_web(url):
        return None
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        if not system.isdir(root):
            return None
        files = sorted(system.find(root))
    except Exception:  # each file system has its own exceptions
        return None  # reading the file will raise the error
    return (
        _Listed(
            system.unstrip_protocol(file), file.rsplit("/", 1)[-1], file[len(root) :].lstrip("/")
        )
        for file in files
    )


def followers(files: Iterable[str]) -> set[str]:
    """The files that belong to another one: RAW files with a JPEG, movies of Live Photos.

    They are recognized by names and, for movies, length. Names match if they are in the same folder
    and differ only in their extensions.

    Args:
        files: paths and URLs.

    Returns:
        Those whose main photo is also in `files`.
    """
    beside: dict[str, dict[str, str]] = {}
    for file in files:
        stem, suffix = os.path.splitext(file)  # noqa: PTH122 - names may hold any bytes
        beside.setdefault(stem, {})[suffix.lower()] = file
    found = set()
    for group in beside.values():
        if _CAMERA.isdisjoint(group):
            continue
        found |= {group[suffix] for suffix in RAW_SUFFIXES.intersection(group)}
        if ".mov" in group and _is_short(group[".mov"]):
            found.add(group[".mov"])
    return found


def _is_short(file: str) -> bool:
    """Whether a movie is as short as that of a Live Photo, by its header."""
    seconds = None
    with suppress(Exception), _opened(file) as stream:  # reading it later will raise the error
        seconds = movie_seconds(stream)
    return seconds is not None and seconds <= LIVE_SECONDS


def _opened(file: str) -> Any:
    if is_url(file):
        import fsspec

        return fsspec.open(file, "rb")
    return open_file(file)


def read_list(source: IO[bytes], name: str) -> list[str]:
    """Reads a list of files: one per line, or null-terminated as by `find -print0`.

    With a byte order mark it may be UTF-16 or UTF-32, else UTF-8; without a mark, names are kept
    byte by byte, as the system gives them.

    Raises:
        QFMError: the list is empty or invalid.
    """
    try:
        content, _ = as_utf8(source.read())
    except UnicodeDecodeError as error:
        raise QFMError(
            f"The list {name} begins like {error.encoding}, but is damaged: save it as UTF-8."
        ) from error
    found = content.split(b"\0") if b"\0" in content else content.splitlines()
    lines = [line for line in found if line]
    # UTF-16 without a mark, split at its nulls, could name the root of the file system.
    alone = (len(a) == len(b) == 1 and b"." in (a, b) for a, b in pairwise(lines))
    if b"\0" in content and (not _NO_NAMES.isdisjoint(lines) or any(alone)):
        raise QFMError(
            f"The list {name} has null characters between single characters, like UTF-16 without "
            "a byte order mark, or is not a list at all: save it as UTF-8."
        )
    if _CONTROLS.search(content):
        raise QFMError(f"The list {name} is not text: it must hold the path of one file per line.")
    if not lines:
        raise QFMError(f"The list {name} names no file.")
    return [os.fsdecode(line) for line in lines]


def is_image(name: str) -> bool:
    """Whether a file name is that of an image."""
    return _suffix(name) in SUFFIXES and not name.startswith(".")


def is_video_name(name: str) -> bool:
    """Whether a file name is that of a video."""
    return _suffix(name) in VIDEO_SUFFIXES and not name.startswith(".")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - names may hold any bytes


def _matches(name: str, within: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(within if "/" in p else name, p) for p in patterns)


def path_text(path: StrPath) -> str:
    """A path as text.

    Raises:
        TypeError: the value is not a path.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise not_a_path(path)
    return text


def not_a_path(found: object) -> TypeError:
    """The error for a value that is not a path of a file to score."""
    return TypeError(
        f"paths must be of type str or os.PathLike, not {type(found).__name__}: QualityModel.score "
        "takes bytes and images, Scorer.score_batch takes tensors"
    )
