"""Images in Parquet files, as stored by Hugging Face datasets.

Each row is an image, in the column of type `datasets.Image` ({bytes, path}) or else in the only
column of bytes.

Design choices:
* A row's name is its path if that is unique, or else its number, counted from 0.
* Rows are read forward in their row group, one at a time. Read positions are kept, so that rows in
  order are read only once. A position holds one page of one column, which in files from `datasets`
  is at most a row group of 100 images.
* A row with a path but no bytes is an error: a foreign file must not choose which local files are
  read.

Sources: Apache Parquet; `datasets.Image.embed_storage`.
"""

from __future__ import annotations

import io
import json
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

from qfm_iqm.errors import DAMAGED, ImageError

if TYPE_CHECKING:
    import pyarrow as pa

_BUFFER = 1 << 20  # bytes read at a time
_NAMES = 1 << 16  # names read at a time
_PLACES = 4  # read positions kept per process


@dataclass(frozen=True, eq=False)
class ParquetArchive:
    """The index of the images in a Parquet file; see `image.archive.Archive`.

    Attributes:
        path: path of the file.
        members: row of each image, by name.
        damage: why images may be missing; empty if the file is intact.
        is_table: whether it has no column of images.
        column: the column of bytes, with a dotted path to its field.
        starts: first row of each row group.
        metadata: the file's metadata from pyarrow.
    """

    path: str
    members: Mapping[str, int] = field(default_factory=dict)
    damage: str = ""
    is_table: bool = False
    column: str = ""
    starts: Sequence[int] = ()
    metadata: Any = None

    kind = "a Parquet file"
    only_images = True

    def open(self, name: str) -> BinaryIO:
        """Reads the image of a row."""
        row = self.members[name]
        group = bisect_right(self.starts, row) - 1
        try:
            content = _places.read(self, group, row - self.starts[group])
        except Exception as error:
            raise _refusal(error) from error
        if content is None:
            raise ImageError(
                "its row holds no image bytes; to score a file that it names, give that file's path"
            )
        return io.BytesIO(content)


def read_parquet(path: str) -> ParquetArchive:
    """Reads the index of the images in a Parquet file.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        file = _opened(path)
        columns = _columns(file.schema_arrow)
        if not columns:
            return ParquetArchive(path, damage="none of its columns holds images", is_table=True)
        if len(columns) > 1 and "image" not in columns:
            named = ", ".join(columns)
            return ParquetArchive(
                path, damage=f"several of its columns hold images ({named}); see ScoreColumns"
            )
        column = "image" if "image" in columns else columns[0]
        kind = file.schema_arrow.field(column).type
        names: list[str | None] = [None] * file.metadata.num_rows
        if _is_image(kind) and kind.get_field_index("path") >= 0:
            names = _names(file, f"{column}.path")
        counts = Counter(names)
        members = {
            name if name and counts[name] == 1 and not name.isdecimal() else str(row): row
            for row, name in enumerate(names)
        }
        groups = (file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))
        return ParquetArchive(
            path,
            members,
            column=f"{column}.bytes" if _is_image(kind) else column,
            starts=list(accumulate(groups, initial=0))[:-1],
            metadata=file.metadata,
        )
    except Exception as error:
        return ParquetArchive(path, damage=str(_refusal(error)))


def _opened(path: str, metadata: Any = None) -> Any:
    # Imported here so that photos outside of Parquet files do not wait for pyarrow.
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, metadata=metadata, buffer_size=_BUFFER, pre_buffer=False)


def _refusal(error: Exception) -> ImageError:
    """The error to raise for pyarrow's exceptions, which are of almost any kind on damaged files.

    Raises:
        OSError: the system refuses the file.
        MemoryError: there is not enough memory.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
        raise error
    return error if isinstance(error, ImageError) else ImageError(DAMAGED)


def _columns(schema: pa.Schema) -> list[str]:
    """The columns that may hold images."""
    told = _told(schema)
    if told is not None:
        return [name for name in told if name in schema.names]
    found = [field.name for field in schema if _is_image(field.type)]
    alone = [field.name for field in schema if _is_bytes(field.type)]
    return found or (alone if len(alone) == 1 or "image" in alone else [])


def _told(schema: pa.Schema) -> list[str] | None:
    """The image columns in the metadata of `datasets`; None if there is no such metadata."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return [name for name, feature in features.items() if feature.get("_type") == "Image"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _is_image(kind: pa.DataType) -> bool:
    """Whether a type is {bytes, ...}."""
    import pyarrow as pa

    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_bytes(kind.field("bytes").type)


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _names(file: Any, column: str) -> list[str | None]:
    batches = file.iter_batches(batch_size=_NAMES, columns=[column], use_threads=False)
    return [name for batch in batches for name in _leaf(batch).to_pylist()]


def _leaf(batch: pa.RecordBatch) -> pa.Array:
    """The only column of a batch, or that column's first field."""
    import pyarrow as pa

    found = batch.column(0)
    return found.flatten()[0] if pa.types.is_struct(found.type) else found


class _Place:
    """A read position in a row group."""

    def __init__(self, archive: ParquetArchive, group: int) -> None:
        self.of = archive, group
        self.at = 0
        self._file = _opened(archive.path, archive.metadata)
        self._batches: Iterator[pa.RecordBatch] = self._file.iter_batches(
            batch_size=1, row_groups=[group], columns=[archive.column], use_threads=False
        )
        self.rows = archive.metadata.row_group(group).num_rows

    def read(self, row: int) -> bytes | None:
        """The bytes of a row at or after the position."""
        while self.at <= row:
            batch = next(self._batches)
            self.at += batch.num_rows
        content: bytes | None = _leaf(batch)[row - self.at].as_py()
        return content

    def close(self) -> None:
        self._file.close()


class _Places:
    """The read positions of a process, last used at the end; one thread at a time uses each."""

    def __init__(self) -> None:
        self._free: list[_Place] = []
        self._lock = threading.Lock()

    def read(self, archive: ParquetArchive, group: int, row: int) -> bytes | None:
        """The bytes of a row of a group."""
        place = self._nearest(archive, group, row) or _Place(archive, group)
        try:
            content = place.read(row)
        except BaseException:
            place.close()
            raise
        with self._lock:
            self._free.append(place)
            left = [one for one in self._free if one.at < one.rows][-_PLACES:]
            gone = [one for one in self._free if one not in left]
            self._free = left
        for one in gone:
            one.close()
        return content

    def _nearest(self, archive: ParquetArchive, group: int, row: int) -> _Place | None:
        """Removes and returns the last position before a row."""
        with self._lock:
            before = [one for one in self._free if one.of == (archive, group) and one.at <= row]
            place = max(before, key=lambda one: one.at, default=None)
            if place is not None:
                self._free.remove(place)
            return place


_places = _Places()
