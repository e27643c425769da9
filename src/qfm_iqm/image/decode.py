"""The image decoder: reads a path, bytes, a stream or a Pillow image as RGB pixels.

Training, scoring, the page and the service all use it. It decodes with `image.formats`, converts
colors with `image.color`, applies the EXIF orientation, and turns every failure into one sentence.
An EXIF block that cannot be parsed counts as upright.

Shapes: H and W pixels, 3 colors; arrays inside are (H, W, 3), uint8 or uint16.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from qfm_iqm.arrays import Bytes, Floats
from qfm_iqm.errors import DAMAGED, TRUNCATED, ImageError, ImageTooLargeError
from qfm_iqm.image.archive import is_archive, open_member, read_archive, split_member
from qfm_iqm.image.color import Pixels, is_srgb, srgb_pixels
from qfm_iqm.image.formats import check_size, identified, load, quiet_pillow, rawmode
from qfm_iqm.image.raw import RawReading

if TYPE_CHECKING:
    from torch import Tensor

Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image

MAX_PIXELS = 250_000_000
NO_MEMORY = "there is not enough memory for it"
_CLOSED = "it was closed before"


def read_image(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    raw: RawReading = "preview",
) -> Tensor:
    """Reads an image upright, in sRGB, and over white where it is transparent.

    Thread-safe.

    Args:
        source: a path, the encoded bytes, a binary stream (read from its position to its end, and
            not closed) or a Pillow image (its current frame; not changed).
        max_pixels: larger images are refused by their header, before decoding.
        allow_truncated: accept images whose data end early. Missing pixels are gray in a JPEG and
            black elsewhere; AVIF, HEIC, WebP and camera RAW are still refused, because their
            decoders return no partial image.
        raw: how to read a camera RAW file: "preview" takes the camera's embedded JPEG if each side
            has at least half of the photo's pixels, and otherwise develops the photo; "develop"
            always develops it (libraw).

    Returns:
        RGB float32 (3, H, W) in [0, 1].

    Raises:
        ImageError: the source cannot be read or is refused; the message is one sentence.
        ValueError: `max_pixels` is out of range.

    Examples:
        >>> read_image(Image.new("RGB", (4, 3), "white")).shape
        torch.Size([3, 3, 4])
    """
    import torch  # imported here: other readers do not need torch

    pixels = _read(source, max_pixels, allow_truncated, raw)
    return torch.from_numpy(in_unit_range(colors_first(pixels)))


def read_image_uint8(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    raw: RawReading = "preview",
) -> Bytes:
    """Reads an image like `read_image`, with 8 bits per color: a quarter of the memory.

    For 8-bit sources this is exactly 255 times `read_image`; 16-bit gray is rounded.
    Returns RGB uint8 (3, H, W). Arguments and errors are those of `read_image`.
    """
    pixels = _read(source, max_pixels, allow_truncated, raw)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return colors_first(pixels)


def colors_first(pixels: Pixels) -> npt.NDArray[Any]:
    """Copies (H, W, 3) pixels, possibly a flipped view, to a contiguous (3, H, W) array."""
    return np.array(pixels.transpose(2, 0, 1), order="C")


def in_eight_bits(pixels: Floats) -> Bytes:
    """Rounds pixels in [0, 1] to 8 bits."""
    return np.asarray(np.rint(pixels * np.float32(255)).astype(np.uint8))


def in_unit_range(pixels: npt.NDArray[Any]) -> Floats:
    """Converts 8-bit or 16-bit pixels to float32 in [0, 1]."""
    largest = np.float32(np.iinfo(pixels.dtype).max)
    return np.asarray(np.divide(pixels, largest, dtype=np.float32, casting="unsafe"))


def _read(source: Source, max_pixels: int, allow_truncated: bool, raw: RawReading) -> Pixels:
    """Reads upright sRGB pixels (H, W, 3); every failure is an `ImageError`."""
    with opened(source, max_pixels=max_pixels, allow_truncated=allow_truncated, raw=raw) as picture:
        picture.load()
        return upright(picture.pixels(), picture.orientation)


@dataclass
class Picture:
    """An image with a parsed header; its pixels may not be decoded yet.

    Attributes:
        image: the Pillow image.
        packing: how the file packs the pixels, see `image.formats.rawmode`.
        allow_truncated: see `read_image`.
        orientation: EXIF (or XMP) orientation 1..8; 1 if there is none or it cannot be parsed. It
            is set when the pixels are decoded, because a file may store it after them.
    """

    image: Image.Image
    packing: str
    allow_truncated: bool
    orientation: int = field(init=False)
    _decoded: Bytes | None = field(init=False)

    def load(self, scale: int = 1) -> None:
        """Decodes the pixels; JPEG and RAW files at 1 / `scale` (2, 4 or 8) of their size."""
        self._decoded = load(self.image, self.allow_truncated, scale)
        self.orientation = _orientation(self.image)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the decoded image."""
        if self._decoded is None:
            return self.image.size
        height, width = self._decoded.shape[:2]
        return width, height

    def pixels(self, box: tuple[int, int, int, int] | None = None) -> Pixels:
        """Returns sRGB (H, W, 3) of the loaded image or of a (left, top, right, bottom) box.

        The orientation is not applied.
        """
        image = self.image
        left, top, right, bottom = box = box or (0, 0, *self.size)
        if self._decoded is not None:
            part = np.ascontiguousarray(self._decoded[top:bottom, left:right])
            if is_srgb(image):
                return part
            size = (right - left, bottom - top)
            image = Image.frombuffer(image.mode, size, part, "raw", self.packing, 0, 1)
            image.info = self.image.info
        elif box != (0, 0, *image.size):
            image = image.crop(box)
        return srgb_pixels(image, self.packing)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata do not make an image unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextmanager
def opened(
    source: Source,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    raw: RawReading = "preview",
) -> Iterator[Picture]:
    """Opens an image; turns every error while it is open into an `ImageError`.

    `name` is the source's name in errors; None takes its own name. Other arguments and the errors
    are those of `read_image`.
    """
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, not {max_pixels}")
    name = name_of(source) if name is None else name_of(name)
    try:
        with quiet_pillow, _opened(source, raw) as image:
            check_size(image, max_pixels)
            yield Picture(image, rawmode(image), allow_truncated)
    except ImageError as refusal:  # holds only the reason
        raise type(refusal)(f"cannot read {name}: {refusal}") from refusal.__cause__
    except MemoryError as error:
        raise ImageTooLargeError(f"cannot read {name}: {NO_MEMORY}") from error
    except Exception as error:
        # Hostile or damaged bytes make decoders raise almost anything (struct.error, zlib.error,
        # KeyError, ...). Here any of them means that the source cannot be decoded.
        raise ImageError(f"cannot read {name}: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    """A plain reason for a decoder's error, whose own text would not help a user."""
    if re.search("truncated|unexpected end", str(error), re.IGNORECASE):
        return TRUNCATED
    if re.search("closed (image|file)", str(error)):
        return _CLOSED
    return DAMAGED


# ---- where the bytes come from ----


def name_of(source: object) -> str:
    """The source's name for a message; paths are quoted, which makes odd characters harmless."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fsdecode(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "the bytes"
    return "the image"


@contextmanager
def _opened(source: Source, raw: RawReading) -> Iterator[Image.Image]:
    """Opens an image: parses its header, but decodes no pixels yet."""
    if isinstance(source, Image.Image):
        if getattr(source, "tile", None) and getattr(source, "fp", None) is None:
            raise ImageError(_CLOSED)
        yield source
        return
    with _stream(source) as stream:
        yield identified(stream, raw)


def _stream(source: str | os.PathLike[str] | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        return open_file(os.fsdecode(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        kind = type(source).__name__
        raise ImageError(f"give a path, bytes, a binary stream or a Pillow image, not a {kind}")
    try:
        content = None if isinstance(source, io.TextIOBase) else source.read()
    except io.UnsupportedOperation as error:
        raise ImageError("its stream is open for writing only") from error
    if not isinstance(content, bytes):
        raise ImageError("its stream yields text; open it in binary mode")
    return io.BytesIO(content)


def open_file(path: str) -> BinaryIO:
    """Opens a regular file or a member of an archive.

    Raises:
        ImageError: it cannot be opened; the message holds only the reason.
    """
    try:
        if (found := split_member(path)) is not None:
            return open_member(*found)
        if is_archive(path):
            archive = read_archive(path)
            whole = f"it is {archive.kind}; qfm score takes the images in it"
            raise ImageError(archive.damage or whole)
        kind = os.stat(path).st_mode  # noqa: PTH116 - a str keeps names that Path would rewrite
        if stat.S_ISDIR(kind):
            raise ImageError("it is a folder; give the path of one image file")
        if not stat.S_ISREG(kind):  # a pipe or a device could block forever
            raise ImageError("it is not a regular file")
        return open(path, "rb")  # noqa: PTH123 - as above; the caller closes it
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("there is no such file") from error
    except PermissionError as error:
        raise ImageError("there is no permission to read it") from error
    except OSError as error:
        raise ImageError(f"the system says: {error.strerror or error}") from error
    except ValueError as error:  # a null character
        raise ImageError("this is not a valid file name") from error


# ---- orientation ----


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation by views: 5..8 first swap the axes, then sides are flipped."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
