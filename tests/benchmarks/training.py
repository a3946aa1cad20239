"""How fast training is, against a plain PyTorch loop over the same network and pictures.

    python -m tests.benchmarks.training PICTURES [--rounds N] [--batches N] [--threads N] [--precision P]

Three loops take turns in one process: the trainer with all that it does (seeded crops, EMA, checks), a plain
loop over a `DataLoader` as one would write it, and the plain loop over one batch that it already has, which
is what the network alone costs. Images per second are medians over the rounds; the wall clock counts, and
the CPU's time, which a busy machine stretches less, stands beside it, without that of the loader's process.
The trainer starts anew in each round, with no batch ready. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from cluster.training.data import DataSettings, read_pictures
from cluster.training.job import PixelStage, TrainJob
from cluster.training.tasks.super_resolution import SuperResolutionSettings
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.color import Matrix, rgb_to_yuv
from sr_core.train.crops import Pictures
from sr_core.train.group import Group
from sr_core.train.step import Numerics
from sr_core.train.trainer import Cadence, Stage, Trainer

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_NEVER = 10**9
_CONFIG = CompactConfig(num_channels=1, num_feat=64, num_conv=8, scale=2, unshuffle=2)
_LR_PX = 64
_BATCH_SIZE = 32

Loop = Callable[[], None]


class RandomCrops(Dataset[Tensor]):
    """Crops as one would write them: drawn by numpy, mirrored and turned."""

    def __init__(self, pictures: Pictures, side_px: int, num_items: int) -> None:
        self._pictures = [picture.numpy() for picture in pictures]
        self._side_px = side_px
        self._num_items = num_items

    def __len__(self) -> int:
        return self._num_items

    def __getitem__(self, index: int) -> Tensor:
        draw = np.random.default_rng(index)
        picture = self._pictures[draw.integers(len(self._pictures))]
        top, left = (draw.integers(side - self._side_px + 1) for side in picture.shape[1:])
        crop = picture[:, top : top + self._side_px, left : left + self._side_px]
        crop = np.rot90(crop, int(draw.integers(4)), axes=(1, 2))
        crop = crop[:, :, ::-1] if draw.integers(2) else crop
        return torch.from_numpy(np.ascontiguousarray(crop))


def plain_loop(network: nn.Module, batches: Iterator[Tensor], num_batches: int, dtype: torch.dtype) -> Loop:
    """Adam on L1, LR crops by torch's antialiased bicubic."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))

    def run() -> None:
        for _ in range(num_batches):
            hr_frames = next(batches).float() / 255
            size = (hr_frames.shape[-2] // 2, hr_frames.shape[-1] // 2)
            lr_frames = F.interpolate(hr_frames, size, mode="bicubic", antialias=True).mul(255).round() / 255
            lr_luma, hr_luma = (rgb_to_yuv(frames, Matrix.BT601)[0] for frames in (lr_frames, hr_frames))
            optimizer.zero_grad()
            on = dtype != torch.float32
            with torch.autocast("cpu", dtype) if on else contextlib.nullcontext():
                sr_luma = network(lr_luma)
            F.l1_loss(sr_luma.float(), hr_luma).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return run


def trainer_loop(pictures: Pictures, num_batches: int, dtype: torch.dtype) -> Loop:
    """The same through the trainer, without a store behind it: no log, no validation, no checkpoint."""
    job = TrainJob(
        output_url="",
        task=SuperResolutionSettings(COMPACT, _CONFIG, lr_crop_px=_LR_PX),
        data=DataSettings(("unread",), 2 * _LR_PX),
        stages=(PixelStage(Stage(_NEVER, _BATCH_SIZE)),),
        numerics=Numerics(dtype),
    )
    group = Group()
    task = job.task.open(job, group, pictures, pictures.only(range(1)))
    cadence = Cadence(log=_NEVER, validate=_NEVER, checkpoint=_NEVER)
    trainer = Trainer(
        job.task.build(),
        [job.stages[0].stage],
        task.make_step,
        task.make_batches,
        None,
        group,
        cadence=cadence,
    )

    def run() -> None:
        left = num_batches

        def is_over() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        trainer.run(is_over)

    return run


def measure(loops: dict[str, Loop], rounds: int, num_images: int) -> dict[str, dict[str, float]]:
    """Images per second of each, by the wall clock and by the CPU's time, and each against the plain loop."""
    wall_s: dict[str, list[float]] = {name: [] for name in loops}
    cpu_s: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            wall, cpu = time.perf_counter(), time.process_time()
            loop()
            if number:  # the first round warms up
                wall_s[name].append(time.perf_counter() - wall)
                cpu_s[name].append(time.process_time() - cpu)
    ratios = {
        name: statistics.median(own / plain for own, plain in zip(cpu_s[name], cpu_s["plain"], strict=True))
        for name in loops
    }
    return {
        name: {
            "images_per_s": round(num_images / statistics.median(wall_s[name]), 1),
            "images_per_cpu_s": round(num_images / statistics.median(cpu_s[name]), 1),
            "wall_against_plain": round(
                statistics.median(a / b for a, b in zip(wall_s[name], wall_s["plain"], strict=True)), 3
            ),
            "cpu_against_plain": round(ratios[name], 3),
        }
        for name in loops
    }


def main() -> None:
    """Reads the pictures, takes turns, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=tuple(_DTYPES), default="bf16")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    dtype = _DTYPES[asked.precision]
    pictures = read_pictures(DataSettings((asked.pictures,), 2 * _LR_PX)).pictures
    num_items = (asked.rounds + 2) * asked.batches * _BATCH_SIZE
    loader: Any = DataLoader(RandomCrops(pictures, 2 * _LR_PX, num_items), _BATCH_SIZE, num_workers=1)
    fixed = RandomCrops(pictures, 2 * _LR_PX, _BATCH_SIZE)
    batch = torch.stack([fixed[index] for index in range(_BATCH_SIZE)])
    loops = {
        "trainer": trainer_loop(pictures, asked.batches, dtype),
        "plain": plain_loop(COMPACT.build(_CONFIG), iter(loader), asked.batches, dtype),
        "network alone": plain_loop(COMPACT.build(_CONFIG), iter(lambda: batch, None), asked.batches, dtype),
    }
    figures = measure(loops, asked.rounds, asked.batches * _BATCH_SIZE)
    for name, own in figures.items():
        print(f"{name:14}", "  ".join(f"{key} {value}" for key, value in own.items()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
