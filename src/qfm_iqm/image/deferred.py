"""Images that Pillow cannot decode correctly, behind Pillow's interface.

tifffile and imagecodecs (the extra `formats`) decode them to samples of any depth. Loading converts
these to a Pillow image, so that later code treats all images alike.

Design choices:
* Colors are rounded to 8 bits; gray keeps 16 bits.
* The range of samples is fixed: integers from 0 to the maximum of their bit depth, floats from 0 to
  1. Values outside are refused rather than clipped.

Shapes: H and W pixels, C channels.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from qfm_iqm.errors import ImageError

_STRIP_SAMPLES = 1 << 20  # samples converted to float at a time


class DeferredImage(Image.Image):
    """An image with a parsed header, whose pixels a function decodes at loading.

    Attributes:
        decoder_bytes: most bytes per pixel for decoding, besides the canvas.
    """

    def __init__(
        self,
        decode: Callable[[], Image.Image],
        *,
        like: tuple[str, str, tuple[int, int]],
        decoder_bytes: int,
        orientation: int = 1,
        info: dict[Any, Any] | None = None,
    ) -> None:
        """Stores the facts from the header.

        Args:
            decode: decodes the pixels; the result must have this mode and size.
            like: format, mode and size (width, height).
            decoder_bytes: see the class.
            orientation: EXIF orientation.
            info: as in Pillow.
        """
        super().__init__()
        self.format, self._mode, self._size = like
        self.info = dict(info or {})
        self.decoder_bytes = decoder_bytes
        self._decode: Callable[[], Image.Image] | None = decode
        self._orientation = orientation

    def load(self) -> Any:
        """Decodes the pixels, once."""
        if self._decode is not None:
            image = self._decode()
            if (image.mode, image.size) != (self.mode, self.size):
                raise ImageError("its header and its data contradict each other")
            self.im = image.im
            self._decode = None
        return super().load()

    def getexif(self) -> Image.Exif:
        """The orientation, as EXIF."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = self._orientation
        return exif


def needed(library: str, what: str) -> Any:
    """Imports a library of the extra `formats`.

    Raises:
        ImageError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImageError(f"not supported: {what}; pip install 'qfm-iqm[formats]'") from error


def scaled(
    samples: npt.NDArray[Any], largest: float, kind: type[np.uint8 | np.uint16] = np.uint8
) -> npt.NDArray[Any]:
    """Rounds samples in 0..`largest` to the levels of an integer type, some rows at a time."""
    levels = np.iinfo(kind).max
    if samples.dtype == kind and largest == levels:
        return samples
    result = np.empty(samples.shape, kind)
    rows = max(1, _STRIP_SAMPLES // max(1, samples[:1].size))
    for top in range(0, len(samples), rows):
        part = samples[top : top + rows].astype(np.float64)
        if not (part.min() >= 0 and part.max() <= largest):  # this form refuses NaN too
            low, high = samples.min(), samples.max()
            kinds = "floats in 0..1" if largest == 1 else f"integers in 0..{largest:g}"
            raise ImageError(
                f"its values run from {low:g} to {high:g} and must be {kinds}; "
                "scale them and save it as 16-bit PNG"
            )
        result[top : top + rows] = np.rint(part * (levels / largest))
    return result
