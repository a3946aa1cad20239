import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sr_core.archs import ARCHS
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.archs.srcnn import SRCNN, SrcnnConfig
from sr_core.errors import ModelError
from sr_core.weights import read_weights, recognise

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
