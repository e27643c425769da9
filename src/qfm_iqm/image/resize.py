"""Decodes an image at its working size, with little memory.

`resize_and_pad(read_image(x))` holds the whole image as floats, 12 bytes per pixel. Here an image
is resized from the decoder's canvas some rows at a time:

* Images are reduced first horizontally, strip by strip, and then vertically: the resampling is
  separable, and this is the order of `image.preprocess.resized`.
* Pixels stay in 8 bits; crops are converted to floats when they are cut.
* A JPEG whose shorter side is at least four times the working size is decoded at a half, a quarter
  or an eighth of its size; a camera RAW file is developed at half size. At least twice the required
  pixels per side remain, and resizing antialiases them.

Except for such large files, the pixels are bit-identical to `resize_and_pad(read_image(x))`.

Shapes: H and W pixels, 3 colors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.arrays import Bytes, Floats
from qfm_iqm.image.capture_time import capture_time
from qfm_iqm.image.decode import (
    MAX_PIXELS,
    Picture,
    Source,
    colors_first,
    in_eight_bits,
    in_unit_range,
    opened,
    upright,
)
from qfm_iqm.image.preprocess import (
    Preprocessing,
    Resample,
    reflection_padded,
    resize_and_pad,
    resized,
    working_size,
)
from qfm_iqm.image.raw import RawPhoto, RawReading
from qfm_iqm.image.views import Views, tiles, whole

STRIP_PIXELS = 1 << 19  # pixels copied at a time
_SCALES = (1, 2, 4, 8)  # reduction factors for which libjpeg has special transforms
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_BACK = {6: 8, 8: 6}  # inverse orientations; all others are their own inverse
_DEEP = ("I", "F")  # first letters of modes with more than 8 bits, which are read as a whole

# Bytes per pixel on Pillow's canvas, and most bytes per pixel in the decoder.
_CANVAS = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_DECODER = {"WEBP": 8, "AVIF": 12, "HEIF": 12, "JPEG2000": 16, "GIF": 4, "TIFF": 4}


@dataclass(frozen=True)
class ResizedImage:
    """An image at the size at which it is cropped.

    Attributes:
        pixels: RGB (3, H, W), uint8; float32 in [0, 1] for an image with more than 8 bits.
        width: width of the upright image in pixels before resizing.
        height: height of the upright image in pixels before resizing.
        taken: capture time, see `image.capture_time`.
        views: views for estimating causes of low quality, if requested.
    """

    pixels: Bytes | Floats
    width: int
    height: int
    taken: str = ""
    views: Views | None = None


def as_floats(pixels: npt.NDArray[Any]) -> Floats:
    """Converts 8-bit pixels to float32 in [0, 1], like `read_image`; floats stay unchanged."""
    return pixels if pixels.dtype == np.float32 else in_unit_range(pixels)


def as_bytes(pixels: npt.NDArray[Any]) -> Bytes:
    """Rounds floats in [0, 1] to 8 bits; 8-bit pixels stay unchanged."""
    return pixels if pixels.dtype == np.uint8 else in_eight_bits(pixels)


def read_resized(
    source: Source,
    preprocessing: Preprocessing,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    raw: RawReading = "preview",
    admit: Callable[[int], None] | None = None,
    measured: bool = False,
    viewed: bool = False,
) -> ResizedImage:
    """Reads an image at the size at which a model crops it.

    Args:
        source: see `read_image`.
        preprocessing: the model's preprocessing.
        name: name of the source in errors.
        max_pixels: see `read_image`.
        allow_truncated: see `read_image`.
        raw: see `read_image`.
        admit: called with the most bytes that decoding takes, once the header is read; it may wait
            for memory or raise an `ImageError`.
        measured: whether pixel statistics will be computed (`image.pixel_features`), which takes
            memory.
        viewed: also cut the views (`image.views`).

    Raises:
        ImageError: the source cannot be read or is refused; the message is one sentence.
    """
    with opened(
        source, name=name, max_pixels=max_pixels, allow_truncated=allow_truncated, raw=raw
    ) as picture:
        if admit is not None:
            admit(decoding_bytes(picture, preprocessing, measured=measured))
        width, height = picture.image.size
        scale = _scale(picture.image, preprocessing)
        picture.load(scale)
        pixels: npt.NDArray[Any]
        turned = picture.orientation in _TURNED
        across, down = (height, width) if turned else (width, height)
        target = working_size(down, across, preprocessing)
        if picture.image.mode.startswith(_DEEP):
            pixels = resize_and_pad(_whole(picture), preprocessing)
        elif target == (down, across):
            pixels = _same_size(picture)
        else:
            stored = target[::-1] if turned else target
            extent = (height / scale, width / scale)
            pixels = _reduced(picture, stored, preprocessing.resample, extent)
        views = _views(picture, pixels, (height, width), scale) if viewed else None
        taken = capture_time(picture.image)
        # For a RAW file's preview, the photo's size.
        photo = getattr(picture.image, "photo_size", (width, height))
    across, down = photo[::-1] if turned else photo
    padded = reflection_padded(pixels, preprocessing.crop)
    return ResizedImage(padded, across, down, taken, views)


def decoding_bytes(
    picture: Picture, preprocessing: Preprocessing, *, measured: bool = False
) -> int:
    """An upper estimate of the peak memory for reading an opened image.

    The orientation does not matter, and may be unknown before the pixels are decoded.
    """
    image = picture.image
    width, height = image.size
    scale = _scale(image, preprocessing)
    if isinstance(image, RawPhoto):
        decoder = image.developing_bytes(scale)
    else:
        decoder = getattr(image, "decoder_bytes", _DECODER.get(image.format or "", 0))
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        decoder = 6  # libjpeg keeps all coefficients, with 16 bits each
    target_height, target_width = working_size(height, width, preprocessing)
    coefficients = width * height * decoder
    width, height = -(-width // scale), -(-height // scale)
    canvas = width * height * _CANVAS.get(image.mode, 4)
    if image.mode.startswith(_DEEP):
        result = 32 * width * height  # converted as a whole, from 16-bit gray to floats
    elif (target_height, target_width) == (height, width):
        result = 3 * width * height
    else:
        first = max(height * target_width, width * target_height)
        result = 3 * (first + 2 * target_height * target_width)
    strips = 16 * min(width * height, max(STRIP_PIXELS, width))
    measuring = 64 * target_height * target_width if measured else 0
    return max(canvas + coefficients + result + strips, result + measuring)


def _scale(image: Image.Image, preprocessing: Preprocessing) -> int:
    """The factor by which each side of an image is reduced in decoding."""
    side = preprocessing.shorter_side
    scales = getattr(image, "scales", _SCALES if image.format in ("JPEG", "MPO") else (1,))
    if side is None:
        return 1
    return max(scale for scale in scales if scale == 1 or min(image.size) >= 2 * scale * side)


def _views(
    picture: Picture, pixels_CHW: npt.NDArray[Any], size: tuple[int, int], scale: int
) -> Views:
    """The views of a decoded image: tiles of its pixels, and the whole image.

    Args:
        picture: the decoded image.
        pixels_CHW: the image at its working size, not padded.
        size: stored height and width before the reduction in decoding.
        scale: factor by which decoding reduced each side.
    """
    width, height = picture.size
    turned = picture.orientation in _TURNED
    if turned:
        size, width, height = size[::-1], height, width

    def part(top: int, left: int, bottom: int, right: int) -> Bytes:
        """A box of the upright image, read from the stored image."""
        if picture.orientation in (3, 4, 7, 8):
            top, bottom = height - bottom, height - top
        if picture.orientation in (2, 3, 6, 7):
            left, right = width - right, width - left
        box = (top, left, bottom, right) if turned else (left, top, right, bottom)
        stored_HWC = picture.pixels(box)
        if stored_HWC.dtype != np.uint8:
            stored_HWC = in_eight_bits(in_unit_range(stored_HWC))
        return cast(Bytes, upright(stored_HWC, picture.orientation))

    small_HWC = as_bytes(pixels_CHW).transpose(1, 2, 0)
    return Views(tiles(part, (height, width), size, decoded=scale), whole(small_HWC))


def _whole(picture: Picture) -> Floats:
    """The image as floats (3, H, W)."""
    return in_unit_range(colors_first(upright(picture.pixels(), picture.orientation)))


def _same_size(picture: Picture) -> Bytes:
    """The upright image at its own size, with interleaved colors in memory."""
    width, height = picture.size
    turned = picture.orientation in _TURNED
    upright_HWC = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored_HWC = upright(upright_HWC, _BACK.get(picture.orientation, picture.orientation))
    for top, bottom in _strips(height, width):
        stored_HWC[top:bottom] = _bytes(picture, (0, top, width, bottom))
    return upright_HWC.transpose(2, 0, 1)


def _reduced(
    picture: Picture, target: tuple[int, int], resample: Resample, extent: tuple[float, float]
) -> Bytes:
    """Reduces the stored image to (H, W) and turns it upright.

    Args:
        picture: the decoded image.
        target: height and width, as stored.
        resample: resampling filter.
        extent: height and width of the image in decoded pixels, possibly fractional: the last
            decoded pixel may extend beyond it.
    """
    width, height = picture.size
    down, across = extent
    turned = picture.orientation in _TURNED
    if turned:  # the stored vertical will be horizontal, so it is reduced first
        first_HWC = np.empty((target[0], width, 3), np.uint8)
        for left, right in _strips(width, height):
            strip_HWC = _bytes(picture, (left, 0, right, height))
            first_HWC[:, left:right] = resized(
                strip_HWC, (target[0], right - left), resample, (down, right - left)
            )
        down = target[0]
    elif width * height <= STRIP_PIXELS:
        first_HWC = _bytes(picture, (0, 0, width, height))
    else:
        first_HWC = np.empty((height, target[1], 3), np.uint8)
        for top, bottom in _strips(height, width):
            strip_HWC = _bytes(picture, (0, top, width, bottom))
            first_HWC[top:bottom] = resized(
                strip_HWC, (bottom - top, target[1]), resample, (bottom - top, across)
            )
        across = target[1]
    reduced_HWC = resized(first_HWC, target, resample, (down, across))
    upright_HWC: Bytes = np.ascontiguousarray(upright(reduced_HWC, picture.orientation))
    return upright_HWC.transpose(2, 0, 1)


def _bytes(picture: Picture, box: tuple[int, int, int, int]) -> Bytes:
    """A box of an image with at most 8 bits."""
    return cast(Bytes, picture.pixels(box))


def _strips(length: int, across: int) -> Iterator[tuple[int, int]]:
    step = max(1, STRIP_PIXELS // across)
    for start in range(0, length, step):
        yield start, min(start + step, length)
