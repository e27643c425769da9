"""Compression faults for training the network of causes: JPEG, and codecs that smooth."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cause_faults import Draw, kept_at, of_cells, opinion_kept
from qfm_iqm.arrays import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import CLEAN, Cells

_TABLE = np.asarray(  # luma table of T.81, annex K
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
     14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
     92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)  # fmt: skip
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# Constant quantizers of one frame. The first is barely noticed; the next five degrade as much as
# AVIF at the qualities of `LIKE_JPEG` (H.264, HEVC), or as JPEG (MPEG-4: its blocks stay).
_QUANTIZERS = {
    "libx264": (30, 36.5, 38.5, 41, 45, 47, 51),
    "libx265": (30, 37.5, 39, 41.5, 46, 47.5, 51),
    "mpeg4": (6, 9, 10, 13, 29, 40, 60),
}
_DECODERS = {"libx264": "h264", "libx265": "hevc", "mpeg4": "mpeg4"}


def compression(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Rated faults, or JPEG with any tables and subsampling, sometimes saved before."""
    if draw.random() < 0.45:
        return of_cells("compression")(pixels, cells, draw)
    quality = math.exp(draw.uniform(math.log(4), math.log(50)))
    if draw.random() < 0.3:  # saved before, then cropped
        pixels = saved_jpeg(pixels, draw.uniform(50, 95), draw)
        top, left = draw.integers(8, size=2)
        pixels = np.ascontiguousarray(pixels[top:, left:])
    tilt = float(draw.choice([0, 0, draw.uniform(-0.7, 0.8)]))
    kept = opinion_kept(cells, "jpeg", quality)
    return saved_jpeg(pixels, quality, draw, tilt), f"jpeg {quality:.3g} {tilt:.2g}", kept


def smoothed(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Codecs that smooth their blocks: AVIF, and JPEG with a filter."""
    chance = draw.random()
    if chance < 0.2:
        return of_cells("compression")(pixels, cells, draw)
    if chance < 0.55:
        step = cells.draw(draw, among=("avif",))
        return distort(pixels, "avif", step.strength), f"avif {step.strength:.0f}", step.kept
    quality = math.exp(draw.uniform(math.log(4), math.log(32)))
    kept = opinion_kept(cells, "jpeg", quality)
    blocky = saved_jpeg(pixels, quality, draw, float(draw.uniform(-0.5, 0.5)))
    reach = int(draw.choice([5, 7]))
    smooth = cv2.bilateralFilter(blocky, reach, draw.uniform(12, 45), draw.uniform(1.5, 4))
    return np.asarray(smooth, np.uint8), f"smoothed jpeg {quality:.3g}", kept + 0.15 * (1 - kept)


def saved_jpeg(pixels: Bytes, quality: float, draw: Draw, tilt: float = 0) -> Bytes:
    """A JPEG at a libjpeg quality, with tables tilted to low or high frequencies."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    frequency = np.add.outer(np.arange(8), np.arange(8)).ravel() / 14
    tables = []
    for table in (_TABLE, _CHROMA.ravel()):
        tilted = table * scale * np.exp(tilt * (0.35 - frequency) * 2)
        tables.append(np.clip(np.rint(tilted), 1, 255).astype(int).tolist())
    encoded = io.BytesIO()
    sampling = str(draw.choice(["4:2:0", "4:2:0", "4:2:2", "4:4:4"]))
    Image.fromarray(pixels).save(encoded, "JPEG", qtables=tables, subsampling=sampling)
    with Image.open(encoded) as image:
        return np.asarray(image.convert("RGB"))


def filmed(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Video frames: H.264 with weak or strong deblocking, and MPEG-4."""
    if draw.random() < 0.25:
        return smoothed(pixels, cells, draw)
    return _of_codec("libx264" if draw.random() < 0.8 else "mpeg4", pixels, cells, draw)


def coded(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Half as `filmed`, half HEVC, which HEIC also uses."""
    if draw.random() < 0.5:
        return filmed(pixels, cells, draw)
    return _of_codec("libx265", pixels, cells, draw)


def _of_codec(codec: str, pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    quantizers = _QUANTIZERS[codec]
    quantizer = round(draw.uniform(quantizers[0], min(51, quantizers[-1])))
    opinions = [CLEAN, *(opinion for _, opinion in cells.levels["jpeg"]), 1.1]
    kept = kept_at(quantizer, zip(quantizers, opinions, strict=True))
    options = {"qmin": f"{quantizer}", "qmax": f"{quantizer}", "b": "100M"}
    if codec == "libx264":
        strength = int(draw.integers(-3, 4))
        options = {
            "qp": f"{quantizer}",
            "preset": str(draw.choice(["ultrafast", "veryfast", "fast"])),
            "x264-params": f"deblock={strength},{strength}:8x8dct={draw.integers(2)}",
        }
    if codec == "libx265":
        single = "pools=none:frame-threads=1:log-level=none"
        options = {"preset": "ultrafast", "x265-params": f"qp={quantizer}:{single}"}
    chroma = str(draw.choice(["BILINEAR", "BILINEAR", "BICUBIC", "POINT"]))
    found = _frame(pixels, codec, options, chroma)
    if found is None:
        return smoothed(pixels, cells, draw)
    return found, f"{codec} {quantizer}", kept


def _frame(pixels: Bytes, codec: str, options: dict[str, str], interpolation: str) -> Bytes | None:
    """The pixels coded and decoded as a single video frame, of even height and width.

    None if FFmpeg cannot read what it wrote, which is rare.
    """
    import av  # only needed here

    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    even = np.ascontiguousarray(pixels[:height, :width])
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    encoder.options = options
    frame = av.VideoFrame.from_ndarray(even, "rgb24").reformat(format="yuv420p")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder: Any = av.CodecContext.create(_DECODERS[codec], "r")
    decoder.extradata = encoder.extradata
    try:
        frames = [found for packet in (*packets, None) for found in decoder.decode(packet)]
    except av.FFmpegError:
        return None
    full = frames[0].reformat(format="yuv444p", interpolation=interpolation)
    return np.asarray(full.to_ndarray(format="rgb24"), np.uint8)
