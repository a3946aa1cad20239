from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from cluster.video.sample import FRAME_RATE, HEIGHT, NUM_FRAMES, WIDTH, sample_frames, write_sample
from jobs.sample import SAMPLE, sample
from sr_core.errors import SpecError


def decoded(path: Path) -> list[npt.NDArray[np.int16]]:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG").astype(np.int16)
            for frame in container.decode(video=0)
        ]


def test_shipped_clip_has_the_frames_that_the_code_makes_in_order() -> None:
    made = np.stack(list(sample_frames())).astype(np.int16)
    shipped = np.stack(decoded(SAMPLE))
    assert shipped.shape == made.shape == (NUM_FRAMES, HEIGHT, WIDTH, 3)
    errors = np.array([[np.abs(a - b).mean() for b in made[::3]] for a in shipped[::3]])
    assert errors.argmin(axis=1).tolist() == list(range(len(made[::3])))
    assert errors.diagonal().max() < 6


def test_shipped_clip_is_small_tagged_and_has_sound() -> None:
    assert SAMPLE.stat().st_size < 200_000
    with av.open(str(SAMPLE)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.frames, video.average_rate) == (NUM_FRAMES, FRAME_RATE)
        context = video.codec_context
        assert (context.colorspace, context.color_range, context.color_trc) == (1, 1, 1)


def test_clip_is_made_the_same_every_time(tmp_path: Path) -> None:
    for name in ("first.mp4", "second.mp4"):
        write_sample(tmp_path / name)
    assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()


def test_command_writes_the_shipped_clip_to_a_file_or_into_a_folder(tmp_path: Path) -> None:
    assert sample(tmp_path / "new" / "clip.mp4") == 0
    assert sample(tmp_path) == 0
    for path in (tmp_path / "new" / "clip.mp4", tmp_path / "sample.mp4"):
        assert path.read_bytes() == SAMPLE.read_bytes()


def test_command_does_not_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(SpecError, match="stands there already"):
        sample(path)
    assert path.read_bytes() == b"mine"
