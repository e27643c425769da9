"""Videos: which frames are taken, what they show, and what is refused."""

import io
import math
import os
import re
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from qfm_iqm.errors import ImageError, ImageTooLargeError
from qfm_iqm.image.containers import HEADER, VIDEO_SUFFIXES, container_of
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.video import frame_at, sampled_frames

from .clips import MATRICES, clip, number_of, numbered, turned_by
from .samples import PHOTO

LARGE = 10**7
NOISE = np.random.default_rng(4).integers(0, 256, (30, 64, 96, 3), np.uint8)


def frames_of(content, every=1.0, **options):
    options = {"max_pixels": LARGE} | options
    return list(sampled_frames(io.BytesIO(content), every, **options))


def wrong(content, **options):
    with pytest.raises(ImageError) as caught:
        frames_of(content, **options)
    return str(caught.value)


def bt2020(transfer, codec):
    """A video of 10 bits, from black on the left to white on the right."""
    ramp = np.broadcast_to(np.linspace(0, 255, 96)[:, None], (64, 96, 3)).astype(np.uint8)
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    options = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}
    try:
        return clip(
            [ramp] * 3, codec=codec, pixels="yuv420p10le", tags=tags, options=options.get(codec)
        )
    finally:
        # SVT-AV1 leaves a root process at the highest real-time priority. Processes of later tests,
        # such as a browser, would inherit it and keep all others from the CPU.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def first_of_each(times, every):
    """Which frames are the first of their interval, by a loop."""
    seen, found = set(), []
    for number, time in enumerate(times):
        interval = math.floor((time - times[0]) / every + 1e-6)
        if interval not in seen:
            seen.add(interval)
            found.append(number)
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(10, 900), min_size=1, max_size=20),
    st.sampled_from([0.05, 0.4, 1.0, 3.0]),
    st.sampled_from(["1", "5", "100"]),
    st.sampled_from([("mpeg4", "mp4"), ("mpeg4", "matroska"), ("libx264", "mov")]),
    st.sampled_from([{"flags": "+cgop"}, {"x264-params": "open-gop=1"}]),
)
def test_of_each_interval_the_first_frame_is_taken(gaps, every, keyframes, kind, groups):
    ticks = [0]
    for gap in gaps[1:]:
        ticks.append(ticks[-1] + gap)
        # Containers round times, so no frame may lie on the border of two intervals.
        while abs(ticks[-1] - every * 1000 * round(ticks[-1] / (every * 1000))) < 3:
            ticks[-1] += 1
    times = np.array(ticks) / 1000
    # In open groups, a frame decoded after a keyframe may be shown before it.
    options = {"g": keyframes, "bf": "2", "sc_threshold": "1000000000", **groups}
    content = clip(numbered(len(times)), times, codec=kind[0], container=kind[1], options=options)
    with av.open(io.BytesIO(content)) as written:
        # An MP4's edit list has coarser units and may end before the last frame, which is dropped.
        assume(sum(1 for _ in written.decode(video=0)) == len(times))
    expected = first_of_each(times, every)
    found = frames_of(content, every)
    assert [number_of(frame) for _, frame in found] == expected
    assert np.allclose([time for time, _ in found], times[expected], atol=2e-3)


def test_what_lies_between_is_not_decoded(monkeypatch):
    """With a keyframe each second, little more than one frame of each is decoded."""
    content = clip(numbered(50), options={"g": "10"})
    decoded = []
    real = sys.modules["qfm_iqm.image.video"]._Sampler._heard

    def counting(self, call):
        found = real(self, call)
        decoded.append(found) if isinstance(found, list) else None
        return found

    monkeypatch.setattr("qfm_iqm.image.video._Sampler._heard", counting)
    assert [number_of(frame) for _, frame in frames_of(content)] == [0, 10, 20, 30, 40]
    assert sum(map(len, decoded)) < 20


def test_a_keyframe_that_names_frames_from_before_it_is_no_damage():
    options = {"g": "5", "bf": "2", "sc_threshold": "1000000000", "x264-params": "open-gop=1"}
    content = clip(numbered(50), codec="libx264", options=options)
    assert [number_of(frame) for _, frame in frames_of(content)] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("codec", "container", "kind"),
    [
        ("mpeg4", "mp4", "mov"),
        ("libx264", "matroska", "matroska"),
        ("libvpx-vp9", "webm", "matroska"),
        ("mpeg4", "avi", "avi"),
        ("libx264", "mpegts", "mpegts"),
        ("libx264", "flv", "flv"),
        ("mpeg4", "asf", "asf"),
    ],
)
def test_formats_are_told_by_their_content(codec, container, kind):
    content = clip(numbered(25), codec=codec, container=container)
    assert container_of(content[:HEADER]) == kind
    assert [number_of(frame) for _, frame in frames_of(content)] == [0, 10, 20]


def test_what_is_no_video():
    for start in (b"\xff\xd8\xff", b"#EXTM3U\nfile:///etc/passwd", b"ffconcat version 1.0\n", b""):
        assert container_of(start.ljust(HEADER, b"x")) is None
    assert container_of(b"\0\0\0\x18ftypheic" + bytes(300)) is None
    assert ".mov" in VIDEO_SUFFIXES
    with pytest.raises(ImageError, match="which qfm score and qfm gate score"):
        read_image(clip(numbered(3)))


@pytest.mark.parametrize("orientation", MATRICES)
def test_the_display_matrix_turns_frames(orientation):
    picture = PHOTO[:64, :96]
    (_, frame), *_ = frames_of(turned_by(clip([picture] * 2), orientation))
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert np.asarray(frame).shape == expected.shape
    assert np.corrcoef(np.asarray(frame).ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(("aspect", "size"), [((4, 3), (96, 48)), ((1, 2), (48, 64))])
def test_pixels_become_square_and_nothing_is_enlarged(aspect, size):
    tags = {"sample_aspect_ratio": Fraction(*aspect)}
    (_, frame), *_ = frames_of(clip(list(NOISE[:2]), tags=tags))
    assert frame.size == size


def yuv_of(rgb, kr, kb):
    """A color in limited range by the equations of H.273, 8.3."""
    red, green, blue = (value / 255 for value in rgb)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    parts = (luma, (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr))
    return [round(16 + 219 * parts[0]), *(round(128 + 224 * part) for part in parts[1:])]


@pytest.mark.parametrize(
    ("matrix", "height", "weights"),
    [
        (1, 64, (0.2126, 0.0722)),
        (5, 64, (0.299, 0.114)),
        (9, 64, (0.2627, 0.0593)),
        (2, 64, (0.299, 0.114)),
        (2, 720, (0.2126, 0.0722)),  # HD without a named matrix
    ],
)
def test_colors_come_by_the_matrix_that_the_video_names(matrix, height, weights):
    color = (200, 90, 40)
    planes = np.empty((3, height, 96), np.uint8)
    planes[:] = np.array(yuv_of(color, *weights))[:, None, None]
    content = clip(
        [planes] * 2, codec="ffv1", container="matroska", pixels="yuv444p",
        tags={"colorspace": matrix, "color_range": 1},
    )  # fmt: skip
    (_, frame), *_ = frames_of(content)
    assert np.abs(np.asarray(frame)[5, 5].astype(int) - color).max() <= 2


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_by_name(codec, transfer, name):
    content = bt2020(transfer, codec)
    assert wrong(content) == f"not supported: HDR colors ({name}); export it as SDR"
    (_, frame), *_ = frames_of(bt2020(14, codec))  # with SDR's curve
    assert frame.info["icc_profile"]
    assert np.asarray(frame).std() > 50


@pytest.mark.skipif(int(av.__version__.split(".")[0]) < 16, reason="FFmpeg 8 is in PyAV 16")
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_scored_once_the_command_of_the_docs_has_brought_it_to_sdr(transfer):
    page = Path(__file__).parents[2] / "docs" / "video.md"
    (command,) = re.findall(r"-vf scale=(\S+)", page.read_text())
    with av.open(io.BytesIO(bt2020(transfer, "libx265"))) as video:
        frame = next(video.decode(video=0))
    graph = av.filter.Graph()
    steps = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 10)
        ),
        graph.add("scale", command),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*steps).configure()
    graph.push(frame)
    converted = graph.pull()
    assert (converted.color_trc, converted.color_primaries, converted.colorspace) == (1, 1, 1)
    pixels = converted.to_ndarray(format="rgb24")
    tags = {"color_trc": 1, "color_primaries": 1, "colorspace": 1}
    (_, shown), *_ = frames_of(clip([pixels] * 2, codec="libx264", tags=tags))
    columns = np.asarray(shown).mean((0, 2))
    assert columns[0] < 30
    assert columns[-1] > 200
    assert (np.diff(columns[::8]) > 0).all()


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.98])
def test_a_file_cut_short_is_refused(container, part):
    content = clip(list(NOISE), container=container)
    cut = content[: int(len(content) * part)]
    assert wrong(cut) == "its data end too early (a truncated file)"
    if container == "avi":  # an MP4 of this muxer has its index at its end
        # The last 2 % may be all index.
        assert 0 < len(frames_of(cut, 0.1, allow_damaged=True)) < 30 + (part > 0.9)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_damage_in_the_middle_is_refused_or_passed_over(codec):
    content = bytearray(clip(list(NOISE), codec=codec, options={"g": "5"}))
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(range(250)) * 16
    assert wrong(bytes(content), every=0.1) == "its data are damaged"
    found = frames_of(bytes(content), 0.1, allow_damaged=True)
    assert 15 <= len(found) < 30


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [clip(numbered(12)), clip(numbered(12), codec="libx264", container="matroska")]
    ),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_damaged_files_are_read_or_refused(content, changes, allowed):
    data = bytearray(content)
    for place, value in changes:
        span = min(len(data), 1200) if value % 2 else len(data)
        data[len(data) - 1 - int(place * (span - 1))] = value
    with suppress(ImageError):
        assert frames_of(bytes(data), 0.3, max_pixels=10**5, allow_damaged=allowed)


def test_frames_that_are_too_large_are_refused_before_they_are_decoded():
    with pytest.raises(ImageTooLargeError, match="96 x 64 pixels exceed the limit"):
        frames_of(clip(list(NOISE[:2])), max_pixels=96 * 64 - 1)
    asked = []
    frames_of(clip(list(NOISE[:2])), admit=asked.append)
    assert len(asked) == 1
    assert asked[0] > 96 * 64 * 10


def test_sound_alone_is_no_video():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            output.mux(packet)
    assert wrong(file.getvalue()) == "it has no video stream"


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch):
    content = clip(numbered(2))
    monkeypatch.setitem(sys.modules, "av", None)
    assert wrong(content) == "a video needs an extra: pip install 'qfm-iqm[video]'"


def test_the_frame_at_a_time(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(numbered(40)))
    assert [number_of(frame_at(str(path), second)) for second in (0, 1.0, 2.5)] == [0, 10, 25]
    with pytest.raises(ImageError):
        frame_at(str(path), 99.0)


@pytest.mark.parametrize("content", ["ffconcat version 1.0\nfile clip.mp4\n", ""])
def test_what_is_no_video_itself_has_no_frame(tmp_path, monkeypatch, content):
    (tmp_path / "clip.mp4").write_bytes(clip(numbered(2)))
    (tmp_path / "list.mp4").write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="not a video of a known format"):
        frame_at("list.mp4", 0)


def test_a_length_that_leads_before_the_beginning_is_passed_over(tmp_path, capfd):
    """Python raises an error for such a position, and PyAV prints its traceback."""
    content = bytearray(clip(numbered(12), codec="wmv2", container="asf"))
    content[53] = 0x0F  # the highest of the eight bytes of a header's length
    (tmp_path / "clip.wmv").write_bytes(content)
    assert number_of(frame_at(str(tmp_path / "clip.wmv"), 0)) == 0
    assert capfd.readouterr().err == ""
