"""Camera RAW files: DNGs as a camera writes them, with sensor values and a preview."""

import io

import numpy as np
import tifffile
from PIL import Image

_TO_CAMERA = (  # from XYZ; the camera's colors are those of linear sRGB (IEC 61966-2-1)
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
_WHITE = 60000


def dng(
    photo,
    *,
    preview=None,
    orientation=1,
    linear=False,
    version=True,
    taken=None,
    preview_exif=None,
    plain_preview=False,
):
    """A DNG of sRGB pixels (H, W, 3): a Bayer mosaic, or all three colors of each pixel.

    The preview is a JPEG after the sensor's values, or plain pixels; before them is a
    small one.
    """
    values = np.asarray(photo) / 255
    values = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    values = np.rint(values * _WHITE).astype(np.uint16)
    matrix = [part for row in _TO_CAMERA for cell in row for part in (round(cell * 10**4), 10**4)]
    camera = [
        (271, "s", 0, "Camera", True),
        (272, "s", 0, "Test", True),
        (274, "H", 1, orientation, True),
        (50708, "s", 0, "Camera Test", True),
        (50721, "2i", 9, tuple(matrix), True),
        (50728, "2I", 3, (1,) * 6, True),
        (50778, "H", 1, 21, True),
    ]
    if version:
        camera += [(50706, "B", 4, (1, 4, 0, 0), True), (50707, "B", 4, (1, 1, 0, 0), True)]
    if taken:
        camera += [(36867, "s", 0, taken, True)]
    if linear:
        main, photometric = values, 34892
        sensor = [(50717, "I", 3, (_WHITE,) * 3, True)]
    else:
        main, photometric = values[..., 1].copy(), 32803
        main[0::2, 0::2], main[1::2, 1::2] = values[0::2, 0::2, 0], values[1::2, 1::2, 2]
        sensor = [
            (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, (0, 1, 1, 2), True),
            (50710, "B", 3, (0, 1, 2), True),
            (50711, "H", 1, 1, True),
            (50717, "I", 1, _WHITE, True),
        ]
    form = {"photometric": photometric, "metadata": None, "planarconfig": "contig"}
    if not linear:
        del form["planarconfig"]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        if preview is None:
            writer.write(main, extratags=camera + sensor, **form)
            return file.getvalue()
        small = np.asarray(Image.fromarray(preview).resize((16, 12)))
        writer.write(small, subfiletype=1, subifds=2, metadata=None, extratags=camera)
        writer.write(main, extratags=sensor, **form)
        if plain_preview:
            writer.write(preview, subfiletype=1, metadata=None)
            return file.getvalue()
        writer.write(
            iter([jpeg_of(preview, exif=preview_exif)]),
            shape=preview.shape,
            dtype=np.uint8,
            photometric="ycbcr",
            compression="jpeg",
            subfiletype=1,
            rowsperstrip=preview.shape[0],
            metadata=None,
        )
    return file.getvalue()


def jpeg_of(pixels, exif=None):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    content = file.getvalue()
    if exif is None:
        return content
    # At the front, as cameras write it: else libraw puts its own EXIF there.
    block = exif.tobytes()
    return content[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + content[2:]
