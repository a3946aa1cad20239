"""Models that see several frames at once, over real video cut into segments."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from cluster.job import Job, SegmentSettings, VideoSettings
from jobs.models import find_model
from jobs.sample import SAMPLE
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig
from tests.cluster.test_worker import SHARED, run

TELECINED = SHARED / "dvd-like_ntsc_480i_tff_sar32x27_mpeg2_ac3.mpg"


def job(folder: Path, seconds: float, sees_neighbours: bool = True) -> Job:
    """With a network of five frames, in which every one counts or the middle one alone."""
    torch.manual_seed(3)
    network = EARLY_FUSION.build(EarlyFusionConfig(5, num_feat=8, num_conv=1, scale=1))
    if not sees_neighbours:
        fusion = network.get_parameter("fusion.weight").data
        fusion[:, :6] = 0
        fusion[:, 9:] = 0
    weights = folder / "temporal.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    return Job(
        find_model(str(weights)),
        video=VideoSettings(preset="ultrafast", quality="lossless"),
        segments=SegmentSettings(seconds=seconds),
    )


def frames(path: Path) -> npt.NDArray[Any]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def whole_and_cut(source: Path, folder: Path, seconds: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    made = []
    for name, length in (("whole", 1000.0), ("cut", seconds)):
        outcome = run(source, folder / name, job(folder, length)).outcomes[0]
        assert outcome.state == "done", outcome.reason
        [output] = [path for path in (folder / name).iterdir() if path.is_file()]
        made.append(frames(output))
    return made[0], made[1]


def test_segments_leave_no_seam(tmp_path: Path) -> None:
    whole, cut = whole_and_cut(SAMPLE, tmp_path, 1.0)

    assert np.array_equal(whole, cut)


def test_the_neighbours_of_a_frame_change_it(tmp_path: Path) -> None:
    made = []
    for name, sees_neighbours in (("all", True), ("middle", False)):
        run(SAMPLE, tmp_path / name, job(tmp_path, 1.0, sees_neighbours))
        made.append(frames(tmp_path / name / "sample.mp4"))

    assert not np.array_equal(*made)


@pytest.mark.skipif(not TELECINED.exists(), reason="needs the shared data")
def test_segments_of_interlaced_video_leave_no_seam(tmp_path: Path) -> None:
    whole, cut = whole_and_cut(TELECINED, tmp_path, 1.0)

    assert np.array_equal(whole, cut)
