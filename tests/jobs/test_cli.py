from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobs.clean
import jobs.models
import jobs.plan
import jobs.preview
import jobs.status
import jobs.submit
import jobs.upscale
from jobs.cli import error_block, main
from jobs.flags import FLAGS
from jobs.schema import schema_text, spec_schema
from jobs.spec import UpscaleSpec
from sr_core.errors import FrameliftError, ModelError, OutputError, SpecError, StorageError, WorkerError

ROOT = Path(jobs.upscale.__file__).parent.parent


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[UpscaleSpec]:
    """What `upscale` was called with; nothing is run."""
    found: list[UpscaleSpec] = []

    def upscale(spec: UpscaleSpec) -> int:
        found.append(spec)
        return 3

    monkeypatch.setattr(jobs.upscale, "upscale", upscale)
    return found


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_help_costs_less_than_a_third_of_a_second() -> None:
    """Of a core's time: how long it takes is also up to what else the machine does."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "upscale" in python("-c", "from jobs.cli import main; main(['--help'])").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.3


def test_help_imports_nothing_big() -> None:
    code = (
        "import sys\nfrom jobs.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'av', 'pydantic', 'numpy', 'rich', 'yaml'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["upscale", "plan", "submit"])
def test_every_flag_says_its_key_in_a_spec(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert [flag.key for flag in FLAGS if f"[{flag.key}]" not in text] == []


def test_every_flag_stands_for_a_key_that_there_is() -> None:
    schema = spec_schema()
    sections = {
        name: schema["$defs"][key["$ref"].rpartition("/")[2]]
        for name, key in schema["properties"].items()
        if "$ref" in key
    }
    for flag in FLAGS:
        section, _, leaf = flag.key.rpartition(".")
        assert leaf in (sections[section] if section else schema)["properties"]


def test_flags_become_a_spec(specs: list[UpscaleSpec]) -> None:
    flags = "--model m.pth --scale 3 --workers 2 --device cpu --codec av1 --preset 6 --quality 20 "
    flags += "--image-format webp --image-quality 90 --deinterlace field "
    flags += "--container mkv --precision bf16 --tile 128 --batch 4 --segment-seconds 5 --strict --overwrite "
    flags += "--endpoint-url http://minio:9000 --region here --blend gan.pth --strength 0.6 "
    assert run("upscale", "in", "out", *flags.split(), "--retry-failed") == 3
    spec = specs[0]
    assert (spec.input, spec.output, spec.model, spec.scale) == ("in", "out", "m.pth", 3)
    assert (spec.blend.model, spec.blend.strength) == ("gan.pth", 0.6)
    video = spec.video
    assert (video.codec, video.preset, video.quality, video.container) == ("av1", "6", 20, "mkv")
    assert (spec.image.format, spec.image.quality) == ("webp", 90)
    assert spec.policies.deinterlace == "field"
    assert (spec.workers.count, spec.workers.device) == (2, "cpu")
    assert (spec.engine.precision, spec.engine.tile_px, spec.engine.batch_size) == ("bf16", 128, 4)
    assert (spec.segments.seconds, spec.policies.strict, spec.overwrite) == (5, True, True)
    assert spec.retries.again
    assert (spec.storage.endpoint_url, spec.storage.region) == ("http://minio:9000", "here")


def test_commands_on_an_output_take_the_same_flags_of_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs.status, "status", lambda *given, **options: called.append((given, options)) or 0)
    monkeypatch.setattr(jobs.clean, "clean", lambda *given, **options: called.append((given, options)) or 0)
    store = ("--endpoint-url", "http://minio:9000", "--region", "here")
    assert run("status", "s3://bucket/out", *store, "--json") == 0
    assert run("clean", "s3://bucket/out", *store, "--older-than", "2", "--dry-run") == 0
    assert run("clean", "out") == 0
    url = "s3://bucket/out?endpoint_url=http://minio:9000&region=here"
    assert called == [
        ((url,), {"as_json": True}),
        ((url, 7200.0), {"is_dry_run": True, "as_json": False}),
        (("out", 86400.0), {"is_dry_run": False, "as_json": False}),
    ]


def test_submit_takes_the_same_arguments_and_where_the_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs.submit, "submit", lambda *given, **options: called.append((given, options)) or 3)
    where = ("--address", "http://head:8265", "--no-wait", "--submission-id", "mine")
    assert run("submit", "s3://b/in", "/out", "--scale", "4", *where) == 3
    (spec, address), options = called[0]
    assert (spec, address) == (UpscaleSpec(input="s3://b/in", output="/out", scale=4), "http://head:8265")
    assert options == {"wait": False, "submission_id": "mine"}


def test_wrong_flags_of_a_store_are_told_as_a_job_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "s3://bucket/out", "--endpoint-url", "minio") == 2
    assert "--endpoint-url: storage.endpoint_url: got 'minio'" in capsys.readouterr().err
    assert run("clean", "out", "--older-than", "-1") == 2


def test_flags_beside_a_spec_file_replace_its_keys(specs: list[UpscaleSpec], tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("input: in\noutput: out\nheight: 720\noverwrite: true\npolicies: {strict: true}\n")
    assert run("upscale", str(path), "--height", "1080", "--no-overwrite") == 3
    assert (specs[0].height, specs[0].overwrite, specs[0].policies.strict) == (1080, False, True)


def test_wrong_spec_exits_with_2_and_lists_all_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("input: in\noutput: out\nscael: 2\n")
    assert run("upscale", str(path), "--codec", "h265") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: 2 mistakes, nothing was run",
        f"  {path}:3: scael: unknown key; did you mean 'scale'?",
        "  --codec: video.codec: got 'h265', expected one of auto, h264, hevc, av1, vp9, ffv1, prores; "
        "did you mean 'hevc'?",
    ]


@pytest.mark.parametrize("targets", [["in"], ["a", "b", "c"], ["job.yaml", "out"]])
def test_targets_that_make_no_sense_exit_with_2(
    targets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("upscale", *targets) == 2
    assert "an input and an output, or one job spec" in capsys.readouterr().err


def test_unknown_flag_and_command_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("upscale", "a", "b", "--codex", "h264") == 2
    assert run("upscal") == 2
    assert "--codex" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("x"), 2),
        (ModelError("x"), 2),
        (StorageError("x"), 4),
        (WorkerError("x"), 4),
        (OutputError("x"), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 4),
    ],
)
def test_each_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def upscale(spec: UpscaleSpec) -> int:
        raise error

    monkeypatch.setattr(jobs.upscale, "upscale", upscale)
    assert run("upscale", "in", "out") == code


def test_unexpected_error_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs.upscale, "upscale", lambda spec: 1 // 0)
    assert run("upscale", "in", "out") == 4
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "ZeroDivisionError" in text


def test_error_is_one_block_with_all_that_it_knows() -> None:
    error = FrameliftError("it is wrong", where="a.mp4", got="b", expected="c", next_step="do d")
    assert error_block(error) == "error: a.mp4: it is wrong\n  got: b\n  expected: c\n  next step: do d"


def test_plan_takes_the_same_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[UpscaleSpec, dict[str, Any]]] = []

    def plan(spec: UpscaleSpec, **options: Any) -> int:
        called.append((spec, options))
        return 0

    monkeypatch.setattr(jobs.plan, "plan", plan)
    assert run("plan", "in", "out", "--scale", "4", "--json") == 0
    assert (called[0][0].scale, called[0][1]) == (4, {"as_json": True})


def test_a_preview_shows_by_default_what_upscale_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(jobs.preview, "preview", lambda *given: called.append(given[1:]) or 0)
    monkeypatch.setattr(jobs.models, "BUNDLED", {"fast-x2": Path("fast-x2.safetensors")})
    assert run("preview", "clip.mp4") == 0
    assert run("preview", "clip.mp4", "--scale", "4") == 0
    assert run("preview", "clip.mp4", "--model", "a.pth", "--model", "b.pth") == 0
    assert [models for models, *_ in called] == [["fast-x2"], ["lanczos"], ["a.pth", "b.pth"]]


def test_schema_and_models_and_sample_are_commands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("schema") == 0
    assert capsys.readouterr().out == schema_text()
    assert run("models") == 0
    assert "lanczos" in capsys.readouterr().out
    assert run("sample", str(tmp_path)) == 0
    assert (tmp_path / "sample.mp4").exists()


def test_module_is_the_long_form_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("input: none\noutput: out\nfoo: 1\n")
    done = python("-m", "jobs.upscale", "job.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "job.yaml:3: foo: unknown key" in done.stderr


def test_no_flag_is_needed(specs: list[UpscaleSpec]) -> None:
    run("upscale", "in", "out")
    assert specs == [UpscaleSpec(input="in", output="out")]


@pytest.mark.parametrize(
    "arguments",
    [("sample", "s3://bucket/x.mp4"), ("conformance", "s3://bucket/x"), ("upscale", "s3://b/job.yaml")],
)
def test_what_must_lie_on_this_machine_is_not_sought_in_a_bucket(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert "lies on this machine" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_output_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "s3://key:secret@bucket/out") == 2
    told = capsys.readouterr().err
    assert told.count("credentials do not belong") == 1
    assert "secret" not in told


@pytest.mark.parametrize(
    "arguments", [["a.mp4", "b.mp4"], ["train.yaml", "--model", "fast-x2"]], ids=["footage", "a model"]
)
def test_what_only_an_adaptation_takes_is_refused_without_adapt(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run("train", *arguments) == 2
    assert "give --adapt" in capsys.readouterr().err
