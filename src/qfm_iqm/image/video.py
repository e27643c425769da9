"""Videos: one frame per interval, upright and in sRGB.

Design choices:
* A frame belongs to the interval that contains its timestamp, and the first frame of each interval
  is taken. Thus a variable frame rate makes no difference, and no frame is taken twice.
* Only what the required frames need is decoded: nothing between the last required frame and the
  next keyframe. One frame is held at a time, besides those that the decoder keeps.
* The display matrix is applied. Non-square pixels are made square by reducing the frame's width or
  height; nothing is enlarged. Interlaced frames are not changed.
* HDR (PQ, HLG) is refused, as for images, because mapping it to 0..1 requires a choice of tone
  mapping. PyAV's FFmpeg lacks zimg, and its scaler's tone mapping differs between releases.
* If an error follows a skip, the video is decoded again without skips: an H.264 keyframe may be
  followed by frames that refer to frames before it (open GOP), which FFmpeg would miss.
* A video with a damaged frame, or a file shorter than its header says, is refused. Decoders
  continue over damaged data and report it only in FFmpeg's log, so an error there counts as damage.

PyAV (the extra `video`) contains FFmpeg.

Sources: ISO/IEC 14496-12 (display matrix), ITU-T H.273 (colors).
"""

import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from qfm_iqm.errors import DAMAGED, TRUNCATED, ImageError
from qfm_iqm.image.containers import HEADER, container_of, is_cut
from qfm_iqm.image.decode import MAX_PIXELS, open_file, upright
from qfm_iqm.image.formats import refuse_large
from qfm_iqm.image.profiles import coded_profile

_EXIF = {  # EXIF orientation by the signs of (a, d) or (b, c) of a display matrix
    "straight": {(1, 1): 1, (-1, 1): 2, (-1, -1): 3, (1, -1): 4},
    "turned": {(1, 1): 5, (1, -1): 6, (-1, -1): 7, (-1, 1): 8},
}
_BT709, _UNSPECIFIED = 1, 2
_HD = 720  # least number of lines at which a video without a matrix counts as BT.709
_DECODER_FRAMES = 12
_HELD = 64 << 20  # most bytes of packets that are held before they are decoded
_SLACK = 1e-6  # rounding tolerance of timestamps in seconds


class _DamagedError(ImageError):
    def __init__(self) -> None:
        super().__init__(DAMAGED)


def sampled_frames(
    file: BinaryIO,
    every: float,
    *,
    max_pixels: int,
    allow_damaged: bool = False,
    admit: Callable[[int], None] | None = None,
) -> Iterator[tuple[float, Image.Image]]:
    """Yields the first frame of each interval of a video.

    Args:
        file: the video, seekable.
        every: length of an interval in seconds.
        max_pixels: larger frames are refused.
        allow_damaged: skip what cannot be decoded, and accept a truncated file.
        admit: called once the header is read, with the most bytes that decoding takes.

    Yields:
        Seconds since the first frame, and the frame: RGB, with a profile if it is not sRGB.

    Raises:
        ImageError: PyAV is missing, FFmpeg cannot read the file, or it is HDR or damaged; the
            message holds only the reason.
    """
    try:
        import av
    except ImportError as error:
        raise ImageError("a video needs an extra: pip install 'qfm-iqm[video]'") from error
    file.seek(0)
    kind = container_of(file.read(HEADER))
    if kind is None:  # FFmpeg would guess, and might choose a format that opens other files
        raise ImageError("it is not a video of a known format")
    if not allow_damaged and is_cut(file, kind):
        raise ImageError(TRUNCATED)
    if av.logging.get_level() is None:  # otherwise PyAV captures no messages
        av.logging.set_level(av.logging.ERROR)
    last = -math.inf
    for skip in (True, False):
        file.seek(0)
        sampler = None
        try:
            with av.logging.Capture():
                opened = av.open(_Bytes(file), format=kind, metadata_errors="replace")
            with opened as container:
                stream = _main_stream(container)
                codec = stream.codec_context
                refuse_large(codec.width, codec.height, max_pixels)
                if admit is not None and skip:
                    admit(_decoding_bytes(codec))
                codec.options = {"max_pixels": str(max_pixels)}
                codec.thread_count = 1  # other threads would print their messages
                if not allow_damaged:
                    codec.options |= {"err_detect": "explode"}
                shown = _Shown()
                sampler = _Sampler(container, stream, every, allow_damaged, skip)
                for time, frame in sampler.frames():
                    if time > last:
                        refuse_large(frame.width, frame.height, max_pixels)
                        yield time, shown.image(frame, stream.sample_aspect_ratio)
                        last = time
            break
        except (av.FFmpegError, _DamagedError) as error:
            if allow_damaged and last >= 0:
                break
            if sampler is None or not sampler.skipped:
                raise _DamagedError from error
    if last < 0:
        raise ImageError("none of its frames can be decoded")


def frame_at(path: str, seconds: float) -> Image.Image:
    """The first frame of a local video at or after a time in seconds.

    Raises:
        ImageError: see `sampled_frames`; or there is no such frame.
    """
    with open_file(path) as file:
        # These are the first frame and the requested one.
        frames = sampled_frames(file, seconds or 1, max_pixels=MAX_PIXELS, allow_damaged=True)
        for time, frame in frames:
            if time >= seconds - _SLACK:
                return frame
    raise ImageError("it ends before this time")


def _main_stream(container: Any) -> Any:
    """The first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic:
            if stream.codec_context is None:
                raise ImageError("not supported: FFmpeg has no decoder for it; export it as MP4")
            return stream
    raise ImageError("it has no video stream")


def _decoding_bytes(codec: Any) -> int:
    """Most bytes for a decoder's frames and a few RGB frames."""
    deep = codec.format is not None and codec.format.components[0].bits > 8
    each = 6 if deep else 3  # bytes of a pixel with all its colors
    return int(codec.width * codec.height * (each * _DECODER_FRAMES + 4 * 3))


class _Bytes:
    """A file for FFmpeg whose `seek` returns -1 for invalid positions instead of raising."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell, self._seek = file.read, file.tell, file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a position; returns -1 if it is invalid."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


class _Sampler:
    """Decodes the first frame of each interval.

    Attributes:
        skipped: whether packets were dropped without decoding.
    """

    def __init__(
        self, container: Any, stream: Any, every: float, allow_damaged: bool, skip: bool
    ) -> None:
        self._container, self._stream, self._every = container, stream, every
        self._allow_damaged, self._skip = allow_damaged, skip
        self._wanted = -math.inf  # where the next interval begins
        self.skipped = False

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Yields the times since the first frame, and the frames."""
        start: float | None = None
        for packet in self._needed():
            for frame in self._heard(packet.decode) or ():
                if frame.is_corrupt:
                    if not self._allow_damaged:
                        raise _DamagedError
                    continue
                time = frame.time
                if time is None:  # not in the file, and it cannot be inferred
                    raise ImageError("not supported: frames without timestamps; export it as MP4")
                start = time if start is None else start
                if time >= self._wanted - _SLACK:
                    yield round(time - start, 3), frame
                    interval = math.floor((time - start + _SLACK) / self._every)
                    self._wanted = start + (interval + 1) * self._every

    def _needed(self) -> Iterator[Any]:
        """Yields the packets that a required frame may need.

        Packets are held until one of them is known to lie in the next interval. If a keyframe comes
        first, they are dropped, with later packets that are displayed before the keyframe.
        """
        held: list[Any] = []
        key: tuple[int, float] | None = None  # index of a keyframe in `held`, and its time
        latest = -math.inf  # latest display time of a held packet
        dropped = False
        for packet, time in self._packets():
            if key is not None and time >= key[1]:  # all packets displayed before it are here
                if latest < self._wanted - _SLACK:
                    dropped |= len(held) > 1
                    held = [held[key[0]]]
                latest, key = max(latest, key[1]), None
            early = latest < self._wanted - _SLACK
            if early and self._skip and key is None and packet.is_keyframe and time < math.inf:
                key = len(held), time
            else:
                latest = max(latest, time)
            held.append(packet)
            if latest < self._wanted - _SLACK and sum(one.size for one in held) < _HELD:
                continue
            if key is not None:
                latest, key = max(latest, key[1]), None
            if dropped:
                self._stream.codec_context.flush_buffers()
                self.skipped, dropped = True, False
            yield from held
            held.clear()

    def _packets(self) -> Iterator[tuple[Any, float]]:
        """Yields packets from the first keyframe on, with display times (infinite if unknown)."""
        packets = self._container.demux(self._stream)
        begun = False  # a recording may begin between keyframes
        while (packet := self._heard(lambda: next(packets, None))) is not None:
            if packet.is_corrupt and not self._allow_damaged:
                raise _DamagedError
            begun |= packet.is_keyframe
            timed = packet.size and packet.pts is not None
            if begun:
                yield packet, float(packet.pts * packet.time_base) if timed else math.inf

    def _heard(self, call: Callable[[], Any]) -> Any:
        """Calls FFmpeg and checks its log; returns None on an error if damage is allowed."""
        import av

        try:
            with av.logging.Capture() as said:
                found = call()
        except av.FFmpegError:
            if not self._allow_damaged:
                raise
            return None
        if not self._allow_damaged and any(level <= av.logging.ERROR for level, _, _ in said):
            raise _DamagedError
        return found


class _Shown:
    """Converts decoded frames to images; keeps FFmpeg's converter between frames."""

    def __init__(self) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        self._way = (
            Interpolation.BICUBIC
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.BITEXACT
        )

    def image(self, frame: Any, aspect: Fraction | None) -> Image.Image:
        """A decoded frame as an image; `aspect` is the aspect ratio of its pixels."""
        said = (code or _UNSPECIFIED for code in (frame.color_primaries, frame.color_trc))
        profile = coded_profile(*said, mode="RGB")
        width, height = frame.width, frame.height
        if aspect is not None and aspect > 0:
            width = max(1, round(width * min(aspect, 1)))
            height = max(1, round(height / max(aspect, 1)))
        guessed = frame.colorspace == _UNSPECIFIED and frame.height >= _HD
        pixels_HWC: Any = self._reformatter.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=_BT709 if guessed else None,
            interpolation=self._way,
            threads=1,
        ).to_ndarray()
        image = Image.fromarray(np.ascontiguousarray(upright(pixels_HWC, _orientation(frame))))
        if profile:
            image.info["icc_profile"] = profile
        return image


def _orientation(frame: Any) -> int:
    """The display matrix of a frame as an EXIF orientation."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    straight = abs(a) + abs(d) >= abs(b) + abs(c)
    signs = (a, d) if straight else (b, c)
    way = _EXIF["straight" if straight else "turned"]
    return way.get((1 if signs[0] > 0 else -1, 1 if signs[1] > 0 else -1), 1)
