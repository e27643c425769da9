"""The one image decoder: a path, bytes, a stream or a Pillow image -> RGB pixels.

Training, scoring, the page and the service all read through this file. Design choices:
* Deterministic, never guessed from the content: what a mode's numbers mean is fixed. 16-bit grey
  is 0..65535, also in mode I; mode F is 0..1; a value outside is refused rather than clipped.
* 16-bit grey stays 16 bits. Of 16-bit *colour* (PNG and TIFF) Pillow keeps the high byte, which
  is at most one 8-bit step (1/255) below the exact value: scaled, not clipped, and well under
  what is visible; no further dependency is worth that step.
* Colour is brought to sRGB through the embedded ICC profile (perceptual intent). A profile that
  moves no colour by more than one 8-bit step is sRGB itself and leaves the pixels untouched; one
  that is broken, or made for another colour space than the pixels', is ignored. CMYK without a
  usable profile becomes (1-C)(1-K), Pillow's rule. PNG's gAMA and cHRM chunks are not applied.
* Alpha is composited over `background` in sRGB code values, as browsers do.
* EXIF orientation is applied; an EXIF block that cannot be parsed counts as upright.
* The first frame or page stands for an animation or a multi-page file.
* Only formats with a signature and a self-contained decoder are tried (see `_FORMATS`): nothing
  that guesses from a file name, and nothing that starts another program (EPS).
* Pillow's global switches (`MAX_IMAGE_PIXELS`, `LOAD_TRUNCATED_IMAGES`) are neither read for our
  limits nor changed: both act on all threads, and other code in the process relies on them.

Shapes: H and W pixels, 3 colours; arrays inside are (H, W) or (H, W, 3), uint8 or uint16.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from torch import Tensor

from qfm_iqm.errors import ImageError

Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

MAX_PIXELS = 250_000_000
WHITE = (255, 255, 255)

_FORMATS = {
    plugin.format: plugin
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
}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_SHARED_BRANDS = {b"mif1", b"msf1"}  # HEIC or AVIF: the compatible brands tell
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_ORIENTATION_TAG, _PHOTOMETRIC_TAG = 274, 262
_TIFF_WIDTH_TAG, _TIFF_HEIGHT_TAG, _TIFF_BITS_TAG = 256, 257, 258
_PLAIN_MODE = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}


class _RefusedError(Exception):
    """Why the reading policy says no; the caller adds the name of the source."""


def read_image(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = WHITE,
    allow_truncated: bool = False,
) -> Tensor:
    """Reads an image as the network sees it: upright, sRGB, without transparency.

    Safe to call from many threads at once.

    Args:
        source: a path, the encoded bytes, a binary stream (read from where it stands to its
            end, and not closed) or a Pillow image (its current frame; not changed).
        max_pixels: larger images are refused from their header, before any pixel is decoded.
        background: 8-bit sRGB colour behind transparent pixels.
        allow_truncated: whether to take an image whose data end early as far as they go. What
            is missing is grey in a JPEG and black elsewhere; AVIF, HEIC and WebP are refused
            all the same, since their decoders give no partial image.

    Returns:
        RGB float32 (3, H, W) in [0, 1].

    Raises:
        ImageError: the source cannot be read or is refused; one sentence says why.
        ValueError: `max_pixels` or `background` is out of range.
    """
    pixels = _read(source, max_pixels, background, allow_truncated)
    scale = float(np.iinfo(pixels.dtype).max)
    return _as_tensor(pixels).to(torch.float32).div_(scale)


def read_image_uint8(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = WHITE,
    allow_truncated: bool = False,
) -> Tensor:
    """Reads an image as `read_image` does, into 8 bits per colour, a quarter of the memory.

    For 8-bit sources this is exactly 255 times `read_image`; 16-bit grey is rounded.

    Args:
        source: see `read_image`.
        max_pixels: see `read_image`.
        background: see `read_image`.
        allow_truncated: see `read_image`.

    Returns:
        RGB uint8 (3, H, W).

    Raises:
        ImageError: see `read_image`.
        ValueError: see `read_image`.
    """
    pixels = _read(source, max_pixels, background, allow_truncated)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _as_tensor(pixels)


def _as_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) pixels, possibly a flipped view, as a contiguous (3, H, W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _read(
    source: Source, max_pixels: int, background: tuple[int, int, int], allow_truncated: bool
) -> Pixels:
    """Source -> upright sRGB pixels (H, W, 3), every failure an `ImageError`."""
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, not {max_pixels}")
    if len(background) != 3 or not all(0 <= value <= 255 for value in background):
        raise ValueError(f"background must be three values in 0..255, not {background}")
    name = _name(source)
    try:
        with _QUIET, _opened(source, allow_truncated) as image:
            _check_size(image, max_pixels)
            rawmode = _rawmode(image)
            _load(image, allow_truncated)
            pixels = _rgb(image, rawmode, background)
            return _upright(pixels, _orientation(image))
    except _RefusedError as refusal:
        raise ImageError(f"cannot read {name}: {refusal}") from refusal.__cause__
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: there is not enough memory for it") from error
    except Exception as error:
        # Hostile or damaged bytes make decoders raise nearly anything (struct.error, zlib.error,
        # KeyError, ...): at this boundary each means that this source cannot be decoded.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot read {name}: its data are damaged ({reason})") from error


# ---- where the bytes come from ----


def _name(source: object) -> str:
    """The source as a sentence names it; quoting keeps odd path characters harmless."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fsdecode(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return "the bytes"
    return "the image"


@contextmanager
def _opened(source: Source, allow_truncated: bool) -> Iterator[Image.Image]:
    """An image with its header parsed and its pixels not yet decoded."""
    if isinstance(source, Image.Image):
        yield source
        return
    with _stream(source) as stream:
        if allow_truncated:
            stream = _with_jpeg_end(stream.read())
        yield _identified(stream)


def _stream(source: str | os.PathLike[str] | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        return _open_file(os.fsdecode(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        kind = type(source).__name__
        raise _RefusedError(f"give a path, bytes, a binary stream or a Pillow image, not a {kind}")
    content = source.read()
    if not isinstance(content, bytes):
        raise _RefusedError("its stream yields text; open it in binary mode")
    return io.BytesIO(content)


def _open_file(path: str) -> BinaryIO:
    try:
        kind = os.stat(path).st_mode  # noqa: PTH116 - a str keeps names that Path would rewrite
        if stat.S_ISDIR(kind):
            raise _RefusedError("it is a folder; give the path of one image file")
        if not stat.S_ISREG(kind):  # a pipe or a device could block for ever
            raise _RefusedError("it is not a regular file")
        return open(path, "rb")  # noqa: PTH123 - as above; the caller closes it
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _RefusedError("there is no such file") from error
    except PermissionError as error:
        raise _RefusedError("there is no permission to read it") from error
    except OSError as error:
        raise _RefusedError(f"the system says: {error.strerror or error}") from error
    except ValueError as error:  # a null character
        raise _RefusedError("this is not a valid file name") from error


def _with_jpeg_end(content: bytes) -> BinaryIO:
    """Ends a JPEG with its end marker, at which the decoder fills what is missing.

    That is what Pillow does under its global `LOAD_TRUNCATED_IMAGES`, for this image alone; a
    second marker after a complete image is never reached.
    """
    return io.BytesIO(content + _JPEG_END if content.startswith(_JPEG_START) else content)


# ---- opening and decoding ----


def _identified(stream: BinaryIO) -> Image.Image:
    """Parses the header with the plugin whose signature matches.

    `Image.open` is not used since it warns and raises at Pillow's own global pixel limit.
    """
    header = stream.read(64)
    if not header:
        raise _RefusedError("it is empty")
    failure: Exception | None = None
    for factory in _factories(header):
        stream.seek(0)
        try:
            return factory(stream, "")
        except Exception as error:  # the next plugin with this signature may know better
            failure = error
    if failure is not None:
        raise failure
    known = ", ".join(sorted([*_FORMATS, "HEIC"]))
    raise _RefusedError(f"it is not an image of a known format ({known})")


def _factories(header: bytes) -> Iterator[Callable[[Any, str], Image.Image]]:
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(header[:16]) is True:
            yield factory
    brand = header[8:12]
    shared = brand in _SHARED_BRANDS and b"avif" not in header
    if header[4:8] == b"ftyp" and (brand in _HEIC_BRANDS or shared):
        yield _heic_factory()


def _heic_factory() -> Callable[[Any, str], Image.Image]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise _RefusedError("HEIC needs an extra: pip install 'qfm-iqm[heic]'") from error
    return cast(Callable[[Any, str], Image.Image], HeifImageFile)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise _RefusedError(f"it has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise _RefusedError(
            f"its {width} x {height} pixels exceed the limit of {max_pixels}; "
            "reduce it or raise max_pixels"
        )


def _rawmode(image: Image.Image) -> str:
    """How the file packs its pixels ("L;2", "RGB;16B", ...), which loading forgets."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    if isinstance(arguments, tuple):
        arguments = arguments[0] if arguments else ""
    return arguments if isinstance(arguments, str) else ""


def _load(image: Image.Image, allow_truncated: bool) -> None:
    """Decodes the pixels into the image, of a truncated one as many as there are."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
        _prepare_tiff(image)
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        if not allow_truncated or not isinstance(image, ImageFile.ImageFile):
            if "truncated" in str(error):
                raise _RefusedError("its data end too early (a truncated file)") from error
            raise
        # Without tiles left to decode Pillow takes the rows that it has got as the image.
        if image.tile:
            image.tile = []
            image.load_end()
        image.load()


def _prepare_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Two repairs of Pillow's TIFF reader before it decodes."""
    # It would check its own global pixel limit while it allocates the canvas.
    size = (image.tag_v2[_TIFF_WIDTH_TAG], image.tag_v2[_TIFF_HEIGHT_TAG])
    image.im = Image.new(image.mode, size).im
    # It reads uncompressed 16-bit planes (one per colour) as if they were 8-bit.
    if 16 in image.tag_v2.get(_TIFF_BITS_TAG, ()):
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        image.tile = [
            tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
            if isinstance(tile.args, tuple) and tile.args[0] in ("R", "G", "B", "A")
            else tile
            for tile in image.tile
        ]


# ---- pixels -> sRGB ----


def _rgb(image: Image.Image, rawmode: str, background: tuple[int, int, int]) -> Pixels:
    """A loaded image of any mode -> sRGB pixels (H, W, 3) over the background."""
    colour, alpha = _colour_and_alpha(image, rawmode)
    profile = image.info.get("icc_profile")
    pixels = cast(Pixels, np.array(_srgb(colour, profile if isinstance(profile, bytes) else b"")))
    if pixels.ndim == 2:
        pixels = cast(Pixels, np.repeat(pixels[..., None], 3, axis=2))
    return pixels if alpha is None else _composited(pixels, alpha, background)


def _colour_and_alpha(
    image: Image.Image, rawmode: str
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Splits any mode into L, I;16, RGB, CMYK or LAB and the alpha (H, W), if it has one."""
    if image.mode == "F" or image.mode.startswith("I"):
        colour = Image.fromarray(_deep_grey(image, rawmode))
        return colour, _keyed_alpha(colour, image.info.get("transparency"), rawmode)
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in _PLAIN_MODE:
        key = image.info.get("transparency")
        image = image.convert(_PLAIN_MODE[image.mode])
        image.info["transparency"] = key
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"), dtype=np.uint8)
        return image.convert(image.mode.removesuffix("A")), alpha
    return image, _keyed_alpha(image, image.info.get("transparency"), rawmode)


def _deep_grey(image: Image.Image, rawmode: str) -> NDArray[np.uint16]:
    """Modes I;16, I (0..65535) and F (0..1) as 16-bit grey (H, W)."""
    values = np.asarray(image)
    scale = 65535.0 if image.mode == "F" else 1.0
    if image.mode in ("I", "F"):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high * scale <= 65535):  # so written, NaN is refused too
            what = "floats in 0..1" if image.mode == "F" else "integers in 0..65535"
            raise _RefusedError(
                f"its grey values run from {low:g} to {high:g} and must be {what}; "
                "scale them and save it as 16-bit PNG"
            )
    if image.mode == "F":
        values = np.rint(values.astype(np.float64) * scale)
    elif rawmode.startswith("I;12"):
        values = np.rint(values * (65535 / 4095))
    grey = values.astype(np.uint16)
    # Pillow inverts "white is zero" TIFFs up to 8 bits only.
    tags = getattr(image, "tag_v2", {})
    return 65535 - grey if tags.get(_PHOTOMETRIC_TAG) == 0 else grey


def _keyed_alpha(image: Image.Image, key: object, rawmode: str) -> NDArray[np.uint8] | None:
    """Alpha of an image in which one colour, the PNG tRNS chunk's, is transparent.

    The chunk counts in the file's own bits, Pillow's pixels in 8. Of 16-bit colour only the
    high bytes can be compared.
    """
    pixels = np.asarray(image)
    if isinstance(key, int) and pixels.ndim == 2:
        transparent = pixels == key * {"L;2": 85, "L;4": 17}.get(rawmode, 1)
    elif isinstance(key, tuple) and pixels.ndim == 3 and pixels.shape[2] == len(key):
        shift = 8 if ";16" in rawmode else 0
        transparent = (pixels == np.array(key) >> shift).all(axis=2)
    else:
        return None
    return np.where(transparent, 0, 255).astype(np.uint8)


def _composited(
    pixels: Pixels, alpha: NDArray[np.uint8], background: tuple[int, int, int]
) -> Pixels:
    """Pixels (H, W, 3) over the background, in exact integer arithmetic, rounded."""
    weight = alpha[..., None].astype(np.uint32)
    behind = np.array(background, dtype=np.uint32) * (int(np.iinfo(pixels.dtype).max) // 255)
    mixed = (pixels * weight + behind * (255 - weight) + 127) // 255
    return cast(Pixels, mixed.astype(pixels.dtype))


def _srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """L, I;16, RGB, CMYK or LAB -> L, I;16 or RGB in sRGB code values."""
    transform = _transform(profile, image.mode)
    if transform is not None:
        with suppress(ImageCms.PyCMSError):
            return ImageCms.applyTransform(image, transform) or image
    return image.convert("RGB") if image.mode in ("CMYK", "LAB") else image


@functools.lru_cache(maxsize=16)  # photos of one camera share a profile; applying is thread-safe
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where there is nothing to do, or it is unusable."""
    try:
        if mode == "LAB":  # is a colour space by itself
            source: Any = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.getOpenProfile(io.BytesIO(profile))
        else:
            return None
        target = ImageCms.createProfile("sRGB")
        # lcms would shorten a 16-bit curve to a table that is off by ten 8-bit steps in the darks.
        exact = ImageCms.Flags.NOOPTIMIZE if mode == "I;16" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, target, mode, "RGB", flags=exact)
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour of a 16 x 16 x 16 lattice moves by more than one 8-bit step."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    moved = ImageCms.applyTransform(Image.fromarray(lattice), transform)
    return bool(np.abs(np.asarray(moved, dtype=int) - lattice).max() <= 1)


# ---- orientation ----


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation 1..8; 1 where there is none or it cannot be parsed."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged metadata say nothing against the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes an EXIF orientation with views: 5..8 swap the axes first, then the sides flip."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


# ---- silence ----


class _QuietPillow:
    """While any thread decodes, Pillow's warnings and log lines are not printed.

    `warnings.catch_warnings` swaps the whole filter list and is undone in the wrong order by
    overlapping threads. Here the first thread in adds one entry that concerns Pillow's modules
    alone, and the last one out takes the same entry away. Lines that libtiff itself writes about
    a damaged TIFF stay: only a redirection of the whole process' stderr could stop them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._entry = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif)\."), 0)
        self._handler = logging.NullHandler()  # else unhandled messages go to stderr

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                cast(list[object], warnings.filters).insert(0, self._entry)
                logging.getLogger("PIL").addHandler(self._handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with suppress(ValueError):  # someone else has reset the list meanwhile
                    cast(list[object], warnings.filters).remove(self._entry)
                logging.getLogger("PIL").removeHandler(self._handler)


_QUIET = _QuietPillow()
