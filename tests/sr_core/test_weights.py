import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.archs.edsr import EDSR, EdsrConfig
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.fsrcnn import FSRCNN, FsrcnnConfig
from sr_core.archs.rrdb import RRDB
from sr_core.archs.signals import Signal
from sr_core.archs.srcnn import SRCNN, SrcnnConfig
from sr_core.errors import ModelError
from sr_core.model import load_model
from sr_core.recognition import recognise
from sr_core.weights import pack_weights, read_weights, told_network

TENSORS = {"body.0.weight": torch.rand(4, 3, 3, 3), "body.0.bias": torch.rand(4)}


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"params": TENSORS},
        {"state_dict": {f"module.{key}": value for key, value in TENSORS.items()}, "epoch": 3},
        {"params": {"body.0.weight": torch.zeros(1)}, "params_ema": TENSORS},
        {"model": TENSORS, "optimizer": {"state": {}}},
    ],
)
def test_checkpoints_are_unwrapped(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)

    state_dict, sha256 = read_weights(path)

    assert list(state_dict) == list(TENSORS)
    assert all(torch.equal(state_dict[key], value) for key, value in TENSORS.items())
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_are_read_whatever_their_suffix(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    safetensors.torch.save_file(TENSORS, path)

    assert torch.equal(read_weights(path)[0]["body.0.weight"], TENSORS["body.0.weight"])


def test_half_precision_weights_come_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save({key: value.half() for key, value in TENSORS.items()}, path)

    assert {value.dtype for value in read_weights(path)[0].values()} == {torch.float32}


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"params": TENSORS, "hook": Attack()}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Attack(), protocol=2))

    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(ModelError, match="may run code"):
            read_weights(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"not weights", b"PK\x03\x04junk", b"\x80\x02junk", b"12345678{junk"]
)
def test_junk_is_a_model_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "junk.pth"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"junk\.pth"):
        read_weights(path)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files_are_model_errors(fraction: float, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])

    with pytest.raises(ModelError, match=r"cut\.pth"):
        read_weights(path)


def test_a_missing_file_and_a_directory_are_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(ModelError, match="directory"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"params": {}}])
def test_files_without_tensors_are_model_errors(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "empty.pth")

    with pytest.raises(ModelError, match="No tensors"):
        read_weights(tmp_path / "empty.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_model_errors_that_name_the_key(value: float, tmp_path: Path) -> None:
    torch.save({**TENSORS, "body.0.bias": torch.tensor([1.0, value])}, tmp_path / "bad.pth")

    with pytest.raises(ModelError, match=r"body\.0\.bias"):
        read_weights(tmp_path / "bad.pth")


def test_unknown_weights_name_the_architectures_tried_and_the_nearest_keys() -> None:
    with pytest.raises(ModelError) as caught:
        recognise({"head.weight": torch.rand(4, 3, 3, 3), "bodies.0.weight": torch.rand(4)}, where="x.pth")

    message = str(caught.value)
    assert "x.pth" in message
    assert "bodies.0.weight (4,)" in message
    assert all(arch.name in message for arch in ARCHS)


def test_weights_without_a_scale_ask_for_it_and_name_the_file() -> None:
    state_dict = SRCNN.build(SrcnnConfig(scale=3)).state_dict()

    assert recognise(state_dict, 3).config.scale == 3
    with pytest.raises(ModelError, match=r"old\.pth.*--scale"):
        recognise(state_dict, where="old.pth")


def test_the_nearest_architecture_is_told_with_what_does_not_fit() -> None:
    state_dict = dict(COMPACT.build(CompactConfig(num_feat=8, num_conv=2)).state_dict())
    state_dict["attention.weight"] = torch.rand(8)
    del state_dict["body.2.bias"]

    with pytest.raises(ModelError, match=r"as compact, no body\.2\.bias, attention\.weight besides"):
        recognise(state_dict)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_shapes_that_make_no_sense_are_a_model_error() -> None:
    for shape in ((0,), (3, 0, 3, 3), (5, 7, 3, 3), (1, 1, 1, 1, 1)):
        for arch in ARCHS:
            with pytest.raises(ModelError):
                recognise({arch.first_key: torch.zeros(shape)}, 2)


def looped() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["params"] = content
    return content


@pytest.mark.parametrize(
    "content",
    [
        looped(),
        {"body.0.weight": torch.zeros(1).expand(1 << 40)},
        {"body.0.weight": torch.zeros(1, dtype=torch.half).expand(1 << 40)},
        {"body.0.weight": torch.zeros(4, 4, device="meta")},
        {"body.0.weight": torch.eye(4).to_sparse()},
    ],
    ids=["looped", "expanded", "expanded half", "meta", "sparse"],
)
def test_odd_contents_are_model_errors_that_name_the_file(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")

    with pytest.raises(ModelError, match=r"odd\.pth"):
        read_weights(tmp_path / "odd.pth")


def test_compressed_archives_are_not_inflated(tmp_path: Path) -> None:
    torch.save({"body.0.weight": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))

    with pytest.raises(ModelError, match="compressed"):
        read_weights(tmp_path / "bomb.pth")


def test_what_would_run_is_named_and_nobody_is_told_how_to_run_it(tmp_path: Path) -> None:
    torch.save({"params": TENSORS, "hook": Attack()}, tmp_path / "evil.pth")

    with pytest.raises(ModelError) as caught:
        read_weights(tmp_path / "evil.pth")
    assert "print" in caught.value.got
    assert "weights_only" not in str(caught.value)


def test_files_without_tensors_say_what_they_hold(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {"state": {}}}, tmp_path / "bare.pth")

    with pytest.raises(ModelError, match=r"got epoch \(int\), optimizer \(dict\)"):
        read_weights(tmp_path / "bare.pth")


@pytest.mark.parametrize("wrapper", ["net_g", "netG", "model_ema", "ema", "weights", "model_state_dict"])
def test_weights_are_found_below_the_names_that_trainers_use(wrapper: str, tmp_path: Path) -> None:
    torch.save({"params_ema": {}, wrapper: TENSORS, "optimizer": {}}, tmp_path / "w.pth")

    assert list(read_weights(tmp_path / "w.pth")[0]) == list(TENSORS)


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net_g.",
        "generator.",
        "model.net_g.",
    ],
)
@pytest.mark.parametrize("arch", [COMPACT, EDSR, RRDB], ids=lambda arch: arch.name)
def test_what_frameworks_put_before_keys_is_looked_through(arch: Arch, prefix: str, tmp_path: Path) -> None:
    small = {"compact": {"num_feat": 8}, "edsr": {"num_feat": 8}, "rrdb": {"num_feat": 8, "num_blocks": 1}}
    config = arch.config(**small[arch.name])
    own = arch.build(config).state_dict()
    beside = {"discriminator.conv.weight": torch.rand(4, 3, 3, 3), "n_averaged": torch.tensor(3)}
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in own.items()} | beside}, tmp_path / "w.pth")

    found = recognise(read_weights(tmp_path / "w.pth")[0])

    assert (found.arch, found.config) == (arch, config)


def test_weights_that_are_no_fractions_are_not_recognised() -> None:
    state_dict = COMPACT.build(CompactConfig(num_feat=8, num_conv=1)).state_dict()
    whole = {key: value.to(torch.int8) for key, value in state_dict.items()}

    with pytest.raises(ModelError, match=r"torch\.int8"):
        recognise(whole)


def packed(arch: Arch, config: Any, path: Path) -> Path:
    path.write_bytes(pack_weights(arch.build(config), arch, config))
    return path


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        (FSRCNN, FsrcnnConfig(scale=3, signal=Signal.YCBCR)),
        (ESPCN, EspcnConfig((16, 8), 2, Signal.LUMA, has_sigmoid=True)),
        (EDSR, EdsrConfig(num_feat=8, num_blocks=1, value_range=1.0)),
    ],
)
def test_what_no_shape_tells_is_kept_with_packed_weights(arch: Arch, config: Any, tmp_path: Path) -> None:
    path = packed(arch, config, tmp_path / "w.safetensors")

    told = told_network(path)
    assert recognise(read_weights(path)[0], told=told).config == config
    assert load_model(str(path)).facts == arch.facts(config)
    with pytest.raises(ModelError, match="another scale"):
        load_model(str(path), 7)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ('{"arch": "none", "config": {}}', "not known here"),
        ('{"arch": "compact", "config": {"num_feat": 12}}', "not what their file tells"),
        ('{"arch": "compact", "config": {"num_conv": 1000000000}}', "not what their file tells"),
        ('{"arch": "compact", "config": {"num_feat": "many"}}', "not what their file tells"),
        ('{"arch": "compact"}', "cannot be understood"),
        ("[", "cannot be understood"),
    ],
)
def test_what_a_file_tells_wrongly_is_a_model_error(told: str, message: str, tmp_path: Path) -> None:
    tensors = COMPACT.build(CompactConfig(num_feat=8, num_conv=1)).state_dict()
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors", {"framelift": told})

    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "w.safetensors"))


def test_equal_weights_are_packed_into_equal_bytes() -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    network = COMPACT.build(config)
    packed = {pack_weights(network, COMPACT, config) for _ in range(20)}

    assert len(packed) == 1
    assert safetensors.torch.load(packed.pop()).keys() == network.state_dict().keys()
