"""Frames of videos that the tests themselves encode: every frame's grey is its number."""

import struct
from datetime import datetime
from fractions import Fraction

import av
import numpy as np
import pytest

from zoomloc import video
from zoomloc.errors import PhotoError
from zoomloc.photo import MAX_SIDE_PX

FPS = 5


def encode(path, n=30, wh=(96, 64), codec="mpeg4", started=None):
    """A video with a bright left half, so that it has an up and a left."""
    with av.open(str(path), "w") as container:
        if started:
            container.metadata["creation_time"] = started
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height = wh
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.gop_size = 12  # so that most frames are found from an earlier one
        for i in range(n):
            pixels = np.full((wh[1], wh[0], 3), min(8 * i, 255), np.uint8)
            pixels[:, : wh[0] // 2] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def number(photo):
    return round(photo.pixels[:, -20:].mean() / 8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_each_moment_shows_the_frame_of_that_moment(tmp_path, suffix):
    path = encode(tmp_path / f"drive{suffix}")
    at_s = video.moments(path, 0.5)
    assert at_s == [0.5 * i for i in range(12)]
    shown = [number(photo) for photo in video.frames(path, at_s)]
    assert shown == [int(moment * FPS + 1e-6) for moment in at_s]
    assert [number(photo) for photo in video.frames(path, [3.3, 4.0])] == [16, 20], (
        "asked for from the middle"
    )


def test_a_period_longer_than_the_video_takes_its_first_frame(tmp_path):
    assert video.moments(encode(tmp_path / "a.mp4"), 60) == [0.0]


def test_frames_know_when_they_were_taken(tmp_path):
    path = encode(tmp_path / "a.mp4", started="2024-05-06T10:00:00Z")
    first, later = video.frames(path, [0, 2.5])
    assert first.captured_at == datetime.fromisoformat("2024-05-06T10:00:00+00:00")
    assert (later.captured_at - first.captured_at).total_seconds() == 2.5
    assert video.frames(encode(tmp_path / "b.mkv"), [0])[0].captured_at is None


def test_a_telephone_held_upright_gives_upright_frames(tmp_path):
    path = encode(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (photo,) = video.frames(path, [2])
    assert photo.pixels.shape == (96, 64, 3)
    assert photo.pixels[:40].mean() > 240 > 100 > photo.pixels[-40:].mean(), "left of the sensor is up"


def test_large_frames_are_kept_as_small_as_photos(tmp_path):
    (photo,) = video.frames(encode(tmp_path / "a.mp4", n=2, wh=(2560, 64)), [0])
    assert photo.pixels.shape[1] == MAX_SIDE_PX


def test_what_is_cut_off_costs_only_the_frames_that_are_lost(tmp_path):
    whole = encode(tmp_path / "a.mkv", n=50)
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = video.frames(path, [float(i) for i in range(10)])
    bad = [isinstance(each, PhotoError) for each in found]
    assert not bad[0] and bad[-1] and bad == sorted(bad)
    assert str(found[-1]) == f"{path}: no frame can be read at 9 s; it is broken or cut off"


def test_no_video_is_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(PhotoError, match=rf"{name}: [^\n]+$"):
            video.moments(tmp_path / name, 1)
        (error,) = video.frames(tmp_path / name, [0])
        assert isinstance(error, PhotoError)
