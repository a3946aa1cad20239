"""Adapting a model to footage without a truth, and keeping what comes of it only where it is better.

A run goes on from the model's own weights with pairs made of the footage (`cluster.training.footage`). What
it learnt is taken in the share that does best on frames which it was not trained on, as weights between the
old and the new ones ("Robust fine-tuning of zero-shot models", Wortsman et al. 2022, arXiv:2109.01903). The
result counts where the gain shows on further frames, which nothing before has seen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cluster.images.panel import Cell
from cluster.places import place_of
from cluster.storage import open_storage
from cluster.storage.address import join_url
from cluster.training.data import DataSettings, TrainingData
from cluster.training.footage import Footage, FootageSettings, unpacked_pairs
from cluster.training.job import PixelStage, TrainJob
from cluster.training.run import refuse_misfits
from cluster.training.samples import Samples
from cluster.training.tasks.super_resolution import SuperResolutionSettings
from cluster.weights import model_at
from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch
from sr_core.archs.interpolation import Interpolation
from sr_core.blend import Blend
from sr_core.card import Card, card_json, card_key, new_card, read_card
from sr_core.errors import ModelError, SpecError
from sr_core.kernels import Kernel
from sr_core.model import Model
from sr_core.pretrained import BUNDLED
from sr_core.train.crops import (
    Ahead,
    Crops,
    CropSettings,
    Pictures,
    batch_numbers,
    item_generator,
    unit_frames,
)
from sr_core.train.degradations.sheet import sheet
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.measures import Figures, Measure, in_words
from sr_core.train.schedule import Course, Schedule
from sr_core.train.step import Batch, PixelStep
from sr_core.train.trainer import Batches, Cadence, Stage
from sr_core.train.validation import Pair, as_seen, measure
from sr_core.weights import pack_weights

ADAPTED = "adapted.safetensors"

_RUN = "training"
_CANDIDATE = "last.safetensors"
# Less cannot be seen, and is found on nearly any footage: it is no reason for another model.
_LEAST_GAIN_DB = 0.05
# Frames one size below are sharper than those that the model is for, and all of what is learnt from them is
# too much: in four runs on three footages whose truth was known, half of the new weights was nearer to it at
# full size than all of them (by 0.02 to 0.1 dB), while held-out frames would have had three quarters or all.
_SHARES = (0.125, 0.25, 0.5)

_LR_CROP_PX = 48
# The learning rate stays as it is, so that a run may be judged whenever its time is over; the average of
# weights takes the place of its decay.
_STAGE = PixelStage(
    Stage(32_000, 16, Schedule(Course.CONSTANT, warm_up_images=1_600), ema_decay=0.995), learning_rate=1e-4
)
_CADENCE = Cadence(log=50, validate=500, checkpoint=250)
_LOADER_THREADS, _AHEAD_BATCHES = 1, 4
_NUM_TURNS = 8


@dataclass(frozen=True)
class Adaptable:
    """A model that can be adapted.

    Attributes:
        url: Its name, path or S3 URL.
        model: It.
        arch: Its architecture.
        card: What is known of it; None where no card lies beside its weights.
    """

    url: str
    model: Model
    arch: Arch
    card: Card | None

    @property
    def multiple(self) -> int:
        """That sides of what it takes are multiples of."""
        return self.model.facts.size_multiple


def adaptable(url: str, card: Card | None) -> Adaptable:
    """The model of a name, or of weights anywhere.

    Raises:
        ModelError: There is none, or it is not of our own networks, which alone are trained here.
        StorageError: The store of the weights fails.
    """
    if url in set(Kernel):
        raise _misfit(url, "an interpolation, without weights")
    model = model_at(url)
    assert model.origin is not None, "what is no interpolation has weights"
    arch = next((each for each in ARCHS if each.name == model.origin.arch), None)
    if arch is None or model.origin.form == "spandrel":
        raise _misfit(url, f"{model.origin.arch}, through spandrel")
    return Adaptable(url, model, arch, card)


def _misfit(url: str, got: str) -> ModelError:
    expected = f"weights of {', '.join(each.name for each in ARCHS)}"
    return ModelError("This model cannot be adapted", where=url, got=got, expected=expected)


@dataclass(frozen=True)
class AdaptationSettings(SuperResolutionSettings):
    """A network that goes on to learn, from pairs that were made of footage.

    Attributes:
        data: The pairs.
    """

    data: TrainingData | None = None

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {"arch": self.arch.name, "network": self.config, "crops.lr_px": self.lr_crop_px}

    def read(self, data: DataSettings) -> TrainingData:
        """See `TaskSettings`: they are read already."""
        assert self.data is not None, "what adapts has footage"
        return self.data

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> _Adaptation:  # type: ignore[override]
        """See `TaskSettings`."""
        return _Adaptation(self, job, group, training, validation)


class _Adaptation:
    """See `Task`."""

    def __init__(
        self,
        settings: AdaptationSettings,
        job: TrainJob,
        group: Group,
        training: Pictures,
        validation: Pictures,
    ) -> None:
        self._settings = settings
        self._job = job
        self._group = group
        self._training = training
        self._facts = settings.network_facts
        self._pairs = list(validation)
        self._samples: Samples | None = None

    def make_step(self, stage: int, network: nn.Module) -> PixelStep:
        """See `Task`."""
        asked = self._job.stage_of(stage, PixelStage)
        objective = WeightedLoss(pixel_terms(dict(asked.losses)))
        return PixelStep(network, objective, asked.learning_rate, self._group, self._job.numerics)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`."""
        settings = CropSettings(self._settings.lr_crop_px, is_turned=False)
        crops = Crops(self._training, settings, self._job.seed, stage)
        mode, group = self._facts.color_mode, self._group
        size = self._job.stages[stage].stage.batch_size // group.size

        def make(number: int) -> Batch:
            items = batch_numbers(number, size, group.rank, group.size)
            lr_frames, hr_frames = self._units(crops.batch(items))
            for each, item in enumerate(items):
                turn = int(
                    torch.randint(
                        _NUM_TURNS, (), generator=item_generator(self._job.seed, stage, item, "turn")
                    )
                )
                lr_frames[each], hr_frames[each] = (
                    _turned(frame[each], turn) for frame in (lr_frames, hr_frames)
                )
            return Batch(number, (as_seen(lr_frames, mode),), as_seen(hr_frames, mode))

        return Ahead(make, first, _LOADER_THREADS, _AHEAD_BATCHES)

    def sheet(self) -> npt.NDArray[np.uint8]:
        """See `Task`: crops of HR and LR as they are learnt from."""
        crops = Crops(
            self._training, CropSettings(self._settings.lr_crop_px, is_turned=False), self._job.seed
        )
        lr_frames, hr_frames = self._units(crops.batch(range(self._job.stages[0].stage.batch_size)))
        return sheet(hr_frames, lr_frames).permute(1, 2, 0).numpy()

    def baseline(self) -> str:
        """See `Task`: the model as it is, and bicubic."""
        bicubic = self.measure(Interpolation(Kernel.BICUBIC, self._facts.scale))
        old = self.measure(model_at(self._job.start or "").network.to(self._group.device))
        return f"bicubic interpolation: {in_words(bicubic)}\nthe model as it is: {in_words(old)}"

    def measure(self, network: nn.Module) -> Figures:
        """See `Task`."""
        return measure(network, self._facts.color_mode, self._validation(), self._facts.scale)

    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`."""
        if self._samples is None:
            self._samples = Samples(list(self._validation()), self._facts.color_mode, self._facts.scale)
        return self._samples.rows(network)

    def packed(self, network: nn.Module) -> bytes:
        """See `Task`."""
        return pack_weights(network, self._settings.arch, self._settings.config)

    def card(self, network: nn.Module) -> Card:
        """See `Task`."""
        return new_card(network, self._settings.arch, self._settings.config)

    def _units(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        return unpacked_pairs(unit_frames(packed, self._group.device), self._facts.scale)

    def _validation(self) -> Iterator[Pair]:
        return (Pair(*self._units(each[None])) for each in self._pairs)


def _turned(frame: Tensor, turn: int) -> Tensor:
    """One of the eight ways to lay a square (C, side, side), as `sr_core.train.crops.Crop` counts them."""
    if turn & 4:
        frame = frame.transpose(1, 2)
    flipped = [axis for axis, bit in ((1, 2), (2, 1)) if turn & bit]
    return frame.flip(flipped).clone()


def footage_settings(start: Adaptable, sources: Sequence[str], seed: int) -> FootageSettings:
    """What is taken of footage for a model."""
    return FootageSettings(
        tuple(sources), start.model.facts.scale, start.multiple, least_lr_px=_crop_px(start), seed=seed
    )


def _crop_px(start: Adaptable) -> int:
    """The side of LR crops: the usual one, or the next that the network takes."""
    return -(-_LR_CROP_PX // start.multiple) * start.multiple


def job_of(start: Adaptable, settings: FootageSettings, output_url: str) -> TrainJob:
    """The run that goes on from a model, in a folder of the output; it still lacks its footage.

    Raises:
        SpecError: The output lies in the footage, or would be written over the model.
    """
    assert start.model.origin is not None, "only weights are adapted"
    if start.url not in BUNDLED and place_of(start.url) == place_of(join_url(output_url, ADAPTED)):
        raise SpecError(
            "the adapted model would be written over the one that it comes from",
            where="output",
            got=output_url,
            expected="another folder than that of the model",
        )
    job = TrainJob(
        output_url=join_url(output_url, _RUN),
        task=AdaptationSettings(start.arch, start.model.origin.config, lr_crop_px=_crop_px(start)),
        data=settings.data,
        stages=(_STAGE,),
        start=start.url,
        cadence=_CADENCE,
        seed=settings.seed,
    )
    refuse_misfits(job, Group())
    return job


def with_footage(job: TrainJob, footage: Footage) -> TrainJob:
    """The run with what it learns from."""
    assert isinstance(job.task, AdaptationSettings), "it is one that adapts"
    return replace(job, task=replace(job.task, data=footage.data))


@dataclass(frozen=True)
class Verdict:
    """What came of an adaptation.

    Attributes:
        share: Of the new weights, that did best on the frames to choose by; 0 where none did better.
        before: Figures of the model as it was, on the frames to confirm on.
        after: The same of the adapted one.
        gain_db: Of PSNR of luma on these, on average.
        error_db: Standard error of that over frames.
        median_db: The gain of the frame in the middle: a few odd ones, as black ones, do not decide.
    """

    share: float
    before: Figures
    after: Figures
    gain_db: float
    error_db: float
    median_db: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is more than chance would make it, can be seen, and is not paid for in SSIM."""
        least_db = min(self.gain_db, self.median_db)
        is_clear = self.gain_db > self.error_db and least_db > _LEAST_GAIN_DB
        return self.share > 0 and is_clear and self.after[Measure.SSIM_Y] >= self.before[Measure.SSIM_Y]


def judge(start: Adaptable, footage: Footage, job: TrainJob, device: torch.device) -> Verdict:
    """Chooses what is kept of a run's weights by one part of the held-out frames, and measures it on another.

    Raises:
        ModelError: The new weights cannot be used.
        StorageError: Their store fails.
    """
    candidate_url = join_url(job.output_url, _CANDIDATE)
    figures = partial(_figures, device=device)
    choosing, confirming = (
        footage.pairs.only(part) for part in (footage.parts.choosing, footage.parts.confirming)
    )
    networks = {share: _blend(start, candidate_url, share) for share in _SHARES}
    told = {share: _mean(figures(model, choosing)) for share, model in networks.items()}
    best = max(_SHARES, key=lambda share: told[share][Measure.PSNR_Y])
    before = figures(start.model, confirming)
    if told[best][Measure.PSNR_Y] <= _mean(figures(start.model, choosing))[Measure.PSNR_Y]:
        return Verdict(0.0, _mean(before), _mean(before), 0.0, 0.0, 0.0)
    after = figures(networks[best], confirming)
    gains = [new[Measure.PSNR_Y] - old[Measure.PSNR_Y] for new, old in zip(after, before, strict=True)]
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    middle = statistics.median(gains)
    return Verdict(best, _mean(before), _mean(after), statistics.fmean(gains), error, middle)


def keep(start: Adaptable, job: TrainJob, verdict: Verdict, output_url: str) -> None:
    """Writes the adapted model and its card, where it is better.

    Raises:
        StorageError: The store fails.
    """
    storage = open_storage(output_url)
    if not verdict.is_better:
        return
    run_card = join_url(job.output_url, card_key(_CANDIDATE))
    learnt = read_card(open_storage(job.output_url).get(card_key(_CANDIDATE)) or b"", run_card)
    model = _blend(start, join_url(job.output_url, _CANDIDATE), verdict.share)
    known = replace(learnt, sources=(), licence="") if start.card is None else start.card
    card = replace(
        learnt,
        sources=(*known.sources, *learnt.sources),
        recipe={
            "adapted from": place_of(start.url).name,
            "adapted from SHA-256": start.model.weights_sha256,
            "share of the new weights": f"{verdict.share:g}",
            **learnt.recipe,
        },
        figures={"held-out footage, before": dict(verdict.before), "held-out footage": dict(verdict.after)},
        licence=known.licence,
    )
    assert model.origin is not None, "only weights are blended"
    storage.put(ADAPTED, pack_weights(model.network, start.arch, model.origin.config))
    storage.put(card_key(ADAPTED), card_json(card))


def _blend(start: Adaptable, candidate_url: str, share: float) -> Model:
    return model_at(start.url, start.model.facts.scale, Blend(candidate_url, share))


def _figures(model: Model, pairs: Pictures, device: torch.device) -> list[Figures]:
    """Of each pair."""
    scale, network = model.facts.scale, model.network.to(device)
    made = []
    for packed in pairs:
        pair = Pair(*unpacked_pairs(unit_frames(packed[None], device), scale))
        made.append(measure(network, model.facts.color_mode, [pair], scale))
    return made


def _mean(figures: Sequence[Figures]) -> Figures:
    return {name: statistics.fmean(each[name] for each in figures) for name in figures[0]}
