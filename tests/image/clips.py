"""Videos whose frames can be identified by their content."""

import io
import struct
from fractions import Fraction

import av
import numpy as np

_FINE = {  # nearly lossless, and fast
    "mpeg4": {"qmin": "1", "qmax": "1"},
    "libx264": {"qp": "3", "preset": "ultrafast", "threads": "1"},
}
TIMES = 1000  # units of a second in which frames are stamped


def clip(
    frames,
    times=None,
    *,
    codec="mpeg4",
    container="mp4",
    pixels="yuv420p",
    options=None,
    tags=None,
):
    """A video of RGB frames (H, W, 3), or of YUV ones (3, H, W), shown from these seconds on."""
    times = np.arange(len(frames)) / 10 if times is None else times
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        height, width = frames[0].shape[-2:] if pixels == "yuv444p" else frames[0].shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = Fraction(1, TIMES)
        stream.options = _FINE.get(codec, {}) | (options or {})
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for time, values in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(values, "rgb24" if pixels != "yuv444p" else pixels)
            frame.pts, frame.time_base = round(TIMES * time), Fraction(1, TIMES)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return file.getvalue()


def numbered(count, size=(32, 48)):
    """Frames that are gray, each a little lighter than the one before."""
    return [np.full((*size, 3), 20 + 4 * number, np.uint8) for number in range(count)]


def number_of(frame):
    """Which of the numbered frames an image is."""
    return round((float(np.asarray(frame).mean()) - 20) / 4)


MATRICES = {  # a, b, c, d of a display matrix for each EXIF orientation
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def turned_by(content, orientation):
    """An MP4 whose track header turns it, written by hand (ISO/IEC 14496-12, 8.3.2)."""
    a, b, c, d = (value << 16 for value in MATRICES[orientation])
    place = content.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return content[:place] + matrix + content[place + 36 :]
