"""Images that Pillow cannot decode rightly, behind Pillow's interface.

tifffile and imagecodecs (the extra `formats`) decode them to samples of any depth; here these
become a Pillow image when it is loaded, so that all that follows treats every image alike.

Design choices:
* Colors come down to 8 bits, rounded from the exact value; gray alone keeps 16.
* What a sample's numbers mean is fixed: integers run from 0 to the largest of their bits, floats
  from 0 to 1. Floats outside are refused rather than clipped.

Shapes: H and W pixels, C channels.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from qfm_iqm.errors import ImageError

_STRIP_SAMPLES = 1 << 20  # that become floats at once


class DeferredImage(Image.Image):
    """An image whose header is parsed, and whose pixels a function decodes when it is loaded.

    Attributes:
        decoder_bytes: what decoding takes at most for a pixel, beside the canvas.
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
        """Keeps what the header says.

        Args:
            decode: makes the pixels, in the mode and size that are given here.
            like: format, mode and size (width, height).
            decoder_bytes: see the class.
            orientation: as in EXIF.
            info: as Pillow's.
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
    """A library of the extra that reads what Pillow does not.

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
    """Samples from 0 to `largest` as the nearest levels of a kind, some rows at a time."""
    levels = np.iinfo(kind).max
    if samples.dtype == kind and largest == levels:
        return samples
    result = np.empty(samples.shape, kind)
    rows = max(1, _STRIP_SAMPLES // max(1, samples[:1].size))
    for top in range(0, len(samples), rows):
        part = samples[top : top + rows].astype(np.float64)
        low, high = part.min(), part.max()
        if not (low >= 0 and high <= largest):  # so written, NaN is refused too
            kinds = "floats in 0..1" if largest == 1 else f"integers in 0..{largest:g}"
            raise ImageError(
                f"its values run from {low:g} to {high:g} and must be {kinds}; "
                "scale them and save it as 16-bit PNG"
            )
        result[top : top + rows] = np.rint(part * (levels / largest))
    return result
