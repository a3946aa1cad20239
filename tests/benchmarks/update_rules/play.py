"""One run of the comparison, with the trainer that users get."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from cluster.training.data import DataSettings, read_pictures
from cluster.training.split import SplitSettings, split
from sr_core.archs.arch import ColorMode
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.errors import TrainError
from sr_core.metrics.lpips import Lpips
from sr_core.shrink import rounded, shrink
from sr_core.train.adversarial import AdversarialSettings, AdversarialStep
from sr_core.train.adversarial_stage import Seen, new_discriminator
from sr_core.train.crops import Crops, CropSettings, Pictures, batch_numbers, item_generator, unit_frames
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.losses.perceptual import FeatureLossConfig, load_feature_loss
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import Term, WeightedLoss
from sr_core.train.measures import Measure
from sr_core.train.schedule import Course, Schedule
from sr_core.train.step import Batch, Numerics, PixelStep, Step, StepLog
from sr_core.train.trainer import Cadence, Position, Stage, Trainer
from sr_core.train.validation import Pair, measure
from tests.benchmarks.update_rules.protocol import (
    BETA2,
    DIVERGED_LOST_DB,
    Contestant,
    Point,
    Record,
    Run,
    Scores,
)

SCALE = 2
CROP_PX = 24 * SCALE
BATCH_SIZE = 8
NUM_GRADIENTS = 3000
MEASURED_EVERY = 500
TESTED_FROM = 2000
START_BATCHES = 10_000
START_RATE = 1e-3
NETWORK = CompactConfig(num_channels=3, num_feat=16, num_conv=6, scale=SCALE)
CLIP_NORM = 1.0
EMA_DECAY = 0.999
ADVERSARIAL_WEIGHT = 0.02
FEATURES_WEIGHT = 0.1
FEATURE_LAYERS = {"conv1": 1.5, "fire3": 0.4, "fire5": 0.1}
DISCRIMINATOR = "patch"
NUM_FEAT = 8
R1 = 0.01
VALIDATION_PX, TEST_PX = 128, 256
MOST_VALIDATION = 16


@dataclass(frozen=True)
class Sets:
    """The pictures, and what they are compared by.

    Attributes:
        pictures: To train on.
        validation: Centres of pictures that were set aside.
        test: Centres of pictures of another set.
        features: File with SqueezeNet's weights, for the loss.
        lpips: By AlexNet, to measure with.
    """

    pictures: Pictures
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    features: Path
    lpips: Lpips


def read_sets(sources: Sequence[str], test: str, features: Path, lpips: Lpips) -> Sets:
    """Reads all pictures, and sets some aside.

    Raises:
        SpecError: A source is missing or holds no usable picture.
    """
    found = read_pictures(DataSettings(tuple(sources), CROP_PX)).pictures
    parts = split(found, SplitSettings())
    large = [index for index in parts.validation if min(found.sizes[index]) >= VALIDATION_PX]
    tested = read_pictures(DataSettings((test,), TEST_PX)).pictures
    return Sets(
        pictures=found.only(parts.training),
        validation=tuple(_pair(found[index], VALIDATION_PX) for index in large[:MOST_VALIDATION]),
        test=tuple(_pair(picture, TEST_PX) for picture in tested),
        features=features,
        lpips=lpips,
    )


def _pair(picture: Tensor, side_px: int) -> Pair:
    """The centre of a (3, H, W) uint8 picture."""
    top, left = ((size - side_px) // 2 for size in picture.shape[1:])
    hr_frame = unit_frames(picture[None, :, top : top + side_px, left : left + side_px])
    return Pair(rounded(shrink(hr_frame, SCALE)), hr_frame)


class Batches(Iterator[Batch]):
    """Those of a seed, made when they are asked for."""

    def __init__(self, pictures: Pictures, seed: int, stage: str, first: int) -> None:
        self._crops = Crops(pictures, CropSettings(CROP_PX), seed, stage)
        self._number = first

    def __next__(self) -> Batch:
        number, self._number = self._number, self._number + 1
        hr_frames = unit_frames(self._crops.batch(batch_numbers(number, BATCH_SIZE)))
        return Batch(number, (rounded(shrink(hr_frames, SCALE)),), hr_frames)

    def close(self) -> None:
        """See `sr_core.train.trainer.Batches`."""


@dataclass(frozen=True)
class Start:
    """What all runs start from.

    Attributes:
        weights: Of the network, as safetensors.
        point: Its figures.
    """

    weights: bytes
    point: Point

    @staticmethod
    def of(weights: bytes, sets: Sets) -> Start:
        """Measures them."""
        network = network_of(weights).eval()
        figures = (scores(network, pairs, sets.lpips) for pairs in (sets.validation, sets.test))
        return Start(weights, Point(0, 0.0, *figures))

    @property
    def digest(self) -> str:
        """Names the weights."""
        return hashlib.sha256(self.weights).hexdigest()


def network_of(weights: bytes) -> nn.Module:
    """The generator with weights given as safetensors."""
    network = COMPACT.build(NETWORK)
    network.load_state_dict(safetensors.torch.load(weights))
    return network


def train_start(sets: Sets) -> bytes:
    """The weights that all runs start from, as safetensors: a pixel stage by L1."""

    def make_step(_: int, network: nn.Module) -> Step[Batch]:
        return PixelStep(network, WeightedLoss(pixel_terms({"l1": 1.0})), START_RATE, Group(), Numerics())

    def make_batches(_: int, first: int) -> Batches:
        return Batches(sets.pictures, 0, "start", first)

    stage = Stage(START_BATCHES * BATCH_SIZE, BATCH_SIZE, ema_decay=EMA_DECAY)
    cadence = Cadence(checkpoint=START_BATCHES)
    with torch.random.fork_rng([]):
        torch.manual_seed(item_generator(0, "start", 0, "network").initial_seed())
        network = COMPACT.build(NETWORK)
    trainer = Trainer(network, [stage], make_step, make_batches, None, cadence=cadence)
    trainer.run()
    return safetensors.torch.save(dict(trainer.ema.network.state_dict()))


class Observer:
    """Measures a run as it goes; a `Watcher` of the trainer."""

    def __init__(self, run: Run, sets: Sets, start: Point) -> None:
        self.points = [start]
        self.diverged = ""
        self._run = run
        self._sets = sets
        self._sums: Counter[str] = Counter()
        self._num_steps = 0
        self._cpu_s = 0.0
        self._since = time.process_time()

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """See `Watcher`."""
        self._num_steps += 1
        self._sums.update(log.figures)

    def validate(self, position: Position, network: nn.Module) -> None:
        """See `Watcher`."""
        self._cpu_s += time.process_time() - self._since
        num_gradients = position.batch * self._run.gradients_a_step
        validation = scores(network, self._sets.validation, self._sets.lpips)
        is_tested = num_gradients >= TESTED_FROM
        test = scores(network, self._sets.test, self._sets.lpips) if is_tested else None
        self.points.append(Point(num_gradients, round(self._cpu_s, 2), validation, test))
        lost_db = self.points[0].validation.psnr_y - validation.psnr_y
        if not lost_db <= DIVERGED_LOST_DB:
            self.diverged = f"{lost_db:.1f} dB lost after {num_gradients} gradients"
        self._since = time.process_time()

    def save(self, position: Position, state: dict[str, Any], network: nn.Module) -> None:
        """See `Watcher`: runs are short, and are made again from their start."""

    def tell(self, sentence: str) -> None:
        """See `Watcher`."""
        print(f"  {sentence}", flush=True)

    def means(self, figure: str) -> dict[str, float]:
        """Of a figure that the rule tells of each player, over all steps; empty if it does not."""
        sums = {player.value: self._sums.get(f"{player}/{figure}") for player in Player}
        return {player: value / self._num_steps for player, value in sums.items() if value is not None}


def scores(network: nn.Module, pairs: Sequence[Pair], lpips: Lpips) -> Scores:
    """Of a network in evaluation mode; not finite where its pictures are not."""
    figures = measure(network, ColorMode.RGB, pairs, SCALE, lpips)
    return Scores(figures[Measure.PSNR_Y], figures[Measure.LPIPS])


def play(run: Run, sets: Sets, start: Start) -> Record:
    """Trains and measures."""
    network, observer = network_of(start.weights), Observer(run, sets, start.point)

    def make_step(_: int, network: nn.Module) -> Step[Batch]:
        return step_of(run, sets, network)

    def make_batches(_: int, first: int) -> Batches:
        return Batches(sets.pictures, run.seed, "game", first)

    num_batches = NUM_GRADIENTS // run.gradients_a_step
    stage = Stage(num_batches * BATCH_SIZE, BATCH_SIZE, Schedule(Course.CONSTANT), EMA_DECAY)
    cadence = Cadence(1, MEASURED_EVERY // run.gradients_a_step, num_batches, most_roll_backs=0)
    trainer = Trainer(network, [stage], make_step, make_batches, observer, cadence=cadence, seed=run.seed)
    try:
        trainer.run(lambda: bool(observer.diverged))
    except TrainError as error:
        observer.diverged = str(error)
    return Record(
        run=run,
        start=start.digest,
        points=tuple(observer.points),
        raw=None if observer.diverged else scores(network.eval(), sets.validation, sets.lpips),
        diverged=observer.diverged,
        betas=observer.means("beta"),
        shares=observer.means("share"),
    )


def step_of(run: Run, sets: Sets, network: nn.Module) -> Step[Batch]:
    """A step of the game, or without it one of its content loss alone."""
    perceptual = load_feature_loss(FeatureLossConfig("squeezenet1_1", FEATURE_LAYERS), sets.features)
    content = WeightedLoss((*pixel_terms({"l1": 1.0}), Term("features", FEATURES_WEIGHT, perceptual)))
    numerics = Numerics(clip_norm=CLIP_NORM)
    if run.contestant is Contestant.CONTENT:
        betas = (run.adam.beta1, BETA2)
        return PixelStep(network, content, run.learning_rate, Group(), numerics, betas)
    settings = AdversarialSettings(
        weight=ADVERSARIAL_WEIGHT,
        discriminator=DISCRIMINATOR,
        num_feat=NUM_FEAT,
        r1=R1,
        updates=run.updates(),
    )
    discriminator = new_discriminator(settings, Seen(3, CROP_PX), run.seed, 0)
    return AdversarialStep(network, discriminator, content, settings, Group(), numerics)
