from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import jobs
from cluster.job import EngineSettings, Job, ModelRef, Policies, SegmentSettings, VideoSettings
from cluster.machines import WorkerRequest
from cluster.retry import RetryPolicy
from cluster.storage.address import S3Settings
from jobs.load import Given, load_spec, spec_from_flags
from jobs.schema import schema_text, spec_schema
from jobs.spec import BlendSpec, RetriesSpec, UpscaleSpec
from sr_core.blend import Blend
from sr_core.errors import SpecError

EXAMPLES = Path(jobs.__file__).parent / "examples"


def test_job_holds_what_decides_bytes_and_nothing_of_the_machines() -> None:
    spec = UpscaleSpec(
        input="in",
        output="out",
        scale=3,
        video=VideoSettings(codec="hevc"),
        engine=EngineSettings(tile_px=64),
        segments=SegmentSettings(seconds=4),
        policies=Policies(strict=True),
    )
    elsewhere = spec.model_copy(update={"output": "other", "workers": WorkerRequest(count=7)})
    model = ModelRef("lanczos")
    assert spec.job(model) == elsewhere.job(model)
    assert spec.job(model) == Job(
        model,
        scale=3,
        video=spec.video,
        engine=spec.engine,
        segments=spec.segments,
        policies=spec.policies,
    )


def test_how_stores_are_spoken_to_is_said_once_and_is_no_part_of_the_job() -> None:
    plain = UpscaleSpec(input="s3://a/in", output="out", model="s3://b/x.pth?region=there")
    spec = plain.model_copy(update={"storage": S3Settings(endpoint_url="http://minio", region="here")})
    assert spec.input_url == "s3://a/in?endpoint_url=http://minio&region=here"
    assert spec.output_url == "out"
    assert spec.model_url == "s3://b/x.pth?endpoint_url=http://minio&region=there"
    assert spec.job(ModelRef("lanczos")) == plain.job(ModelRef("lanczos"))


def test_retries_of_a_spec_are_a_retry_policy() -> None:
    assert isinstance(RetriesSpec(max_attempts=5), RetryPolicy)


def test_unknown_keys_are_refused_in_python_too() -> None:
    with pytest.raises(ValidationError, match="tile"):
        UpscaleSpec.model_validate({"input": "a", "output": "b", "tile": 3})


def test_example_spec_is_valid_and_names_every_key() -> None:
    path = EXAMPLES / "upscale.yaml"
    assert load_spec(path).model_copy(update={"scale": None}) == UpscaleSpec(input="clips", output="upscaled")
    schema = spec_schema()
    names = [name for part in (schema, *schema["$defs"].values()) for name in part["properties"]]
    text = path.read_text()
    assert [name for name in names if f"{name}:" not in text] == []


def test_exported_schema_is_that_of_the_spec() -> None:
    assert (EXAMPLES / "upscale.schema.json").read_text() == schema_text()


def test_schema_describes_every_key() -> None:
    schema = json.loads(schema_text())
    parts = (schema, *schema["$defs"].values())
    undescribed = [
        name for part in parts for name, key in part["properties"].items() if not key.get("description")
    ]
    assert undescribed == ["seconds"]  # it is described with its section


@pytest.mark.parametrize(
    ("codec", "quality"), [("av1", "lossless"), ("av1", 20.5), ("ffv1", 3.0), ("h264", 60.0)]
)
def test_a_quality_that_the_codec_does_not_have_is_refused_before_any_work(
    codec: str, quality: float | str
) -> None:
    with pytest.raises(ValidationError, match=f"for {codec}"):
        UpscaleSpec.model_validate(
            {"input": "in", "output": "out", "video": {"codec": codec, "quality": quality}}
        )


def spec_of(**flags: str) -> UpscaleSpec:
    given = {
        "input": "in",
        "output": "out",
        **{name.replace("__", "."): text for name, text in flags.items()},
    }
    return spec_from_flags({name: Given(f"--{name}", text) for name, text in given.items()})


def test_a_blend_says_where_the_other_weights_lie_and_their_part() -> None:
    spec = spec_of(model="a.pth", blend__model="s3://bucket/b.pth", blend__strength="1")
    assert spec.blend == BlendSpec("s3://bucket/b.pth", 1.0)
    assert spec.blend_with == Blend("s3://bucket/b.pth", 1.0)
    there = spec.model_copy(update={"storage": S3Settings(endpoint_url="http://store:9000")})
    assert there.blend_with is not None
    assert there.blend_with.path == "s3://bucket/b.pth?endpoint_url=http://store:9000"
    assert spec_of(model="a.pth", blend__model="b.pth").blend_with == Blend("b.pth", 0.5)
    assert spec_of(model="a.pth").blend_with is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"model": "a.pth", "blend__strength": "0.5"}, "--blend.strength: blend.strength: given without"),
        ({"model": "a.pth", "blend__model": "b.pth", "blend__strength": "1.5"}, "a number from 0 to 1"),
        ({"model": "a.pth", "blend__model": "b.pth", "blend__strength": "-1"}, "a number from 0 to 1"),
        ({"model": "a.pth", "blend__model": "bicubic"}, "--blend.model: blend.model: got 'bicubic'"),
        (
            {"model": "bicubic", "blend__model": "b.pth"},
            "--model: model: got 'bicubic', which has no weights",
        ),
        ({"blend__model": "b.pth"}, "--blend.model: blend.model: given without a model"),
        ({"model": "a.pth", "blend__model": "s3://b/b.pth?no=1"}, "--blend.model: "),
    ],
)
def test_what_cannot_be_blended_is_told_before_anything_runs(flags: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(**flags)
    assert said in caught.value.what


def test_a_scale_beside_a_height_is_that_of_weights() -> None:
    both = UpscaleSpec(input="in", output="out", model="fsrcnn.pth", scale=3, height=720)

    assert (both.scale, both.height) == (3, 720)
    with pytest.raises(ValidationError, match="give one of the two"):
        UpscaleSpec(input="in", output="out", model="bicubic", scale=3, height=720)
    with pytest.raises(ValidationError, match="give one of the two"):
        UpscaleSpec(input="in", output="out", scale=2, height=720)
