"""Converts a decoded image of any mode to sRGB pixels without transparency.

Design choices:
* The value range of a mode is fixed and never guessed from the content. 16-bit gray is 0..65535,
  also in mode I; mode F is 0..1; values outside are refused rather than clipped.
* 16-bit gray keeps 16 bits. For 16-bit *color* (PNG and TIFF) Pillow keeps the high byte, which is
  at most one 8-bit step (1/255) below the exact value. This is invisible and not worth another
  dependency.
* Colors are converted to sRGB by the embedded ICC profile (perceptual intent). A profile that moves
  no color by more than one 8-bit step counts as sRGB, and the pixels stay unchanged. A broken
  profile, or one for another color space, is ignored. CMYK without a usable profile becomes
  (1-C)(1-K), Pillow's rule. If a file describes its colors by numbers (PNG's gAMA and cHRM, cICP,
  nclx), the equivalent profile is used (`image.profiles`). HDR is refused, in profiles as well.
* Alpha is composited over white in sRGB code values, as browsers do.

An `ImageError` raised here holds only the reason; `image.decode` adds the source's name.

Shapes: H and W pixels, 3 colors.
"""

import functools
import io
from contextlib import suppress
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from qfm_iqm.image.deferred import scaled
from qfm_iqm.image.profiles import Chromaticities, measured_profile, refuse_hdr

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_PHOTOMETRIC_TAG = 262
_PLAIN_MODE = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}


def is_srgb(image: Image.Image) -> bool:
    """Whether `srgb_pixels` would return the pixels of an image unchanged."""
    plain = image.mode == "RGB" and "transparency" not in image.info
    return plain and not _profile(image, image.mode)


def srgb_pixels(image: Image.Image, rawmode: str) -> Pixels:
    """Converts a loaded image of any mode to sRGB pixels (H, W, 3) over white.

    Args:
        image: the image with decoded pixels; not changed.
        rawmode: how the file packs the pixels, see `image.formats.rawmode`.

    Returns:
        uint8; uint16 for 16-bit gray.

    Raises:
        ImageError: gray values lie outside the range of their mode.
    """
    color, alpha = _color_and_alpha(image, rawmode)
    pixels = cast(Pixels, np.array(to_srgb(color, _profile(image, color.mode))))
    if pixels.ndim == 2:
        pixels = cast(Pixels, np.repeat(pixels[..., None], 3, axis=2))
    return pixels if alpha is None else _composited(pixels, alpha)


# ---- modes ----


def _color_and_alpha(
    image: Image.Image, rawmode: str
) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Splits an image of any mode into L, I;16, RGB, CMYK or LAB and alpha (H, W), if any."""
    key = image.info.get("transparency")
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_deep_gray(image, rawmode))
    elif image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in _PLAIN_MODE:
        image = image.convert(_PLAIN_MODE[image.mode])
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"), dtype=np.uint8)
        return image.convert(image.mode.removesuffix("A")), alpha
    return image, _keyed_alpha(image, key, rawmode)


def _deep_gray(image: Image.Image, rawmode: str) -> NDArray[np.uint16]:
    """Converts modes I;16, I (0..65535) and F (0..1) to 16-bit gray (H, W)."""
    largest = 1 if image.mode == "F" else 4095 if rawmode.startswith("I;12") else 65535
    gray = cast(NDArray[np.uint16], scaled(np.asarray(image), largest, np.uint16))
    # Pillow inverts "white is zero" TIFFs only up to 8 bits.
    tags = getattr(image, "tag_v2", {})
    return 65535 - gray if tags.get(_PHOTOMETRIC_TAG) == 0 else gray


# ---- transparency ----


def _keyed_alpha(image: Image.Image, key: object, rawmode: str) -> NDArray[np.uint8] | None:
    """Alpha of an image with one transparent color, from the PNG tRNS chunk.

    The chunk uses the file's bit depth, while Pillow's pixels have 8 bits. For 16-bit color only
    the high bytes can be compared.
    """
    bands = len(image.getbands())
    if isinstance(key, int) and bands == 1:
        transparent = np.asarray(image) == key * {"L;2": 85, "L;4": 17}.get(rawmode, 1)
    elif isinstance(key, tuple) and bands == len(key) > 1:
        shift = 8 if ";16" in rawmode else 0
        transparent = (np.asarray(image) == np.array(key) >> shift).all(axis=2)
    else:
        return None
    return np.where(transparent, 0, 255).astype(np.uint8)


def _composited(pixels: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """Composites pixels (H, W, 3) over white in integer arithmetic, with rounding."""
    weight = alpha[..., None].astype(np.uint32)
    mixed = (pixels * weight + np.iinfo(pixels.dtype).max * (255 - weight) + 127) // 255
    return cast(Pixels, mixed.astype(pixels.dtype))


# ---- profiles ----


def _profile(image: Image.Image, mode: str) -> bytes:
    """An image's embedded profile, or one made from its numbers; `b""` for sRGB."""
    info = image.info
    profile = info.get("icc_profile")
    if isinstance(profile, bytes):
        return profile
    if "srgb" in info or not ("gamma" in info or "chromaticity" in info):
        return b""
    gray = mode in ("L", "I;16")
    return measured_profile(info.get("gamma"), _chromaticities(info), gray=gray)


def _chromaticities(info: dict[str | tuple[int, int], Any]) -> Chromaticities | None:
    values = info.get("chromaticity")
    return cast(Chromaticities, tuple(values)) if values and len(values) == 8 else None


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts L, I;16, RGB, YCbCr, CMYK or LAB to L, I;16 or RGB in sRGB code values."""
    transform = _transform(profile, image.mode)
    if transform is not None:
        with suppress(ImageCms.PyCMSError):
            if image.mode == "L":  # transform each of the 256 levels once, exactly
                levels = Image.frombytes("L", (256, 1), bytes(range(256)))
                table = np.asarray(ImageCms.applyTransform(levels, transform))[0]
                return Image.fromarray(table[np.asarray(image)])
            return cast(Image.Image, ImageCms.applyTransform(image, transform))
    return image.convert("RGB") if image.mode in ("CMYK", "LAB", "YCbCr") else image


@functools.lru_cache(maxsize=16)  # photos of one camera share a profile; applying is thread-safe
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if it is not needed or the profile is unusable."""
    _refuse_hdr_profile(profile)
    try:
        if mode == "LAB":  # already a defined color space
            source: Any = ImageCms.createProfile("LAB")
        elif profile:
            source = ImageCms.getOpenProfile(io.BytesIO(profile))
        else:
            return None
        target = ImageCms.createProfile("sRGB")
        # lcms would reduce a gray curve to a table that is off by ten 8-bit steps in dark tones.
        exact = ImageCms.Flags.NOOPTIMIZE if mode in ("L", "I;16") else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, target, mode, "RGB", flags=exact)
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _refuse_hdr_profile(profile: bytes) -> None:
    """Refuses a profile whose `cicp` tag declares HDR colors (ICC.1:2022, 9.2.17)."""
    tags = int.from_bytes(profile[128:132])
    for entry in range(132, min(132 + 12 * tags, len(profile) - 11), 12):
        if profile[entry : entry + 4] == b"cicp":
            start = int.from_bytes(profile[entry + 4 : entry + 8])
            refuse_hdr(int.from_bytes(profile[start + 9 : start + 10]))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no color of a 16 x 16 x 16 lattice moves by more than one 8-bit step."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    moved = ImageCms.applyTransform(Image.fromarray(lattice), transform)
    return bool(np.abs(np.asarray(moved, dtype=int) - lattice).max() <= 1)
