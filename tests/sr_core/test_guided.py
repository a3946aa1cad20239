import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import ModelError, SpecError
from sr_core.family import build_network
from sr_core.guided import GUIDED, GuidedConfig, GuidedUpscaler, bicubic_depth, guided_filter, guided_scale
from tests.sr_core.scenes import near_edges, scenes
from tests.sr_core.threads import one_thread

SCALE = 4


def rmse_at_edges(made: Tensor, depth: Tensor) -> float:
    return float((made - depth)[near_edges(depth)].square().mean().sqrt())


def test_the_guided_filter_halves_the_error_of_bicubic_at_depth_edges() -> None:
    depth, images = scenes(4, 128, seed=1)
    small = F.avg_pool2d(depth, SCALE)

    error = rmse_at_edges(guided_filter(small, images), depth)

    assert error < rmse_at_edges(bicubic_depth(small, SCALE), depth) / 2


@one_thread()
def test_a_network_trained_on_scenes_beats_bicubic_at_depth_edges_of_others() -> None:
    torch.manual_seed(0)
    network = GUIDED.build(GuidedConfig(SCALE, 16, 2, 2))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    depth, images = scenes(48, 64, seed=1)
    small = F.avg_pool2d(depth, SCALE)
    for _ in range(200):
        batch = torch.randint(0, len(depth), (8,))
        loss = (network(small[batch], images[batch]) - depth[batch]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    depth, images = scenes(8, 128, seed=2)
    small = F.avg_pool2d(depth, SCALE)
    with torch.no_grad():
        error = rmse_at_edges(network(small, images), depth)
    assert error < 0.9 * rmse_at_edges(bicubic_depth(small, SCALE), depth)


def test_an_untrained_network_is_bicubic_interpolation() -> None:
    depth, guide = torch.rand(1, 1, 9, 7), torch.rand(1, 3, 27, 21)

    torch.testing.assert_close(GUIDED.build(GuidedConfig(3, 4))(depth, guide), bicubic_depth(depth, 3))


def test_a_flat_depth_stays_what_it_is_whatever_the_guide_shows() -> None:
    network = GUIDED.build(GuidedConfig(3, 4))
    torch.nn.init.normal_(network.last.weight)

    made = network(torch.full((1, 1, 8, 8), 0.3), torch.rand(1, 3, 24, 24))

    torch.testing.assert_close(made, torch.full_like(made, 0.3), rtol=0, atol=1e-5)


def test_the_filter_gives_back_what_is_linear_in_the_guide() -> None:
    guide = torch.rand(1, 3, 24, 20)
    depth = 0.2 + (guide * torch.tensor([0.3, -0.1, 0.4])[:, None, None]).sum(1, keepdim=True)

    torch.testing.assert_close(guided_filter(depth, guide, epsilon=1e-9), depth, rtol=0, atol=1e-5)


def test_a_flat_guide_leaves_the_mean_of_means() -> None:
    depth = torch.rand(1, 1, 24, 24)
    kernel = torch.full((1, 1, 3, 3), 1 / 9)

    made = guided_filter(depth, torch.full((1, 3, 24, 24), 0.5), radius=1)

    torch.testing.assert_close(made[..., 2:-2, 2:-2], F.conv2d(F.conv2d(depth, kernel), kernel))


def test_smaller_epsilon_keeps_weaker_edges() -> None:
    depth = torch.zeros(1, 1, 32, 32)
    depth[..., 16:] = 1
    guide = (0.5 + 0.02 * depth).repeat(1, 3, 1, 1)

    errors = [rmse_at_edges(guided_filter(depth, guide, epsilon=value), depth) for value in (1e-2, 1e-5)]

    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(
    "config", [GuidedConfig(2, 8, 1, 1), GuidedConfig(4, 6, 2, 3, 5), GuidedConfig(1, 4)]
)
def test_the_configuration_is_read_back_and_every_weight_gets_a_gradient(config: GuidedConfig) -> None:
    network = GUIDED.build(config)
    torch.nn.init.normal_(network.last.weight)
    depth, guide = torch.rand(1, 1, 6, 5), torch.rand(1, 3, 6 * config.scale, 5 * config.scale)

    found = build_network(dict(network.state_dict()), (GUIDED,))
    made = network(depth, guide)
    made.square().sum().backward()

    assert GUIDED.config_of(network.state_dict()) == config
    torch.testing.assert_close(found(depth, guide), made)
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ModelError, match="expected guided"):
        build_network({"guide_branch.0.weight": torch.zeros(8, 12, 3, 3)}, (GUIDED,))


@pytest.mark.parametrize(("height", "width"), [(24, 20), (25, 25), (3, 3), (12, 24)])
def test_sizes_that_do_not_fit_are_refused(height: int, width: int) -> None:
    depth, guide = torch.rand(1, 1, 6, 6), torch.rand(1, 3, height, width)

    with pytest.raises(SpecError, match=f"depth 6x6, guide {width}x{height}"):
        guided_scale(depth, guide)


def test_a_network_of_another_scale_is_refused() -> None:
    network: GuidedUpscaler = GUIDED.build(GuidedConfig(4, 4))

    with pytest.raises(SpecError, match="another scale"):
        network(torch.rand(1, 1, 6, 6), torch.rand(1, 3, 12, 12))
