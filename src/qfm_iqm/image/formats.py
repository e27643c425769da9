"""Decodes bytes to a Pillow image: the supported formats, and the handling of damaged files.

Design choices:
* Only formats with a signature and a self-contained decoder are tried (see `_FORMATS`): none that
  is guessed from a file name, and none that starts another program (EPS).
* Pillow's plugins are used, except where they read some layouts wrongly or not at all (`_OPENERS`).
* An intact file is never called damaged: if its layout is not supported, the message says so.
* An animation is read as its first frame, a multi-page file as its first page that is not marked as
  a reduced copy.
* Pillow's global switches (`MAX_IMAGE_PIXELS`, `LOAD_TRUNCATED_IMAGES`) are neither used nor
  changed: they act on all threads, and other code in the process relies on them.

An `ImageError` raised here holds only the reason; `image.decode` adds the source's name.
"""

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from qfm_iqm.arrays import Bytes
from qfm_iqm.errors import ImageError, ImageTooLargeError
from qfm_iqm.image.containers import HEADER, container_of
from qfm_iqm.image.file_colors import take_up_colors
from qfm_iqm.image.jpeg import decoded_jpeg, open_jpeg
from qfm_iqm.image.jpeg2000 import open_jpeg2000
from qfm_iqm.image.png import open_png, prepare_png
from qfm_iqm.image.raw import RAW_SUFFIXES, RawPhoto, RawReading, is_raw, open_raw
from qfm_iqm.image.tiff import check_tiff, prepare_tiff
from qfm_iqm.image.tiff_pages import RawFileError, open_tiff

_LOGGERS = ("PIL", "tifffile")


class _QuietPillow:
    """Silences messages of Pillow and tifffile while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._entry = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif|tifffile)\b"), 0)
        self._handler = logging.NullHandler()  # without it, unhandled messages go to stderr
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Resets the state after a fork, because the threads that were inside do not exist here.

        One of them may have held the lock.
        """
        self._lock = threading.Lock()
        if self._inside:
            self._inside = 1
            self.__exit__()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                cast(list[object], warnings.filters).insert(0, self._entry)
                for name in _LOGGERS:
                    logging.getLogger(name).addHandler(self._handler)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with suppress(ValueError):  # other code may have reset the list
                    cast(list[object], warnings.filters).remove(self._entry)
                for name in _LOGGERS:
                    logging.getLogger(name).removeHandler(self._handler)


quiet_pillow = _QuietPillow()

Opener = Callable[[Any, str], Image.Image]

_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,  # opens MPO as well
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        AvifImagePlugin.AvifImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        PpmImagePlugin.PpmImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    )
)
_OPENERS: dict[str, Opener] = {  # used instead of Pillow's
    "JPEG": open_jpeg,
    "PNG": open_png,
    "TIFF": open_tiff,
    "JPEG2000": open_jpeg2000,
}
SUFFIXES = RAW_SUFFIXES | frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .avifs "  # noqa: SIM905
    ".heic .heif .heics .heifs .hif .tif .tiff .gif .bmp .dib "
    ".ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpc .jpf .jpx .j2c".split()
)
"""File extensions of these formats, in lower case."""

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_SHARED_BRANDS = {b"mif1", b"msf1"}  # HEIC or AVIF, depending on the compatible brands
_COLOR_PFM = re.compile(rb"PF\s")
# Messages of Pillow's plugins about intact files with an unsupported layout.
_UNSUPPORTED = re.compile(r"Unsupported |cannot handle |unknown |unable to determine |.*supported")


# ---- the header ----


def identified(stream: BinaryIO, raw: RawReading = "preview") -> Image.Image:
    """Parses the header with the plugin whose signature matches; decodes no pixels yet.

    `Image.open` is not used because it warns and raises at Pillow's global pixel limit.

    Args:
        stream: the file.
        raw: see `image.decode.read_image`.

    Raises:
        ImageError: the stream is empty, or its format or layout is not supported.
        Exception: any exception of the plugin on damaged data.
    """
    header = stream.read(HEADER)
    if not header:
        raise ImageError("it is empty")
    if is_raw(header):
        return open_raw(stream, raw)
    if _COLOR_PFM.match(header):
        raise ImageError("not supported: color PFM; save it as 8-bit PNG")
    failure: Exception | None = None
    for factory in _factories(header):
        stream.seek(0)
        try:
            image = factory(stream, "")
        except RawFileError:
            return open_raw(stream, raw)
        except ImageError:
            raise
        except Exception as error:  # the next plugin with this signature may succeed
            failure = error
        else:
            take_up_colors(image, stream)
            return image
    if failure is not None:
        if isinstance(failure, OSError | SyntaxError) and _UNSUPPORTED.match(str(failure)):
            what = re.sub(r"^(Unsupported|cannot handle) | \(.*\)", "", str(failure))
            raise ImageError(f"not supported: {what}; save it as 8-bit PNG") from failure
        raise failure
    if container_of(header):
        raise ImageError("it is a video, which qfm score and qfm gate score by its frames")
    known = ", ".join(sorted([*_FORMATS, "HEIC", "camera RAW"]))
    raise ImageError(f"it is not an image of a known format ({known})")


def _factories(header: bytes) -> Iterator[Opener]:
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(header[:16]) is True:
            yield _OPENERS.get(name, factory)
    brand = header[8:12]
    shared = brand in _SHARED_BRANDS and b"avif" not in header[:64]
    if header[4:8] == b"ftyp" and (brand in _HEIC_BRANDS or shared):
        yield _heic_factory()


def _heic_factory() -> Opener:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError("HEIC needs an extra: pip install 'qfm-iqm[heic]'") from error
    return cast(Opener, HeifImageFile)


def check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuses an image with no pixels or more than `max_pixels`, by its header."""
    for width, height in (image.size, getattr(image, "photo_size", image.size)):
        if width < 1 or height < 1:
            raise ImageError(f"it has no pixels ({width} x {height})")
        refuse_large(width, height, max_pixels)


def refuse_large(width: int, height: int, max_pixels: int) -> None:
    """Refuses more than `max_pixels`."""
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"its {width} x {height} pixels exceed the limit of {max_pixels / 1e6:g} megapixels"
        )


def rawmode(image: Image.Image) -> str:
    """How the file packs its pixels ("L;2", "RGB;16B", ...); unknown after loading."""
    tiles = getattr(image, "tile", None)
    packing: object = tiles[0].args if tiles else ""
    if isinstance(packing, tuple) and packing:
        packing = packing[0]
    return packing if isinstance(packing, str) else ""


# ---- the pixels ----


def load(image: Image.Image, allow_truncated: bool, scale: int = 1) -> Bytes | None:
    """Decodes the pixels of an image; for a truncated one, as many as there are.

    After a failure the image gives no pixels, even if it is loaded again.

    Args:
        image: the opened Pillow image.
        allow_truncated: see `image.decode.read_image`.
        scale: for a JPEG, see `image.jpeg.decoded_jpeg`; for a camera RAW file, see `image.raw`.

    Returns:
        The pixels (H, W, colors) of most JPEGs, packed as in the file, and of a developed RAW file;
        None if they are in the image.

    Raises:
        ImageError: the data are damaged or end early, and `allow_truncated` is False.
        Exception: any exception of the decoder on damaged data.
    """
    if isinstance(image, RawPhoto):
        return image.developed(scale)
    try:
        if isinstance(image, JpegImagePlugin.JpegImageFile) and image.tile and image.fp:
            image.fp.seek(image.tile[0].offset)
            content = image.fp.read()
            pixels = decoded_jpeg(
                content, image.mode, image.size, allow_truncated=allow_truncated, scale=scale
            )
            if pixels is not None:
                return pixels
            image.draft(image.mode, (image.width // scale, image.height // scale))
        if isinstance(image, PngImagePlugin.PngImageFile) and image.tile and not image.tell():
            prepare_png(image, allow_truncated=allow_truncated)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
            if not allow_truncated:
                check_tiff(image)
            prepare_tiff(image)
        _load_with_pillow(image, allow_truncated)
    except Exception:
        if isinstance(image, ImageFile.ImageFile):
            image.tile, image._im = [], None
        raise
    return None


def _load_with_pillow(image: Image.Image, allow_truncated: bool) -> None:
    try:
        image.load()
        if (
            image.format == "BMP"
            and image.mode == "RGBA"
            and image.getchannel("A").getextrema() == (0, 0)
        ):
            image.putalpha(255)  # like every viewer: an all-zero alpha is not intended
    except (OSError, SyntaxError):
        if not allow_truncated or not isinstance(image, ImageFile.ImageFile):
            raise
        # Without tiles left to decode, Pillow accepts the rows that it has.
        if image.tile:
            image.tile = []
            image.load_end()
        image.load()
