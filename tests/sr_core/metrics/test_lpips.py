from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jobs.evaluation.data import read_image
from sr_core.errors import ModelError, SpecError
from sr_core.metrics.lpips import ALEXNET, BACKBONES, SQUEEZENET, VGG16, Backbone, Lpips, load_lpips

PERCEPTUAL = Path(__file__).parents[3].parent / "shared" / "data" / "perceptual"


def weights_of(network: Lpips, folder: Path) -> tuple[Path, Path]:
    """The two files in which weights of LPIPS are published, of any network."""
    tensors = network.state_dict()
    features = {key: value for key, value in tensors.items() if key.startswith("features.")}
    heads = {
        key.replace("heads.", "lin").replace(".weight", ".model.1.weight"): value
        for key, value in tensors.items()
        if key.startswith("heads.")
    }
    paths = folder / "features.safetensors", folder / "heads.safetensors"
    save_file({**features, "classifier.1.weight": torch.zeros(2, 2)}, paths[0])
    save_file(heads, paths[1])
    return paths


@pytest.fixture
def given() -> Callable[[str], Path]:
    """Paths of published weights and pictures of LPIPS; skips the test where they are not."""

    def find(name: str) -> Path:
        if not (PERCEPTUAL / name).exists():
            pytest.skip(f"needs {name}")
        return PERCEPTUAL / name

    return find


@pytest.mark.parametrize(
    ("features", "heads", "expected"),
    [
        ("alexnet_features", "lpips_v0.1_alex_lin", (0.722, 0.138)),
        ("squeezenet1_1_features", "lpips_v0.1_squeeze_lin", (0.711, 0.148)),
    ],
)
def test_published_weights_give_the_published_distances(
    features: str, heads: str, expected: tuple[float, float], given: Callable[[str], Path]
) -> None:
    lpips = load_lpips(given(f"{features}.safetensors"), given(f"{heads}.safetensors"))
    reference, first, second = (
        read_image(given(f"lpips_example/{name}.png")) for name in ("ex_ref", "ex_p0", "ex_p1")
    )

    distances = lpips(torch.cat([first, second]), reference.expand(2, -1, -1, -1))

    assert distances.tolist() == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_weights_of_every_classifier_are_recognised(backbone: Backbone, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = Lpips(backbone)
    x, y = torch.rand(2, 1, 3, 40, 40)

    loaded = load_lpips(*weights_of(made, tmp_path))

    assert loaded.backbone is backbone
    torch.testing.assert_close(loaded(x, y), made(x, y))


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_the_smallest_picture_is_taken_and_a_smaller_one_refused(backbone: Backbone) -> None:
    lpips = Lpips(backbone)
    side = backbone.smallest_px
    picture = torch.rand(1, 3, side, side + 3)

    assert lpips(picture, picture).tolist() == [0.0]
    with pytest.raises(SpecError, match="too small"):
        lpips(picture[:, :, 1:], picture[:, :, 1:])


def test_pictures_have_a_gradient_also_where_nothing_is_seen() -> None:
    torch.manual_seed(0)
    lpips = Lpips(SQUEEZENET)
    with torch.no_grad():
        for parameter in lpips.features.parameters():
            parameter.clamp_(max=0)  # every feature is 0 after the first ReLU
    black = torch.zeros(1, 3, 32, 32, requires_grad=True)

    lpips(black, torch.rand(1, 3, 32, 32)).sum().backward()

    assert black.grad is not None
    assert bool(black.grad.isfinite().all())


def test_trained_weights_pull_a_picture_to_its_truth(given: Callable[[str], Path]) -> None:
    lpips = load_lpips(given("alexnet_features.safetensors"), given("lpips_v0.1_alex_lin.safetensors"))
    hr_frame = read_image(given("lpips_example/ex_ref.png"))
    picture = read_image(given("lpips_example/ex_p1.png")).requires_grad_()

    before = lpips(picture, hr_frame)
    before.backward()
    assert picture.grad is not None
    after = lpips(picture.detach() - 0.01 * picture.grad.sign(), hr_frame)

    assert float(after) < float(before.detach())
    assert all(parameter.grad is None for parameter in lpips.parameters())


def test_weights_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "alexnet").mkdir()
    (tmp_path / "squeezenet").mkdir()
    features, _ = weights_of(Lpips(ALEXNET), tmp_path / "alexnet")
    _, heads = weights_of(Lpips(SQUEEZENET), tmp_path / "squeezenet")

    with pytest.raises(ModelError, match=r"heads\.1\.weight.*one classifier"):
        load_lpips(features, heads)


def test_features_that_end_early_are_refused_by_the_first_that_is_missing(tmp_path: Path) -> None:
    network = Lpips(VGG16)
    features, heads = weights_of(network, tmp_path)
    kept = {key: value for key, value in network.state_dict().items() if key.startswith("features.")}
    save_file({key: kept[key] for key in list(kept)[:8]}, features)

    with pytest.raises(ModelError, match=r"features\.10\.bias.*no such tensor"):
        load_lpips(features, heads)


def test_features_of_something_else_are_refused(tmp_path: Path) -> None:
    features, heads = weights_of(Lpips(VGG16), tmp_path)
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, features)

    with pytest.raises(ModelError, match=r"no features that LPIPS knows.*\(8, 3, 3, 3\).*alexnet"):
        load_lpips(features, heads)
