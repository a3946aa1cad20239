"""Weights files that lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch

from cluster.job import BlendRef, Job, ModelRef
from cluster.storage import open_storage
from cluster.storage.address import split_url
from cluster.weights import model_at, opened_weights, shared_weights
from jobs.models import find_model
from sr_core.archs.compact import Compact, CompactConfig
from sr_core.blend import Blend, blend_sha256
from sr_core.errors import ModelError
from sr_core.model import load_model
from tests.stores.s3_server import credentials, new_bucket, s3_server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with credentials(), s3_server() as endpoint_url:
        yield f"s3://{new_bucket(endpoint_url)}/PLACE?endpoint_url={endpoint_url}"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), path)
    return path


def test_weights_in_a_bucket_are_the_same_model(bucket: str, weights: Path) -> None:
    url = bucket.replace("PLACE", "models/tiny.safetensors")
    store_url, key = split_url(url)
    open_storage(store_url).put(key, weights.read_bytes())
    found = find_model(url)
    assert (found.path, found.sha256) == (url, find_model(str(weights)).sha256)
    with opened_weights(url) as path:
        assert load_model(path).weights_sha256 == found.sha256
    assert not Path(path).exists()


def test_weights_that_are_not_there_or_damaged_are_told_with_their_address(bucket: str) -> None:
    url = bucket.replace("PLACE", "models/none.pth")
    with pytest.raises(ModelError, match="no such weights file") as caught:
        find_model(url)
    assert caught.value.where == url
    store_url, key = split_url(url)
    open_storage(store_url).put(key, b"no weights")
    with pytest.raises(ModelError, match="Not a weights file") as caught:
        find_model(url)
    assert caught.value.where == url


@pytest.mark.parametrize("is_local", [True, False])
def test_weights_of_this_machine_are_put_beside_the_state_once(
    bucket: str, weights: Path, tmp_path: Path, is_local: bool
) -> None:
    output_url = str(tmp_path / "out") if is_local else bucket.replace("PLACE", "out")
    model = find_model(str(weights))
    shared = shared_weights(model, output_url)
    assert shared.path is not None
    assert shared == replace(model, path=shared.path)
    assert Job(shared).id == Job(model).id
    stored = list(open_storage(output_url).list())
    assert [info.key for info in stored] == [f".framelift/weights/{model.sha256}.safetensors"]
    with opened_weights(shared.path) as path:
        assert Path(path).read_bytes() == weights.read_bytes()
    assert shared_weights(model, output_url) == shared
    assert list(open_storage(output_url).list()) == stored


def test_weights_that_change_meanwhile_are_not_shared(weights: Path, tmp_path: Path) -> None:
    model = find_model(str(weights))
    weights.write_bytes(b"something else")
    with pytest.raises(ModelError, match="changed"):
        shared_weights(model, str(tmp_path / "out"))


def test_models_without_weights_and_those_in_buckets_are_seen_by_all_as_they_are(tmp_path: Path) -> None:
    for model in (ModelRef("lanczos"), ModelRef("x", "s3://bucket/x.pth", "0" * 64)):
        assert shared_weights(model, str(tmp_path / "out")) == model
    assert not (tmp_path / "out").exists()


@pytest.fixture
def others(tmp_path: Path) -> Path:
    path = tmp_path / "others.safetensors"
    safetensors.torch.save_file(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), path)
    return path


def test_a_job_is_named_by_both_weights_of_a_blend_and_the_strength(weights: Path, others: Path) -> None:
    plain = find_model(str(weights))
    ends = str(weights), str(others)
    found = [find_model(ends[0], None, Blend(ends[1], strength)) for strength in (0.0, 0.5, 0.6)]
    found.append(find_model(ends[1], None, Blend(ends[0], 0.5)))
    assert len({Job(model).id for model in (plain, *found)}) == 5
    assert Job(found[1]).id == Job(find_model(ends[0], 2, Blend(ends[1], 0.5))).id
    other = found[2].blended_with
    assert other == BlendRef(ends[1], find_model(ends[1]).sha256 or "", 0.6)
    assert found[2].weights_sha256 == blend_sha256(plain.sha256 or "", other.sha256, 0.6)
    assert found[2].weights_sha256 == model_at(ends[0], 2, Blend(ends[1], 0.6)).weights_sha256


def test_both_weights_of_a_blend_are_shared(weights: Path, others: Path, tmp_path: Path) -> None:
    output_url = str(tmp_path / "out")
    model = find_model(str(weights), None, Blend(str(others), 0.6))
    shared = shared_weights(model, output_url)
    assert shared.path is not None
    assert shared.blended_with is not None
    assert Path(shared.path).read_bytes() == weights.read_bytes()
    assert Path(shared.blended_with.path).read_bytes() == others.read_bytes()
    assert len(list(open_storage(output_url).list())) == 2
    assert Job(shared).id == Job(model).id
    assert model_at(shared.path, 2, shared.blend).weights_sha256 == model.weights_sha256


def test_weights_in_a_bucket_are_blended_and_errors_say_where_they_lie(
    bucket: str, weights: Path, others: Path
) -> None:
    url = bucket.replace("PLACE", "models/others.safetensors")
    store_url, key = split_url(url)
    open_storage(store_url).put(key, others.read_bytes())
    found = find_model(str(weights), None, Blend(url, 0.25))
    assert found.weights_sha256 == find_model(str(weights), None, Blend(str(others), 0.25)).weights_sha256
    assert found.blended_with is not None
    assert found.blended_with.path == url

    larger = Compact(CompactConfig(num_feat=6, num_conv=1, scale=2)).state_dict()
    open_storage(store_url).put(key, safetensors.torch.save(larger))
    with pytest.raises(ModelError, match="got num_feat 6; expected num_feat 4") as caught:
        find_model(str(weights), None, Blend(url, 0.25))
    assert caught.value.where == url
