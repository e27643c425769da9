"""TIFF: selects the page of a file that is its image, and the library that decodes it.

Design choices:
* Many camera RAW files are TIFFs whose first page is a preview: files with a DNG version or a page
  in sensor colors are left to `image.raw`. A TIFF with only reduced copies is refused.
* The image is the first page that is not marked as a reduced copy or as a mask.
* Pillow reads the common layouts, which it decodes correctly; tifffile with imagecodecs (the extra
  `formats`) reads the others. Signed samples are refused, because their black level is undefined.

Sources: TIFF 6.0; TIFF/EP (ISO 12234-2); Adobe's DNG and TIFF technical notes.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from qfm_iqm.arrays import Bytes
from qfm_iqm.errors import TRUNCATED, ImageError
from qfm_iqm.image.color import to_srgb
from qfm_iqm.image.deferred import DeferredImage, needed, scaled
from qfm_iqm.image.tiff import BITS, COMPRESSION, HEIGHT, PLACES, WIDTH

_SUBFILE, _PHOTOMETRIC, _ORIENTATION, _SUBIFDS, _EXTRA, _FORMAT = 254, 262, 274, 330, 338, 339
_SUBSAMPLING, _DEPTH, _DNG_VERSION = 530, 32997, 50706
_DATA = (*PLACES, (513, 514))  # with those of a JPEG preview
_MARKS = 1 | 4  # bits of NewSubfileType: a reduced copy of another page, or a mask for one
_SENSOR = (32803, 34892)  # photometric interpretations: color filter array, linear raw
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_NOT_IN_PILLOW = (50001, 50002)  # compressions that Pillow opens but may be unable to decode
_BLACK_IS_ZERO, _WHITE_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = (
    1, 0, 2, 3, 5, 6, 8, 9,
)  # fmt: skip
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_COLORS |= {_CIELAB: 3, _ICCLAB: 3}
_JPEG, _JP2_YCBCR = (6, 7, 34892), 33003
_NAMES = {
    _WHITE_IS_ZERO: "gray", _BLACK_IS_ZERO: "gray", _RGB: "RGB", _PALETTE: "palette",
    _CMYK: "CMYK", _YCBCR: "YCbCr", _CIELAB: "CIELab", _ICCLAB: "ICCLab", 10: "ITULab",
    32844: "LogL", 32845: "LogLuv",
}  # fmt: skip
_CODECS = {
    1: "no", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "Deflate",
    32773: "PackBits", 32946: "Deflate", 33003: "JPEG 2000", 33005: "JPEG 2000", 34676: "SGILog",
    34677: "SGILog", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 22610: "JPEG XR", 34934: "JPEG XR",
    34933: "PNG", 34892: "lossy JPEG",
}  # fmt: skip
_MOST_SAMPLES, _MOST_PAGES = 8, 1000
_LARGEST_TILE = 1 << 26  # pixels

Tags = TiffImagePlugin.ImageFileDirectory_v2


class RawFileError(ImageError):
    """The TIFF is a camera RAW file: it holds sensor data."""


def open_tiff(stream: BinaryIO, name: str) -> Image.Image:
    """Opens the image page of a TIFF; decodes no pixels yet.

    Raises:
        RawFileError: it is a camera RAW file.
        ImageError: the file is intact, but its layout is not supported.
        Exception: any exception of Pillow on damaged data.
    """
    if _header(stream)[:4] == b"MM\0\x2b":  # Pillow misreads the tags of these
        return _opened_by_tifffile(stream, None, "a BigTIFF of this byte order")
    frame, tags = _main_page(stream)
    what = f"TIFF with {_layout(tags)}"
    if _SIGNED in _all_of(tags, _FORMAT, _UNSIGNED):
        raise ImageError(f"not supported: {what}; save it with unsigned ones")
    if _pillow_reads(tags):
        stream.seek(0)
        with suppress(SyntaxError):  # a layout that Pillow does not know
            image = TiffImagePlugin.TiffImageFile(stream, name)
            image.seek(frame)
            return image
    return _opened_by_tifffile(stream, frame, what)


# ---- which page ----


def _main_page(stream: BinaryIO) -> tuple[int, Tags]:
    """Number and tags of the first page that is neither a reduced copy nor a mask."""
    for frame, tags in enumerate(islice(_pages(stream), _MOST_PAGES)):
        below = _pages_below(stream, tags) if frame == 0 else ()
        colors = {page.get(_PHOTOMETRIC) for page in (tags, *below)}
        if _DNG_VERSION in tags or colors.intersection(_SENSOR):
            raise RawFileError
        if not tags.get(_SUBFILE, 0) & _MARKS:
            if not (tags.get(WIDTH) and tags.get(HEIGHT)):
                raise ValueError("its size is missing")
            return frame, tags
    raise _only_copies()


def data_end(stream: BinaryIO) -> int:
    """The end offset of a TIFF's pixel data, according to its pages; 0 for any other file."""
    end = 0
    with suppress(Exception):  # no TIFF
        for tags in islice(_pages(stream), _MOST_PAGES):
            for page in (tags, *_pages_below(stream, tags)):
                for offsets, lengths in _DATA:
                    places = zip(_each(page, offsets), _each(page, lengths), strict=False)
                    end = max([end, *(offset + length for offset, length in places)])
    return end


def _each(tags: Tags, tag: int) -> tuple[int, ...]:
    """All values of a tag in order."""
    values = tags.get(tag, ())
    return values if isinstance(values, tuple) else (values,)


def _only_copies() -> ImageError:
    return ImageError(
        "all its pages are marked as reduced copies of an image that is not among them, "
        "as in camera RAW files; export it as JPEG, PNG or TIFF"
    )


def _pages(stream: BinaryIO) -> Iterator[Tags]:
    """Yields the tags of each page; only those of the first page must be intact."""
    header = _header(stream)
    offset, seen = Tags(header).next, set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        try:
            tags = _tags_at(stream, header, offset)
        except Exception:
            if len(seen) == 1:
                raise
            return
        yield tags
        offset = tags.next


def _pages_below(stream: BinaryIO, tags: Tags) -> Iterator[Tags]:
    """The tags of the pages that a page refers to (SubIFDs)."""
    for offset in islice(_each(tags, _SUBIFDS), _MOST_PAGES):
        with suppress(Exception):  # damaged ones are ignored, because they are not displayed
            yield _tags_at(stream, _header(stream), int(offset))


def _tags_at(stream: BinaryIO, header: bytes, offset: int) -> Tags:
    tags = Tags(header)
    stream.seek(offset)
    tags.load(stream)
    return tags


def _header(stream: BinaryIO) -> bytes:
    stream.seek(0)
    header = stream.read(16)
    return header if header[2:3] == b"\x2b" or header[3:4] == b"\x2b" else header[:8]


# ---- which library ----


def _pillow_reads(tags: Tags) -> bool:
    """Whether Pillow, if it opens a page of this layout, decodes it correctly."""
    bits, form = _all_of(tags, BITS, 1), _all_of(tags, _FORMAT, _UNSIGNED)
    subsampled = tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_SUBSAMPLING) != (1, 1)
    return (
        tags.get(COMPRESSION, 1) not in _NOT_IN_PILLOW
        and tags.get(_DEPTH, 1) == 1
        and not (bits == {32} and form == {_UNSIGNED})  # Pillow reads them as signed
        and not (subsampled and tags.get(COMPRESSION, 1) == 1)  # ... as not subsampled
    )


def _layout(tags: Tags) -> str:
    """Describes the layout of a page in words."""
    forms = {_UNSIGNED: "", _SIGNED: "signed ", _FLOAT: "float "}
    form = forms.get(max(_all_of(tags, _FORMAT, _UNSIGNED)), "unusual ")
    bits = "/".join(map(str, sorted(_all_of(tags, BITS, 1))))
    kind = _NAMES.get(tags.get(_PHOTOMETRIC, 0), "unusual")
    codec = _CODECS.get(tags.get(COMPRESSION, 1), "an unusual")
    extra = " and further channels" if tags.get(_EXTRA) else ""
    volume = " in a volume" if tags.get(_DEPTH, 1) != 1 else ""
    return f"{form}{bits}-bit {kind} samples{extra}{volume}, {codec} compression"


def _all_of(tags: Tags, tag: int, default: int) -> set[int]:
    """The values of a tag with one value per sample of a pixel, or one for all."""
    values = tags.get(tag, default)
    return set(values or (default,)) if isinstance(values, tuple) else {values}


# ---- decoding by tifffile ----


def _opened_by_tifffile(stream: BinaryIO, frame: int | None, what: str) -> Image.Image:
    """Opens a page that Pillow cannot read; decodes no pixels yet. Frame None is the main page."""
    tifffile = needed("tifffile", what)
    needed("imagecodecs", what)
    stream.seek(0)
    pages = tifffile.TiffFile(stream).pages
    if frame is None:
        unmarked = (page for page in islice(pages, _MOST_PAGES) if not page.subfiletype & _MARKS)
        page = next(unmarked, None)
    else:
        page = pages[frame]
    if page is None:
        raise _only_copies()
    if page.photometric in _SENSOR:
        raise RawFileError
    if not _tifffile_reads(page, tifffile):
        raise ImageError(f"not supported: {what}; save it as 8-bit TIFF or PNG")
    mode, orientation = _mode(page), page.tags.valueof(_ORIENTATION, 1)
    return DeferredImage(
        lambda: _decoded(page, mode),
        like=("TIFF", mode, (page.imagewidth, page.imagelength)),
        decoder_bytes=page.samplesperpixel * page.dtype.itemsize * page.planarconfig + 16,
        orientation=orientation if isinstance(orientation, int) else 1,
        info={"icc_profile": b"" if _is_merged(page) else page.iccprofile},
    )


def _tifffile_reads(page: Any, tifffile: Any) -> bool:
    """Whether a page can be decoded, and its values are unambiguous."""
    kind = "" if page.dtype is None else page.dtype.kind
    if page.photometric not in _COLORS or kind not in ("b", "u", "f") or page.imagedepth != 1:
        return False
    if not _COLORS[page.photometric] <= page.samplesperpixel <= _MOST_SAMPLES:
        return False
    if page.photometric in (_PALETTE, _YCBCR, _CIELAB, _ICCLAB) and (
        kind == "f" or page.dtype.itemsize > 2
    ):
        return False
    if page.is_tiled and page.tilewidth * page.tilelength > _LARGEST_TILE:
        return False
    if page.is_subsampled and page.compression not in _JPEG:
        return False
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        return False
    return True


def _alpha(page: Any) -> int:
    """Kind of the first extra channel: 0 no alpha, 1 premultiplied alpha, 2 straight alpha."""
    if page.samplesperpixel == _COLORS[page.photometric]:
        return 0
    return int(page.extrasamples[0]) if page.extrasamples else 2  # as in Pillow


def _is_merged(page: Any) -> bool:
    """Whether decoding must convert the colors to sRGB, because no mode has them with alpha."""
    return bool(_alpha(page) and page.photometric in (_CMYK, _YCBCR, _CIELAB, _ICCLAB))


def _mode(page: Any) -> str:
    """Pillow's mode of a decoded page."""
    if _is_merged(page):
        return "RGBA"
    color = {1: "L", 3: "RGB", 4: "CMYK"}[_COLORS[page.photometric]]
    if page.photometric == _PALETTE:
        color = "RGB"
    elif page.photometric in (_CIELAB, _ICCLAB):
        color = "LAB"
    elif page.compression == _JP2_YCBCR or (
        page.photometric == _YCBCR and page.compression not in _JPEG
    ):
        color = "YCbCr"
    alpha = ("", "a", "A")[_alpha(page)]
    deep = page.dtype.itemsize > 1
    return "I;16" if deep and color + alpha == "L" else color + alpha


def _decoded(page: Any, mode: str) -> Image.Image:
    """Decodes a page's pixels to a Pillow image of a mode."""
    size = page.parent.filehandle.size
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not all(offset and count for offset, count in segments):
        raise ImageError("not supported: TIFF with missing strips or tiles")
    if any(offset + count > size for offset, count in segments):
        raise ImageError(TRUNCATED)
    planes = page.asarray(maxworkers=1).reshape(page.shaped)[:, 0]  # (planes, H, W, of each)
    samples_HWC = np.moveaxis(planes, 0, 2).reshape(*planes.shape[1:3], -1)
    largest = 1 if page.dtype.kind in "bf" else (1 << page.bitspersample) - 1
    highest = samples_HWC.max()
    if page.bitspersample >= 32 and 0 < highest <= largest >> 16:  # would be scaled to black
        raise ImageError(f"its highest value is {highest} of {largest}; save it with fewer bits")
    colors = _COLORS[page.photometric]
    values, alpha = samples_HWC[..., :colors], samples_HWC[..., colors : colors + 1]
    if page.photometric == _WHITE_IS_ZERO:
        values = values ^ True if page.dtype.kind == "b" else values.dtype.type(largest) - values
    if mode == "I;16":
        return Image.fromarray(scaled(values[..., 0], largest, np.uint16))
    if page.photometric in (_CIELAB, _ICCLAB):
        pixels_HWC = _lab(values, page.photometric)
    elif page.photometric == _PALETTE:
        pixels_HWC = (page.colormap >> 8).astype(np.uint8).T[values[..., 0]]
    else:
        pixels_HWC = scaled(values, largest)
    if not _alpha(page):
        return _image(pixels_HWC, mode)
    alpha_HW1 = scaled(alpha, largest)
    if not _is_merged(page):
        return _image(np.concatenate([pixels_HWC, alpha_HW1], axis=2), mode)
    names = {_CMYK: "CMYK", _YCBCR: "YCbCr"}
    if page.photometric == _YCBCR and page.compression in _JPEG:
        names[_YCBCR] = "RGB"
    image = to_srgb(_image(pixels_HWC, names.get(page.photometric, "LAB")), page.iccprofile or b"")
    image.putalpha(Image.fromarray(alpha_HW1[..., 0]))
    return image


def _lab(values_HWC: npt.NDArray[Any], photometric: int) -> Bytes:
    """Converts CIELab or ICCLab with 8 or 16 bits to 8-bit CIELab with signed a and b."""
    if values_HWC.dtype == np.uint8:
        pixels_HWC = values_HWC.astype(np.uint8)
    else:
        wide = values_HWC.astype(np.float64)
        if photometric == _CIELAB:  # white is 65535 in CIELab, but 65280 in ICCLab
            wide[..., 0] *= 256 / 257
            wide[..., 1:] = (wide[..., 1:] + 0x8000) % 0x10000
        pixels_HWC = np.minimum(np.rint(wide / 256), 255).astype(np.uint8)
        photometric = _ICCLAB
    if photometric == _ICCLAB:  # a and b are centered at 128
        pixels_HWC[..., 1:] += np.uint8(128)
    return pixels_HWC


def _image(pixels_HWC: Bytes, mode: str) -> Image.Image:
    """A Pillow image from 8-bit pixels."""
    height, width, _ = pixels_HWC.shape
    data = np.ascontiguousarray(pixels_HWC)
    return Image.frombytes(mode, (width, height), data.tobytes())
