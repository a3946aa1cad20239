"""One step of training: from a batch to changed weights, in the order of the paper."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from sr_core.errors import TrainError
from sr_core.train.group import Group

# Those of torch.amp.GradScaler.
_FIRST_LOSS_SCALE = 2.0**16
_STEPS_TO_GROWTH = 2000


class Numbered(Protocol):
    """One worker's share of a batch, of whatever kind.

    Attributes:
        number: Of the batch within its stage; all random numbers of the step follow from it.
    """

    @property
    def number(self) -> int: ...  # noqa: D102 - see the class


class Divisible(Numbered, Protocol):
    """A share that can be worked off in parts, where memory is short."""

    @property
    def num_items(self) -> int:
        """Whose mean the losses are."""

    def parts(self, num_parts: int) -> Sequence[Self]:
        """Itself in up to so many parts of nearly one size."""


B = TypeVar("B", bound=Divisible)
N_contra = TypeVar("N_contra", bound=Numbered, contravariant=True)


@dataclass(frozen=True)
class Batch:
    """One worker's share of a batch: what a network takes, and what it should make of it.

    Attributes:
        number: See `Numbered`.
        inputs: Of the network, (B, ...) each, on the device: LR frames alone, (B, C, h, w) float32 0..1, for
            super-resolution.
        truth: (B, ...): the HR frames, (B, C, scale * h, scale * w), there.
    """

    number: int
    inputs: tuple[Tensor, ...]
    truth: Tensor

    @property
    def num_items(self) -> int:
        """See `Divisible`."""
        return len(self.truth)

    def parts(self, num_parts: int) -> list[Batch]:
        """See `Divisible`."""
        chunks = zip(*(each.chunk(num_parts) for each in (self.truth, *self.inputs)), strict=True)
        return [Batch(self.number, tuple(inputs), truth) for truth, *inputs in chunks]


@dataclass(frozen=True)
class StepLog:
    """What a step tells.

    Attributes:
        losses: By name, means over the batch and all workers.
        gradient_norms: By player, before clipping.
        figures: What else is worth a curve, by name: mean logits, GEM's beta.
        warnings: Sentences that the user must read, the same on all workers; each is told once.
    """

    losses: Mapping[str, float]
    gradient_norms: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Objective(Protocol):
    """By how much what a network makes differs from the truth."""

    def __call__(self, made: Tensor, truth: Tensor, /) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, to take gradients of, and its parts by name."""


class Step(Protocol[N_contra]):
    """Takes one step after the other."""

    def __call__(self, batch: N_contra, share: float) -> StepLog:
        """Changes weights for the better, at `share` of the learning rate.

        Raises:
            TrainError: A loss or gradient is not finite; then nothing was changed.
        """

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on exactly; without the network, which the trainer keeps."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where another one was."""


@dataclass(frozen=True)
class Numerics:
    """In what numbers a step computes.

    Attributes:
        dtype: That forward passes run in; weights and sums stay in float32.
        num_parts: In how many parts a worker takes its batch, one after the other, where memory is short.
        clip_norm: Gradients longer than this are shortened to it; infinite to let them be.
        is_channels_last: Whether values of a pixel lie side by side, which tensor cores like.
        is_compiled: Whether torch.compile makes faster code of the network, which takes a while at first.
    """

    dtype: torch.dtype = torch.float32
    num_parts: int = 1
    clip_norm: float = math.inf
    is_channels_last: bool = False
    is_compiled: bool = False

    def prepared(self, network: nn.Module) -> nn.Module:
        """`network` itself, laid out in memory and compiled as asked; its weights stay what they are."""
        if self.is_channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.is_compiled:
            network.compile()
        return network

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """The context of forward passes."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.dtype)


LossOf = Callable[[B], tuple[Tensor, dict[str, Tensor]]]
"""What is made small of a part of a batch, to take gradients of, and what it consists of by name."""


class DescentStep(Generic[B]):
    """Adam on a loss.

    Under float16, a step whose gradients are not finite is taken again at half the loss scale, until that
    comes to 1: only then is it an error. Buffers, as of batch normalisation, then are what they were.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossOf[B],
        learning_rate: float,
        group: Group,
        numerics: Numerics,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        """Trains `network`, which `loss` runs; its means are over the items of a part."""
        self._loss = loss
        self._learning_rate = learning_rate
        self._group = group
        self._numerics = numerics
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]
        self._buffers = list(network.buffers())
        self._optimizer = torch.optim.Adam(self._weights, lr=learning_rate, betas=betas, foreach=True)
        self._loss_scale = LossScale.of(numerics.dtype)

    def __call__(self, batch: B, share: float) -> StepLog:
        """See `Step`."""
        start = [buffer.clone() for buffer in self._buffers]
        while True:
            losses, norm = self._take_gradients(batch)
            try:
                refuse_infinite({**losses, "gradient": norm}, batch)
                break
            except TrainError:
                for buffer, value in zip(self._buffers, start, strict=True):
                    buffer.copy_(value)
                if not self._loss_scale.can_fall:
                    raise
                self._loss_scale.fall()
        torch.nn.utils.clip_grads_with_norm_(self._weights, self._numerics.clip_norm, norm)
        for settings in self._optimizer.param_groups:
            settings["lr"] = share * self._learning_rate
        self._optimizer.step()
        self._loss_scale.count_step()
        return StepLog({name: float(loss) for name, loss in losses.items()}, {"generator": float(norm)})

    def _take_gradients(self, batch: B) -> tuple[dict[str, Tensor], Tensor]:
        """Puts the workers' mean gradients at the weights; returns mean losses and the gradients' norm."""
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._add_gradients(batch)
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        torch._foreach_div_(gradients, self._loss_scale.value)
        self._group.average([*gradients, *losses.values()])
        return losses, torch.nn.utils.get_total_norm(gradients)

    def _add_gradients(self, batch: B) -> dict[str, Tensor]:
        """Adds up the gradients of all parts of the batch, and returns the mean losses."""
        means: dict[str, Tensor] = {}
        for part in batch.parts(self._numerics.num_parts):
            with self._numerics.autocast(self._group.device):
                total, losses = self._loss(part)
            share = part.num_items / batch.num_items
            (total * share * self._loss_scale.value).backward()  # type: ignore[no-untyped-call]
            for name, loss in {**losses, "total": total}.items():
                means[name] = means.get(name, torch.zeros_like(total)) + loss.detach() * share
        return means

    def state_dict(self) -> dict[str, Any]:
        """See `Step`."""
        return {"optimizer": self._optimizer.state_dict(), "loss_scale": self._loss_scale.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Step`."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._loss_scale.load_state_dict(state["loss_scale"])


class LossScale:
    """What losses are multiplied with so that gradients survive float16.

    It falls by half where gradients overflow, and doubles after many steps in which none did, as
    torch.amp.GradScaler does it for optimisers.

    Attributes:
        value: At present, at least 1; where it is 1 from the start, it stays so.
    """

    @staticmethod
    def of(dtype: torch.dtype) -> LossScale:
        """For forward passes in `dtype`: 1 but for float16."""
        return LossScale(_FIRST_LOSS_SCALE if dtype == torch.float16 else 1.0)

    def __init__(self, value: float) -> None:
        self.value = value
        self._may_grow = value > 1
        self._num_steps = 0

    @property
    def can_fall(self) -> bool:
        """Whether it is above 1."""
        return self.value > 1

    def fall(self) -> float:
        """Halves it; returns what it is then."""
        self.value, self._num_steps = self.value / 2, 0
        return self.value

    def count_step(self) -> None:
        """A step went well."""
        self._num_steps += 1
        if self._may_grow and self._num_steps % _STEPS_TO_GROWTH == 0:
            self.value *= 2

    def state_dict(self) -> dict[str, float]:
        """What `load_state_dict` takes."""
        return {"value": self.value, "num_steps": self._num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where another one was."""
        self.value, self._num_steps = state["value"], state["num_steps"]


@dataclass(frozen=True)
class Teacher:
    """A network that another one learns from, beside the truth.

    Paper: Distilling the Knowledge in a Neural Network, Hinton et al. 2015 (arXiv:1503.02531), here for
    pictures in place of classes.

    Attributes:
        network: It takes what the other one takes; in evaluation mode, on the same device.
        weight: Of how much what both make differs, beside how much it differs from the truth.
    """

    network: nn.Module
    weight: float

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """What it makes, float32 in 0..1."""
        made: Tensor = self.network(*inputs)
        return made.float().clamp(0, 1)


class PixelStep(DescentStep[Batch]):
    """Adam on a sum of losses between pictures, with the truth's and those of a teacher, if there is one."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        learning_rate: float,
        group: Group,
        numerics: Numerics,
        betas: tuple[float, float] = (0.9, 0.99),
        teacher: Teacher | None = None,
    ) -> None:
        def loss(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            made = network(*part.inputs).float()
            total, losses = objective(made, part.truth)
            if teacher is not None:
                taught, _ = objective(made, teacher(*part.inputs))
                total, losses = total + teacher.weight * taught, {**losses, "teacher": taught.detach()}
            return total, losses

        super().__init__(network, loss, learning_rate, group, numerics, betas)


def refuse_infinite(values: Mapping[str, Tensor], batch: Numbered) -> None:
    """Stops a step before it changes anything.

    Raises:
        TrainError: One of the values is not finite.
    """
    wrong = [f"{name} {float(value)}" for name, value in values.items() if not bool(torch.isfinite(value))]
    if wrong:
        raise TrainError(
            "A step of training is not finite",
            where=f"batch {batch.number}",
            got=", ".join(wrong),
            expected="finite losses and gradients",
            next_step="lower the learning rate, or clip gradients",
        )


def seed_step(seed: int, stage: int, number: int, rank: int) -> None:
    """Seeds torch's own random numbers, which networks draw noise from, for one batch of one worker."""
    digest = hashlib.sha256(f"{seed} {stage} {number} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def tensors_of(networks: Sequence[nn.Module]) -> list[Tensor]:
    """Weights and buffers of networks, in one order."""
    return [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
