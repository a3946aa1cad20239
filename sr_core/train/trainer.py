"""The training loop: its cadence, its state, and what it does when a step goes wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from sr_core.errors import TrainError
from sr_core.train.ema import Ema
from sr_core.train.group import Group
from sr_core.train.schedule import Schedule
from sr_core.train.step import Numbered, Step, StepLog, seed_step, tensors_of

N = TypeVar("N", bound=Numbered)
N_co = TypeVar("N_co", bound=Numbered, covariant=True)

# After each roll-back, steps are shorter by this.
_AFTER_ROLL_BACK = 0.5


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        num_images: That it sees, over all workers; rounded up to whole batches.
        batch_size: Images in a batch, over all workers.
        schedule: How the learning rate goes.
        ema_decay: Of the average of weights.
    """

    num_images: int
    batch_size: int
    schedule: Schedule = field(default_factory=Schedule)
    ema_decay: float = 0.999

    @property
    def num_batches(self) -> int:
        """In the stage."""
        return -(-self.num_images // self.batch_size)


@dataclass(frozen=True)
class Cadence:
    """How often things are done, in batches, and how often a run may go back."""

    log: int = 100
    validate: int = 5000
    checkpoint: int = 2000
    most_roll_backs: int = 3


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        stage: Number of the stage.
        batch: Number of the next batch in it.
        num_images: Seen in all stages.
    """

    stage: int = 0
    batch: int = 0
    num_images: int = 0


class Watcher(Protocol):
    """What goes on around a run."""

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """Tells how it goes."""

    def validate(self, position: Position, network: nn.Module) -> None:
        """Measures the average of weights, and keeps it if it is the best so far."""

    def save(self, position: Position, state: dict[str, Any], network: nn.Module) -> None:
        """Keeps a checkpoint, and the average of weights as it is."""

    def tell(self, sentence: str) -> None:
        """Tells what the user must know."""


MakeStep = Callable[[int, nn.Module], Step[N]]
"""The step of the stage of that number, on the network."""


class Batches(Protocol[N_co]):
    """This worker's share of all batches of a stage from a number on, without end."""

    def __next__(self) -> N_co:
        """The next one."""

    def close(self) -> None:
        """No more are wanted."""


MakeBatches = Callable[[int, int], Batches[N]]
"""Of the stage of that number, from the batch of that number on."""


class Trainer(Generic[N]):
    """Trains one network in stages, from wherever it was.

    Attributes:
        network: The network in training.
        ema: The average of its weights.
        position: How far it is.
    """

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[Stage],
        make_step: MakeStep[N],
        make_batches: MakeBatches[N],
        watcher: Watcher | None,
        group: Group | None = None,
        *,
        cadence: Cadence | None = None,
        seed: int = 0,
    ) -> None:
        """Takes `network` over, which lies on the group's device, and starts at the first stage.

        Only the first worker of a group has a watcher.
        """
        self.network = network
        self.position = Position()
        self._stages = stages
        self._make_step = make_step
        self._make_batches = make_batches
        self._watcher = watcher
        self._group = group or Group()
        self._cadence = cadence or Cadence()
        self._seed = seed
        self._num_roll_backs = 0
        self._skipped: set[tuple[int, int]] = set()
        self._group.take_from_first(tensors_of([network]))
        self._step = make_step(0, network)
        self.ema = Ema(network, stages[0].ema_decay)
        self._kept = self.state_dict()

    def run(self, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Trains until all is done, or until `is_over` says after a batch that it must stop for now.

        Returns:
            Whether all is done. Either way the last state is kept.

        Raises:
            TrainError: Steps are not finite again and again.
        """
        while self.position.stage < len(self._stages):
            try:
                if not self._run_stage(is_over):
                    self._keep()
                    return False
            except TrainError as error:
                self._roll_back(error)
                continue
            self._validate()
            self._begin(self.position.stage + 1)
        self._keep()
        return True

    def _run_stage(self, is_over: Callable[[], bool]) -> bool:
        """Trains to the end of the stage, or until it is over for now."""
        stage, first = self._stages[self.position.stage], self.position.batch
        with closing(self._make_batches(self.position.stage, first)) as batches:
            for _ in range(first, stage.num_batches):
                self._take(stage, next(batches))
                if self._group.agree(is_over()):
                    return False
        return True

    def _take(self, stage: Stage, batch: N) -> None:
        """Trains on a batch, and does what is due after it."""
        log, cadence, done = self._train(stage, batch), self._cadence, batch.number + 1
        if self._watcher:
            for warning in log.warnings:
                self._watcher.tell(warning)
        if done % cadence.log == 0 and self._watcher:
            self._watcher.log(self.position, log, self._share(stage, batch.number))
        if done % cadence.validate == 0 and done < stage.num_batches:
            self._validate()
        if done % cadence.checkpoint == 0:
            self._keep()

    def _train(self, stage: Stage, batch: N) -> StepLog:
        if (self.position.stage, batch.number) in self._skipped:
            log = StepLog({})
        else:
            seed_step(self._seed, self.position.stage, batch.number, self._group.rank)
            log = self._step(batch, self._share(stage, batch.number))
            self.ema.update(self.network)
        num_images = self.position.num_images + stage.batch_size
        self.position = Position(self.position.stage, batch.number + 1, num_images)
        return log

    def _share(self, stage: Stage, number: int) -> float:
        """Of the learning rate, for the batch of that number."""
        share = stage.schedule.share_at((number + 1) * stage.batch_size, stage.num_images)
        return share * _AFTER_ROLL_BACK**self._num_roll_backs

    def _begin(self, stage: int) -> None:
        """The next stage starts from the average of the last one."""
        self.position = Position(stage, 0, self.position.num_images)
        if stage == len(self._stages):
            return
        self.network.load_state_dict(self.ema.network.state_dict())
        self._step = self._make_step(stage, self.network)
        self.ema = Ema(self.network, self._stages[stage].ema_decay)

    def _validate(self) -> None:
        if self._watcher:
            self._watcher.validate(self.position, self.ema.network)

    def _keep(self) -> None:
        self._group.take_from_first([*self.network.buffers(), *self.ema.network.buffers()])
        self._kept = self.state_dict()
        if self._watcher:
            self._watcher.save(self.position, self._kept, self.ema.network)

    def _roll_back(self, error: TrainError) -> None:
        """Goes back to the last checkpoint, and will leave out the batch that was not finite."""
        wrong = (self.position.stage, self.position.batch)
        num_roll_backs, skipped = self._num_roll_backs + 1, {*self._skipped, wrong}
        if num_roll_backs > self._cadence.most_roll_backs:
            raise error
        self.load_state_dict(self._kept)
        self._num_roll_backs, self._skipped = num_roll_backs, skipped
        if self._watcher:
            self._watcher.tell(
                f"{error}: went back to image {self.position.num_images}; that batch will be skipped, and "
                f"steps are {_AFTER_ROLL_BACK**num_roll_backs:g} of their length"
            )

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened, as copies."""
        return copy.deepcopy(
            {
                "position": (self.position.stage, self.position.batch, self.position.num_images),
                "network": self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "step": self._step.state_dict(),
                "num_roll_backs": self._num_roll_backs,
                "skipped": sorted(self._skipped),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where another trainer of the same stages was."""
        self.position = Position(*state["position"])
        self.network.load_state_dict(state["network"])
        stage = min(self.position.stage, len(self._stages) - 1)
        self._step = self._make_step(stage, self.network)
        self._step.load_state_dict(state["step"])
        self.ema = Ema(self.network, self._stages[stage].ema_decay)
        self.ema.load_state_dict(state["ema"]["network"], state["ema"]["num_updates"])
        self._num_roll_backs = state["num_roll_backs"]
        self._skipped = {(stage, number) for stage, number in state["skipped"]}
        self._kept = self.state_dict()
