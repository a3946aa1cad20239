"""Networks of spandrel. What needs the library runs where the extra is installed and works."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.models import find_model
from sr_core.errors import ModelError
from sr_core.foreign import foreign_archs, load_foreign
from sr_core.model import ColorMode, load_model
from sr_core.upscale import Upscaler
from sr_core.weights import read_weights

# Of networks as their authors wrote them.
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")

ROOT = Path(__file__).parents[2]
IS_INSTALLED = importlib.util.find_spec("spandrel") is not None


@pytest.fixture
def spandrel() -> Any:
    try:
        known = foreign_archs()
    except ModelError as error:
        pytest.skip(f"spandrel does not work: {error}")
    if not known:
        pytest.skip("needs framelift[spandrel]")
    return importlib.import_module("spandrel")


def swin_ir(folder: Path) -> Path:
    """Weights of a network that spandrel knows and we do not."""
    network = importlib.import_module("spandrel.architectures.SwinIR").SwinIR(
        img_size=16,
        depths=[2],
        embed_dim=12,
        num_heads=[2],
        window_size=8,
        mlp_ratio=2.0,
        upsampler="pixelshuffledirect",
        upscale=2,
    )
    torch.manual_seed(0)
    state_dict = network.state_dict()
    for value in state_dict.values():
        if value.is_floating_point():
            value.normal_(std=0.1)
    torch.save({"params": state_dict}, folder / "swin_ir.pth")
    return folder / "swin_ir.pth"


def unknown_weights(folder: Path) -> Path:
    path = folder / "unknown.pth"
    torch.save({"strange.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.mark.skipif(IS_INSTALLED, reason="spandrel is installed")
def test_without_the_extra_unknown_weights_are_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no known architecture") as caught:
        load_model(str(unknown_weights(tmp_path)))
    assert "pip install framelift[spandrel]" in caught.value.next_step
    assert foreign_archs() == ()


@pytest.mark.parametrize(
    "raised",
    [
        'RuntimeError("operator torchvision::nms does not exist")',
        "ModuleNotFoundError(\"No module named 'torchvision'\")",
    ],
)
def test_a_torchvision_that_does_not_import_is_told_with_what_to_install(tmp_path: Path, raised: str) -> None:
    for name, code in (("torchvision", f"raise {raised}"), ("spandrel", "import torchvision")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code + "\n")
    weights = unknown_weights(tmp_path)
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "from sr_core.errors import ModelError\n"
        "from sr_core.model import load_model\n"
        f"try: load_model({str(weights)!r})\n"
        "except ModelError as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    minor = int(torch.__version__.split(".")[1])
    assert f"{weights}: No architecture here matches" in done.stdout
    assert "spandrel, which may know more, lacks a torchvision that works" in done.stdout
    assert raised.partition("(")[0] in done.stdout
    assert f"pip install --force-reinstall --no-deps 'torchvision==0.{minor + 15}.*'" in done.stdout
    assert f"built as torch {torch.__version__} is" in done.stdout


def test_published_weights_give_the_same_through_spandrel(
    spandrel: Any, published: Callable[[str], Path]
) -> None:
    path = published("realesr-animevideov3.pth")
    ours = load_model(str(path))
    theirs = load_foreign(read_weights(path)[0], ModelError("unknown"), str(path))
    lr_frames = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        expected = ours.network(lr_frames).clamp(0, 1)
        torch.testing.assert_close(theirs.network(lr_frames), expected, atol=1e-4, rtol=0)
    assert (theirs.facts.scale, theirs.facts.color_mode) == (4, ColorMode.RGB)


def test_a_network_of_spandrel_is_a_model_that_wants_whole_frames(spandrel: Any, tmp_path: Path) -> None:
    model = load_model(str(swin_ir(tmp_path)))

    assert (model.facts.name, model.facts.scale, model.facts.halo_px) == ("SwinIR", 2, None)
    assert model.facts.dtypes[0] is torch.float32
    assert model.origin is not None
    assert (model.origin.form, model.origin.arch) == ("spandrel", "SwinIR")
    assert any(
        f"spandrel {spandrel.__version__}" in note and "licence" in note for note in model.origin.notes
    )
    lr_frame = torch.rand(1, 3, 21, 30)
    whole, cut = (Upscaler(model, "cpu", "fp32", tile_px, 1).run(lr_frame) for tile_px in (256, 16))
    assert whole.shape == (1, 3, 42, 60)
    assert torch.equal(whole, cut)
    assert 0 <= float(whole.min()) < float(whole.max()) <= 1


def test_whose_network_it_is_is_told_once_when_a_job_finds_it(
    spandrel: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(swin_ir(tmp_path))

    assert find_model(path).path == path

    assert [record.getMessage().count("licence") for record in caplog.records] == [1, 1]


def test_bf16_is_not_promised_though_spandrel_does(spandrel: Any, tmp_path: Path) -> None:
    model = load_model(str(swin_ir(tmp_path)))

    assert model.facts.dtypes[0] == torch.float32
    assert torch.bfloat16 not in model.facts.dtypes


def test_another_scale_than_its_network_has_is_refused(spandrel: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got scale 3; expected scale 2"):
        load_model(str(swin_ir(tmp_path)), 3)


def test_what_upscales_no_plain_images_is_refused(spandrel: Any, tmp_path: Path) -> None:
    denoiser = importlib.import_module("spandrel.architectures.DnCNN").DnCNN(in_nc=3, out_nc=3)
    torch.save(denoiser.state_dict(), tmp_path / "denoiser.pth")

    with pytest.raises(ModelError, match="no network that upscales plain images") as caught:
        load_model(str(tmp_path / "denoiser.pth"))
    assert caught.value.got == "spandrel's DnCNN, for Restoration, 3 channels to 3"


def test_damaged_weights_of_its_networks_are_refused(spandrel: Any, tmp_path: Path) -> None:
    path = swin_ir(tmp_path)
    state_dict = torch.load(path)["params"]
    state_dict["conv_first.weight"] = torch.zeros(3, 3, 1, 1)
    torch.save(state_dict, path)

    with pytest.raises(ModelError, match="which cannot load them"):
        load_model(str(path))


def test_what_spandrel_does_not_know_either_is_told(spandrel: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"one that spandrel {spandrel.__version__} knows"):
        load_model(str(unknown_weights(tmp_path)))
