"""Camera RAW files: the preview that the camera has put in, or the photo developed by libraw.

Design choices:
* The preview counts only where each of its sides has half the pixels of the photo's, or more: it is
  the camera's own picture of the photo then. A smaller one is a thumbnail, and the photo is
  developed.
* The photo's size and orientation are those of the RAW data. What the preview says of its own
  orientation is ignored, as cameras disagree about what it means.
* Developing takes libraw's defaults with the camera's white balance: sRGB, 8 bits, brightened until
  1 % of the pixels are white. Where that leaves enough pixels, each cell of the Bayer pattern
  becomes one pixel: a quarter of the time and memory.
* When the photo was taken is what the file's own tags say, where it is built like a TIFF, else what
  the preview's EXIF says.
* A file that is cut short is refused even if its preview is whole.

rawpy (the extra `raw`) brings libraw.

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
    f".{ending}"
    for endings in (
        ("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "raf", "orf", "rw2"),
        ("rwl", "pef", "srw", "3fr", "fff", "iiq", "mrw", "x3f", "kdc", "dcr", "erf", "mef"),
    )
    for ending in endings
)
"""What names of camera RAW files end in, in lower case."""

# Camera RAW files that tell by their first bytes; `image.tiff_pages` knows those in TIFF.
_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW"),  # RAF
    (0, b"IIRO"),  # ORF, of both byte orders and of later cameras
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
# EXIF's orientations by libraw's numbers.
_ORIENTATIONS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}


class RawPhoto(Image.Image):
    """A RAW file whose header is parsed, to be developed.

    Its mode and size are those of the developed photo, which `developed` gives.
    """

    def __init__(self, raw: Any, times: dict[int, str]) -> None:
        """Takes libraw's handle of an opened file, and its tags of time."""
        super().__init__()
        sizes, aspect = raw.sizes, raw.sizes.pixel_aspect
        self.format, self._mode = "RAW", "RGB"
        self._size = (  # as libraw makes pixels square
            round(sizes.iwidth * max(1, aspect)),
            round(sizes.iheight / min(1, aspect)),
        )
        self.orientation = _ORIENTATIONS.get(sizes.flip, 1)
        self._raw, self._times = raw, times

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """At which parts of its size it can be developed; this reads the sensor's values."""
        pattern = self._raw.raw_pattern
        return (1, 2) if pattern is not None and pattern.shape == (2, 2) else (1,)

    def developing_bytes(self, scale: int) -> int:
        """What developing takes at most for a pixel of the photo, with the result."""
        return 24 if len(self.scales) == 1 else 16 if scale == 1 else 6

    def getexif(self) -> Image.Exif:
        """Orientation and time, as EXIF."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = self.orientation
        exif.get_ifd(ExifTags.IFD.Exif).update(self._times)
        return exif

    def developed(self, scale: int = 1) -> Bytes:
        """The photo as it is stored, sRGB (H, W, 3), at 1 / `scale` (one of `scales`) of its size.

        Raises:
            ImageError: its data are damaged, or the sensor is of an unusual kind.
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
        """The preview, to be decoded as any image; None if there is none of half the photo's size.

        It must be asked for before the sensor's values are read: libraw crashes on some previews
        afterwards. Only JPEGs count. Of other previews libraw tells three colors a pixel even if
        they are gray, and their size would be read beyond their end.

        Its attribute `photo_size` is the photo's width and height, in the preview's orientation.
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
    """Whether a file with these first 64 bytes is a camera RAW file; TIFF tells by its pages."""
    return any(header[at:].startswith(mark) for at, mark in _SIGNATURES)


def open_raw(stream: BinaryIO, reading: RawReading) -> Image.Image:
    """Opens a camera RAW file: its preview, or the photo to be developed; decodes no pixels yet.

    Args:
        stream: the file.
        reading: "preview" takes the preview where it is large enough, "develop" never.

    Raises:
        ImageError: rawpy is missing, the file is cut short, or libraw does not read it.
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
    """The tags of time of a file that is built like a TIFF, or of a preview's EXIF."""
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
