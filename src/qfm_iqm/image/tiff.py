"""TIFF: checks and repairs before Pillow decodes; `image.tiff_pages` opens files.

Compressed pixels are checked where the compression allows it.

libtiff stops at the last pixel of a strip or tile, so it overlooks deflate's checksum after it, and
it drops warnings about JPEG data. PackBits, LZW and the fax codes have no checksum: damage in them
is only found if the codes become invalid.

An `ImageError` raised here holds only the reason; `image.decode` adds the source's name.
"""

import zlib
from collections.abc import Iterator

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from qfm_iqm.errors import TRUNCATED, ImageError
from qfm_iqm.image.jpeg import check_jpeg

WIDTH, HEIGHT, BITS, COMPRESSION = 256, 257, 258, 259
PLACES = ((273, 279), (324, 325))  # tags of offsets and lengths, for strips and tiles
_TABLES, _FILL_ORDER = 347, 266
_JPEG, _DEFLATE = 7, (8, 32946)
_PIECE = 1 << 20


def check_tiff(image: TiffImageFile) -> None:
    """Checks an opened TIFF: the checksums of deflate data, and JPEG data by decoding them.

    Raises:
        ImageError: the data are damaged.
    """
    tags = image.tag_v2
    compression = tags.get(COMPRESSION)
    if compression in _DEFLATE and tags.get(_FILL_ORDER, 1) == 1:
        for piece in _pieces(image):
            _check_deflate(piece)
    elif compression == _JPEG:
        tables = tags.get(_TABLES, b"\xff\xd8\xff\xd9")[:-2]
        for piece in _pieces(image):
            check_jpeg(tables + piece[2:])


def prepare_tiff(image: TiffImageFile) -> None:
    """Works around two faults of Pillow's TIFF reader before an opened TIFF is decoded."""
    # Pillow would check its global pixel limit when it allocates the canvas.
    size = (image.tag_v2[WIDTH], image.tag_v2[HEIGHT])
    image.im = Image.new(image.mode, size).im
    # Pillow reads uncompressed 16-bit planes (one per color) as 8-bit.
    if 16 in image.tag_v2.get(BITS, ()):
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        image.tile = [
            tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
            if isinstance(tile.args, tuple) and tile.args[0] in ("R", "G", "B", "A")
            else tile
            for tile in image.tile
        ]


def _pieces(image: TiffImageFile) -> Iterator[bytes]:
    """Yields the compressed strips or tiles."""
    for offsets, lengths in PLACES:
        places = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(lengths, ()), strict=False)
        for offset, length in places:
            assert image.fp is not None
            image.fp.seek(offset)
            yield image.fp.read(length)


def _check_deflate(data: bytes) -> None:
    decoder = zlib.decompressobj()
    try:
        while data and not decoder.eof:
            decoder.decompress(data, _PIECE)
            data = decoder.unconsumed_tail
    except zlib.error as error:
        raise ImageError("its data are damaged (a wrong checksum)") from error
    if not decoder.eof:
        raise ImageError(TRUNCATED)
