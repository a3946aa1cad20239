"""The adversarial step: its losses, that it is a transaction, and that it goes on exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.discriminators.discriminator import Discriminator
from sr_core.errors import SpecError, TrainError
from sr_core.metrics.lpips import SQUEEZENET, Lpips
from sr_core.train.adversarial import AdversarialSettings, AdversarialStep, LossScale
from sr_core.train.adversarial_game import AdversarialGame
from sr_core.train.adversarial_stage import (
    AdversarialStage,
    PerceptualTerm,
    Seen,
    adversarial_step,
    check_stage,
    new_discriminator,
)
from sr_core.train.game import Player
from sr_core.train.gem import GemSettings
from sr_core.train.group import Group
from sr_core.train.losses.adversarial import ADVERSARIAL_LOSSES
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, Numerics, PixelStep, Step, seed_step, tensors_of
from sr_core.train.trainer import Stage, Trainer
from sr_core.train.updates import RuleName, UpdateSettings
from tests.sr_core.threads import one_thread
from tests.sr_core.train.test_trainer import Notes, batch_norm_network, batches, network

CROPS = Seen(3, 24)
RULES = {rule.value: UpdateSettings(rule) for rule in RuleName} | {
    "gem on one batch": UpdateSettings(RuleName.GEM, gem=GemSettings(same_batch=True))
}
every_rule = pytest.mark.parametrize("updates", RULES.values(), ids=RULES.keys())
every_loss = pytest.mark.parametrize("loss", [loss.name for loss in ADVERSARIAL_LOSSES])


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_thread():
        yield


def stage(**settings: Any) -> AdversarialStage:
    adversarial = AdversarialSettings(**{"num_feat": 4, "watch_batches": 3, **settings})
    return AdversarialStage(Stage(100, 4), (("l1", 1.0), ("mse", 1.0)), adversarial=adversarial)


def step_of(trained: nn.Module, numerics: Numerics | None = None, **settings: Any) -> AdversarialStep:
    return adversarial_step(stage(**settings), trained, CROPS, Group(), numerics or Numerics(), (3, 1))


def batch(number: int) -> Batch:
    return next(batches(1, number))


def play(step: AdversarialStep, numbers: range) -> list[dict[str, float]]:
    """Losses of each batch."""
    losses = []
    for number in numbers:
        seed_step(3, 1, number, 0)
        losses.append(dict(step(batch(number), 1.0).losses))
    return losses


def discriminator_of(step: AdversarialStep) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = copy.deepcopy(step.state_dict()["discriminator"])
    return kept


def is_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, right[key]) for key, value in left.items())


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@every_rule
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(updates: UpdateSettings) -> None:
    # Batch norm in the generator, spectral normalisation in the discriminator, dropout in both.
    whole, first = with_dropout(batch_norm_network()), with_dropout(batch_norm_network())
    asked: dict[str, Any] = {"updates": updates, "r2": 0.1, "feature_matching": 0.1}
    uninterrupted = step_of(whole, **asked)
    losses = play(uninterrupted, range(4))

    interrupted = step_of(first, **asked)
    play(interrupted, range(2))
    state, second = through_a_file(interrupted.state_dict()), copy.deepcopy(first)
    resumed = step_of(second, **asked)
    resumed.load_state_dict(state)

    assert play(resumed, range(2, 4)) == losses[2:]
    assert is_equal(whole.state_dict(), second.state_dict())
    assert is_equal(discriminator_of(uninterrupted), discriminator_of(resumed))
    assert state["guard"]["num_seen"] == 2
    assert resumed.state_dict()["guard"] == uninterrupted.state_dict()["guard"]


def with_dropout(trained: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Dropout(0.2), trained)


@every_rule
@pytest.mark.parametrize("poisoned", ["inputs", "truth"])
def test_a_batch_that_is_not_finite_changes_nothing(updates: UpdateSettings, poisoned: str) -> None:
    trained = batch_norm_network()
    step = step_of(trained, updates=updates, discriminator="patch")
    play(step, range(2))
    before = copy.deepcopy((trained.state_dict(), step.state_dict()))
    good = batch(2)
    spoiled = {"inputs": (good.inputs[0] / 0,), "truth": good.truth / 0}
    bad = replace(good, **{poisoned: spoiled[poisoned]})  # type: ignore[arg-type]

    with pytest.raises(TrainError, match=r"batch 2: .*not finite"):
        step(bad, 1.0)

    after = (trained.state_dict(), step.state_dict())
    assert is_equal(flat(before), flat(after))


def flat(state: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors and numbers in a state, by where they are."""
    if isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {key: tensor for place, each in items for key, tensor in flat(each, f"{name}/{place}").items()}
    return {name: state if isinstance(state, Tensor) else torch.tensor(hash(state))}


def test_the_alternating_rule_takes_back_the_discriminator_where_the_generator_fails() -> None:
    class Brittle:
        fails = False

        def __call__(self, sr_frames: Tensor, hr_frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            loss = (sr_frames - hr_frames).abs().mean()
            return loss * (torch.inf if self.fails else 1), {}

    trained, content = network(), Brittle()
    settings = AdversarialSettings(num_feat=4)
    step = AdversarialStep(
        trained, new_discriminator(settings, CROPS, 0, 0), content, settings, Group(), Numerics()
    )
    play(step, range(2))
    before, discriminator = copy.deepcopy(trained.state_dict()), discriminator_of(step)
    content.fails = True
    with pytest.raises(TrainError, match="generator's loss"):
        step(batch(2), 1.0)

    assert is_equal(before, trained.state_dict())
    assert is_equal(discriminator, discriminator_of(step))


@every_rule
def test_each_step_moves_batch_statistics_once_for_each_look_at_pictures(updates: UpdateSettings) -> None:
    trained = batch_norm_network()
    step = step_of(trained, updates=updates, discriminator="patch")
    play(step, range(3))

    def counts(state: dict[str, Tensor]) -> set[int]:
        return {int(value) for key, value in state.items() if key.endswith("num_batches_tracked")}

    assert counts(trained.state_dict()) == {3}
    assert counts(discriminator_of(step)) == {2 * 3}  # true and made pictures


class Plain(Discriminator):
    """Two convolutions without normalisation: pictures are judged each by itself, and always alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.first = nn.Conv2d(3, 8, 3, 2)
        self.last = nn.Conv2d(8, 1, 3, 2)

    def features(self, images: Tensor) -> list[Tensor]:
        maps = F.leaky_relu(self.first(images), 0.2)
        return [maps, self.last(maps)]


def plain_step(trained: nn.Module, group: Group, numerics: Numerics, **settings: Any) -> AdversarialStep:
    return AdversarialStep(trained, Plain(), l1(), AdversarialSettings(**settings), group, numerics)


def l1() -> WeightedLoss:
    return WeightedLoss(pixel_terms({"l1": 1.0}))


def test_a_game_that_is_asked_twice_gives_the_same_losses() -> None:
    opponent = new_discriminator(stage().adversarial, CROPS, 3, 1).train()
    noisy = with_dropout(batch_norm_network())
    game = AdversarialGame(stage().adversarial.opponents(noisy, opponent, l1(), Numerics()), batch(0), 1.0)
    first, _, again = (
        [float(loss.detach()) for loss in game.losses(players, 0)]
        for players in (tuple(Player), (Player.DISCRIMINATOR,), tuple(Player))
    )
    assert first == again


@every_loss
def test_parts_of_a_batch_give_the_gradients_of_the_whole(loss: str) -> None:
    logs = [
        plain_step(network(), Group(), numerics, loss=loss, r2=0.1, feature_matching=0.1)(batch(0), 1.0)
        for numerics in (Numerics(), Numerics(num_parts=2))
    ]
    whole, parts = ({**log.losses, **log.gradient_norms} for log in logs)
    # The mean logits that relativistic losses compare with are those of a part.
    tolerance = 1e-2 if loss == "relativistic_average" else 1e-4
    assert parts == pytest.approx(whole, rel=tolerance)


@every_loss
def test_losses_are_told_of_both_players(loss: str) -> None:
    log = step_of(network(), loss=loss, weight=0.3, feature_matching=0.2)(batch(0), 1.0)
    losses = log.losses
    content = losses["l1"] + losses["mse"]

    assert losses["content"] == pytest.approx(content)
    total = content + 0.3 * losses["adversarial"] + 0.2 * losses["feature_matching"]
    assert losses["generator"] == pytest.approx(total)
    assert losses["r1"] > 0
    assert set(log.gradient_norms) == {"generator", "discriminator"}
    assert log.figures["made_logit"] != log.figures["true_logit"]


def test_gem_tells_its_coefficient() -> None:
    step = step_of(network(), updates=UpdateSettings(RuleName.GEM))
    [_, log] = [step(batch(number), 1.0) for number in range(2)]
    assert 0 <= log.figures["generator/beta"] <= 0.25
    assert log.figures["generator/share"] + log.figures["discriminator/share"] == pytest.approx(1)


def test_the_losses_of_alternating_steps_are_those_of_the_textbook() -> None:
    generator, opponent = network(), new_discriminator(stage().adversarial, CROPS, 3, 1)
    first = batch(0)
    sr_frames = generator(*first.inputs).detach()
    hr_frames = first.truth.requires_grad_()
    made = opponent(sr_frames)  # spectral normalisation takes a step with each look: their order counts
    true = opponent(hr_frames)
    (slope,) = torch.autograd.grad(true.sum(), hr_frames, retain_graph=True)
    r1 = 0.5 / 2 * slope.square().sum((1, 2, 3)).mean() / true[0].numel()
    discriminator = F.softplus(-true).mean() + F.softplus(made).mean() + r1

    losses = step_of(network(), r1=0.5)(batch(0), 1.0).losses

    assert losses["r1"] == pytest.approx(float(r1.detach()))
    assert losses["discriminator"] == pytest.approx(float(discriminator.detach()))
    assert losses["l1"] == pytest.approx(float((sr_frames - first.truth).abs().mean().detach()))


def test_a_discriminator_with_a_condition_sees_whether_a_picture_comes_of_its_lr_frame() -> None:
    class Pairs(Discriminator):
        """Gives the difference of a picture and what is stacked on it."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.seen: list[Tensor] = []

        def features(self, images: Tensor) -> list[Tensor]:
            self.seen.append(images.detach())
            frames, condition = images.split(3, 1)
            return [self.weight * (frames - condition).square().mean((1, 2, 3)).view(-1, 1)]

    opponent, settings = Pairs(), AdversarialSettings(is_conditional=True)
    AdversarialStep(network(), opponent, l1(), settings, Group(), Numerics())(batch(0), 1.0)

    enlarged = F.interpolate(batch(0).inputs[0], scale_factor=2, mode="bicubic")
    for seen in opponent.seen:
        torch.testing.assert_close(seen[:, 3:], enlarged)
    assert any(torch.equal(seen[:, :3], batch(0).truth) for seen in opponent.seen)


@pytest.mark.parametrize("name", ["unet", "patch"])
@pytest.mark.parametrize("is_conditional", [False, True])
def test_a_discriminator_learns_to_tell_true_pictures(name: str, is_conditional: bool) -> None:
    rates = {Player.GENERATOR: 1e-5, Player.DISCRIMINATOR: 2e-3}
    step = step_of(
        network(),
        discriminator=name,
        is_conditional=is_conditional,
        updates=UpdateSettings(learning_rates=rates),
    )
    losses = play(step, range(15))
    assert losses[-1]["discriminator"] < losses[0]["discriminator"] - 0.02


def test_the_generator_learns_what_the_discriminator_wants() -> None:
    class Bright(Discriminator):
        """Takes bright pictures for true; learns nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def features(self, images: Tensor) -> list[Tensor]:
            return [images.mean((1, 2, 3)).view(-1, 1) + 0 * self.weight]

    def brightness(weight: float) -> float:
        trained = network()
        rates = dict.fromkeys(Player, 1e-3)
        settings = AdversarialSettings(weight=weight, updates=UpdateSettings(learning_rates=rates))
        play(AdversarialStep(trained, Bright(), l1(), settings, Group(), Numerics()), range(10))
        with torch.no_grad():
            return float(trained(*batch(0).inputs).mean())

    assert brightness(100.0) > brightness(1e-6) + 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_rule
def test_lower_precision_takes_nearly_the_same_steps(updates: UpdateSettings, dtype: torch.dtype) -> None:
    full, low = network(), network()
    exact = play(step_of(full, updates=updates), range(2))
    rough = play(step_of(low, Numerics(dtype), updates=updates), range(2))

    assert {weight.dtype for weight in tensors_of([low])} == {torch.float32}
    assert rough[-1] == pytest.approx(exact[-1], rel=0.05)


def test_float16_halves_the_loss_scale_until_gradients_are_finite() -> None:
    class Steep:
        def __call__(self, sr_frames: Tensor, hr_frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return 64 * (sr_frames - hr_frames).abs().sum(), {}

    settings = AdversarialSettings(num_feat=4)
    opponent = new_discriminator(settings, CROPS, 0, 0)
    step = AdversarialStep(network(), opponent, Steep(), settings, Group(), Numerics(torch.float16))
    log = step(batch(0), 1.0)

    assert log.figures["loss_scale"] < 2**16
    assert step.state_dict()["loss_scale"]["value"] == log.figures["loss_scale"]
    assert torch.isfinite(torch.tensor(log.gradient_norms["generator"]))


def test_float16_gives_up_on_a_batch_that_no_loss_scale_saves() -> None:
    step = step_of(network(), Numerics(torch.float16))
    with pytest.raises(TrainError, match="batch 0"):
        step(replace(batch(0), truth=batch(0).truth / 0), 1.0)


def test_the_loss_scale_doubles_after_many_good_steps_and_only_where_it_is_used() -> None:
    used, unused = LossScale(8.0), LossScale(1.0)
    for _ in range(2000):
        used.count_step()
        unused.count_step()
    assert (used.value, unused.value) == (16.0, 1.0)


def test_clipping_of_the_run_holds_for_both_players() -> None:
    def moved(clip_norm: float) -> float:
        trained = network()
        before = [weight.clone() for weight in trained.parameters()]
        updates = UpdateSettings(learning_rates=dict.fromkeys(Player, 1.0), adam=None)
        step_of(trained, Numerics(clip_norm=clip_norm), updates=updates)(batch(0), 1.0)
        return float(
            nn.utils.get_total_norm([b - a for a, b in zip(before, trained.parameters(), strict=True)])
        )

    assert moved(1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert moved(float("inf")) > 1e-2


def test_a_new_discriminator_is_the_same_for_the_same_seed_and_leaves_random_numbers_alone() -> None:
    settings = stage().adversarial
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = new_discriminator(settings, CROPS, 5, 1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert is_equal(one, new_discriminator(settings, CROPS, 5, 1).state_dict())
    assert not is_equal(one, new_discriminator(settings, CROPS, 5, 2).state_dict())


@pytest.mark.parametrize(("name", "side_px"), [("vgg", 32), ("strided", 64), ("patch", 32), ("unet", 20)])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_discriminator_judges_pictures_of_its_size(name: str, side_px: int, num_channels: int) -> None:
    settings = AdversarialSettings(discriminator=name, num_feat=4)
    opponent = new_discriminator(settings, Seen(num_channels, side_px), 0, 0)
    assert torch.isfinite(opponent(torch.rand(2, num_channels, side_px, side_px))).all()


@pytest.mark.parametrize(("name", "side_px"), [("vgg", 24), ("strided", 48)])
def test_crops_that_a_discriminator_cannot_take_are_refused_before_training(name: str, side_px: int) -> None:
    with pytest.raises(SpecError, match=rf"^game\.discriminator: .*got HR crops of {side_px} px"):
        new_discriminator(AdversarialSettings(discriminator=name), Seen(3, side_px), 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "hinged"},
        {"discriminator": "unett"},
        {"weight": 0.0},
        {"r1": -1.0},
        {"r2": float("inf")},
        {"feature_matching": float("nan")},
        {"watch_batches": 0},
        {"num_feat": 5000},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        AdversarialSettings(**wrong)


@pytest.mark.parametrize("name", ["weight", "r1", "num_feat"])
def test_a_setting_out_of_range_is_named_as_users_write_it(name: str) -> None:
    with pytest.raises(SpecError, match=rf"^game\.{name}: "):
        AdversarialSettings(**{name: -1})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with random weights of the network and of LPIPS's heads for it."""
    torch.manual_seed(0)
    folder, state = tmp_path_factory.mktemp("squeezenet"), Lpips(SQUEEZENET).state_dict()
    heads = {
        key.replace("heads.", "lin").replace(".weight", ".model.1.weight"): value.abs()
        for key, value in state.items()
        if key.startswith("heads.")
    }
    features = {key: value for key, value in state.items() if key.startswith("features.")}
    for name, tensors in (("weights", features), ("lpips_heads", heads)):
        torch.save(tensors, folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in ("weights", "lpips_heads")}


@pytest.mark.parametrize("signal", [Signal.RGB, Signal.LUMA])
def test_a_stage_sums_pixel_losses_and_perceptual_ones(squeezenet: dict[str, Path], signal: Signal) -> None:
    perceptual = (
        PerceptualTerm(0.5, "squeezenet1_1", squeezenet["weights"]),
        PerceptualTerm(2.0, **squeezenet),
    )
    asked = replace(stage(), perceptual=perceptual)
    trained = ESPCN.build(EspcnConfig((8,), 2, signal))
    pictures = Seen(signal.num_channels, 24)
    step = adversarial_step(asked, trained, pictures, Group(), Numerics(), (0, 0))
    whole = batch(0)
    seen = Batch(0, (whole.inputs[0][:, : pictures.num_channels],), whole.truth[:, : pictures.num_channels])
    losses = step(seen, 1.0).losses

    parts = losses["l1"] + losses["mse"] + 0.5 * losses["squeezenet1_1"] + 2 * losses["lpips"]
    assert losses["content"] == pytest.approx(parts)
    assert min(losses["squeezenet1_1"], losses["lpips"]) > 0


@pytest.mark.parametrize("stop_after", [2, 3, 5])
def test_a_run_of_a_pixel_and_an_adversarial_stage_goes_on_bit_for_bit(stop_after: int) -> None:
    def trainer(notes: Notes) -> Trainer:
        def make_step(number: int, trained: nn.Module) -> Step:
            if number == 0:
                return PixelStep(trained, l1(), 2e-3, Group(), Numerics())
            return adversarial_step(stage(), trained, CROPS, Group(), Numerics(), (3, number))

        return Trainer(network(), [Stage(12, 4), Stage(12, 4)], make_step, batches, notes, seed=3)

    whole = trainer(Notes())
    assert whole.run()

    notes, count = Notes(), iter(range(stop_after - 1))
    assert not trainer(notes).run(lambda: next(count, None) is None)
    second = trainer(Notes())
    second.load_state_dict(notes.states[-1])
    assert second.run()

    assert is_equal(flat(whole.state_dict()), flat(second.state_dict()))


def test_lpips_heads_without_their_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="heads"):
        PerceptualTerm(1.0, lpips_heads=tmp_path / "lin").term(torch.device("cpu"))


@pytest.mark.parametrize(
    "wrong", [PerceptualTerm(lpips_heads=Path("lin")), PerceptualTerm(network="alexnet")]
)
def test_a_perceptual_loss_that_lacks_a_file_is_told_at_its_key(
    squeezenet: dict[str, Path], wrong: PerceptualTerm
) -> None:
    asked = replace(stage(), perceptual=(PerceptualTerm(**squeezenet), wrong))

    with pytest.raises(SpecError, match=r"^perceptual\.1: "):
        check_stage(asked, CROPS)
