"""Camera RAW files: the camera's embedded preview, or the photo developed by libraw.

Design choices:
* The preview is used only if each side has at least half of the photo's pixels. A smaller one is a
  thumbnail, and the photo is developed instead.
* The photo's size and orientation are those of the RAW data. The preview's own orientation is
  ignored, because cameras disagree about its meaning.
* Developing uses libraw's defaults with the camera's white balance: sRGB, 8 bits, brightened until
  1 % of the pixels are white. If that leaves enough pixels, each cell of the Bayer pattern becomes
  one pixel, in a quarter of the time and memory.
* The capture time comes from the file's tags if it is structured like a TIFF, else from the
  preview's EXIF.
* A truncated file is refused even if its preview is complete.

rawpy (the extra `raw`) contains libraw.

Shapes: H and W pixels.
"""

import io
from contextlib import suppress
from functools import cached_property
from typing import Any, BinaryIO, Literal

from PIL import ExifTags, Image

from qfm_iqm.arrays import Bytes
from qfm_iqm.errors import DAMAGED, TRUNCATED, ImageError
from qfm_iqm.image.boxes import is_cut
from qfm_iqm.image.capture_time import TIME_TAGS
from qfm_iqm.image.jpeg import open_jpeg
from qfm_iqm.image.tiff_pages import data_end

RawReading = Literal["preview", "develop"]

RAW_SUFFIXES = frozenset(
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .rw2 "  # noqa: SIM905
    ".rwl .pef .srw .3fr .fff .iiq .mrw .x3f .kdc .dcr .erf .mef".split()
)
"""File extensions of camera RAW files, in lower case."""

# RAW formats with a signature; `image.tiff_pages` detects those in TIFF.
_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW"),  # RAF
    (0, b"IIRO"),  # ORF in both byte orders and of later cameras
    (0, b"MMOR"),
    (0, b"IIRS"),
    (0, b"IIU\0"),  # RW2, RWL
    (0, b"\0MRM"),  # MRW
    (0, b"FOVb"),  # X3F
    (0, b"ARRI"),
    (4, b"ftypcrx "),  # CR3
    (6, b"HEAPCCDR"),  # CRW
    (8, b"CR\2"),  # CR2, a TIFF
    (8, b"IIIITwaR"),  # IIQ, a TIFF
    (8, b"MMMMRawT"),
)
# EXIF orientations by libraw's numbers.
_ORIENTATIONS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class RawPhoto(Image.Image):
    """A RAW file with a parsed header, to be developed.

    Its mode and size are those of the developed photo.
    """

    def __init__(self, raw: Any, times: dict[int, str]) -> None:
        """Takes libraw's handle of an opened file, and its time tags."""
        super().__init__()
        sizes, aspect = raw.sizes, raw.sizes.pixel_aspect
        self.format, self._mode = "RAW", "RGB"
        self._size = (  # after libraw has made the pixels square
            round(sizes.iwidth * max(1, aspect)),
            round(sizes.iheight / min(1, aspect)),
        )
        self.orientation = _ORIENTATIONS.get(sizes.flip, 1)
        self._raw, self._times = raw, times

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """Reduction factors at which it can be developed; this reads the sensor's values."""
        pattern = self._raw.raw_pattern
        return (1, 2) if pattern is not None and pattern.shape == (2, 2) else (1,)

    def developing_bytes(self, scale: int) -> int:
        """Most bytes per pixel of the photo for developing, including the result."""
        return 24 if len(self.scales) == 1 else 16 if scale == 1 else 6

    def getexif(self) -> Image.Exif:
        """Orientation and time, as EXIF."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = self.orientation
        exif.get_ifd(ExifTags.IFD.Exif).update(self._times)
        return exif

    def developed(self, scale: int = 1) -> Bytes:
        """The photo as stored, sRGB (H, W, 3), at 1 / `scale` (one of `scales`) of its size.

        Raises:
            ImageError: its data are damaged, or the kind of sensor is not supported.
        """
        import rawpy

        try:
            pixels: Bytes = self._raw.postprocess(
                use_camera_wb=True, half_size=scale == 2, user_flip=0
            )
        except rawpy.LibRawError as error:
            raise _refusal(error) from error
        width, height = self.size
        if pixels.shape != (-(-height // scale), -(-width // scale), 3):
            raise ImageError(
                "not supported: the pixels of its sensor do not lie in rows and columns; "
                "export it as JPEG, PNG or TIFF"
            )
        return pixels

    def preview(self) -> Image.Image | None:
        """The preview, to be decoded like any image; None if it is below half the photo's size.

        Call it before the sensor's values are read, because libraw later crashes on some previews.
        Only JPEG previews are used: for others libraw reports three colors per pixel even if they
        are gray, so that reading would go beyond their end.

        The preview's attribute `photo_size` is the photo's width and height, in the preview's
        orientation.
        """
        import rawpy

        with suppress(rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            found = self._raw.extract_thumb()
            if found.format != rawpy.ThumbFormat.JPEG:
                return None
            image: Any = open_jpeg(io.BytesIO(found.data), "")
            pairs = zip(sorted(image.size), sorted(self.size), strict=True)
            if all(2 * side >= whole for side, whole in pairs):
                turned = (image.width > image.height) != (self.width > self.height)
                image.photo_size = self.size[::-1] if turned else self.size
                times = self._times or _times(image)
                image.info.pop("exif", None)
                image.info.pop("xmp", None)
                exif = image.getexif()
                exif[ExifTags.Base.Orientation] = 1 if turned else self.orientation
                exif.get_ifd(ExifTags.IFD.Exif).update(times)
                return image  # type: ignore[no-any-return]
        return None


def is_raw(header: bytes) -> bool:
    """Whether a file with these first 64 bytes is a RAW file, except for RAW files in TIFF."""
    return any(header[at:].startswith(mark) for at, mark in _SIGNATURES)


def open_raw(stream: BinaryIO, reading: RawReading) -> Image.Image:
    """Opens a camera RAW file as its preview or as the photo; decodes no pixels yet.

    Args:
        stream: the file.
        reading: "preview" takes the preview if it is large enough, "develop" never.

    Raises:
        ImageError: rawpy is missing, the file is truncated, or libraw cannot read it.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError("camera RAW needs an extra: pip install 'qfm-iqm[raw]'") from error
    end = stream.seek(0, io.SEEK_END)
    if is_cut(stream) or data_end(stream) > end:
        raise ImageError(TRUNCATED)
    stream.seek(0)
    raw = rawpy.RawPy()
    try:
        raw.open_buffer(stream)
        photo = RawPhoto(raw, _times(stream))
        return (photo.preview() if reading == "preview" else None) or photo
    except rawpy.LibRawError as error:
        raise _refusal(error) from error


def _times(source: BinaryIO | Image.Image) -> dict[int, str]:
    """The time tags of a file structured like a TIFF, or of a preview's EXIF."""
    exif = Image.Exif()
    with suppress(Exception):  # files of other kinds, damaged metadata
        if isinstance(source, Image.Image):
            exif.load(source.info["exif"])
        else:
            source.seek(0)
            exif.load_from_fp(source)
        found = dict(exif) | exif.get_ifd(ExifTags.IFD.Exif)  # DNG allows both places
        return {tag: str(found[tag]) for tags in TIME_TAGS for tag in tags if tag in found}
    return {}


def _refusal(error: Exception) -> ImageError:
    import rawpy

    if isinstance(error, rawpy.LibRawFileUnsupportedError | rawpy.LibRawNotImplementedError):
        return ImageError(
            "not supported: a camera RAW file of this kind; export it as JPEG, PNG or TIFF"
        )
    return ImageError(DAMAGED)
