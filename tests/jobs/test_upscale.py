from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import safetensors.torch
from PIL import Image

import jobs.models
import jobs.upscale
from cluster.driver import Driver
from cluster.inputs import InputSet
from cluster.job import Job
from cluster.machines import WorkerRequest, WorkerSettings
from cluster.pool import WorkerPool
from cluster.report import FileOutcome, JobReport, Snapshot
from cluster.request import Request
from cluster.sight import Sight
from cluster.storage import open_storage
from cluster.worker import Worker
from jobs.models import find_model
from jobs.sample import SAMPLE
from jobs.spec import RetriesSpec, UpscaleSpec
from jobs.upscale import request_of, upscale
from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.errors import ModelError, SpecError
from sr_core.weights import pack_weights
from tests.cluster.inline import InlineExecutor
from tests.jobs.test_view import SNAPSHOT


def spec(tmp_path: Path, output: str = "out", model: str = "lanczos") -> UpscaleSpec:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    (folder / "clip.mp4").write_bytes(SAMPLE.read_bytes())
    return UpscaleSpec(input=str(folder), output=str(tmp_path / output), model=model)


def test_job_goes_to_the_cluster_once_and_its_report_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[Request, InputSet]] = []

    def run(
        request: Request, inputs: InputSet, workers: WorkerRequest, watch: Callable[[Snapshot], None]
    ) -> JobReport:
        seen.append((request, inputs))
        watch(SNAPSHOT)
        bad = FileOutcome("clip.mp4", "clip.mp4", "failed", reason="it is empty")
        return JobReport("j", "r", 0.0, 1.0, (bad,))

    monkeypatch.setattr(jobs.upscale, "_run", run)
    assert upscale(spec(tmp_path)) == 3
    assert [input_.source.key for input_ in seen[0][1].inputs] == ["clip.mp4"]
    captured = capsys.readouterr()
    assert "7/10 files" in captured.err
    assert "it is empty" in captured.out
    assert "report.json" in captured.out


def test_the_model_that_is_taken_is_told_before_the_work_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []

    def run(request: Request, *_: object) -> JobReport:
        said.append(capsys.readouterr().err)
        return JobReport("j", request.job.model.name, 0.0, 1.0, ())

    monkeypatch.setattr(jobs.upscale, "_run", run)
    monkeypatch.setattr(jobs.models, "BUNDLED", {"fast-x2": tiny(tmp_path)})
    assert upscale(spec(tmp_path, model="auto")) == 0
    line = "model: fast-x2 (none is named: this one is bundled; 'framelift models' lists others)\n"
    assert said == [line]
    assert line in capsys.readouterr().out


def test_what_lanczos_made_before_is_not_mixed_with_what_the_default_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.radial_gradient("L").resize((24, 16)).save(folder / "a.png")
    monkeypatch.setattr(jobs.upscale, "_run", run_inline)
    monkeypatch.setattr(jobs.models, "BUNDLED", {"fast-x2": tiny(tmp_path)})
    lanczos = UpscaleSpec(input=str(folder), output=str(out), model="lanczos")
    assert upscale(lanczos) == 0
    before = (out / "a.png").read_bytes()
    Image.radial_gradient("L").resize((24, 16)).save(folder / "b.png")

    default = lanczos.model_copy(update={"model": "auto"})
    with pytest.raises(SpecError, match=r"a\.png") as refused:
        upscale(default)
    assert "--overwrite" in refused.value.next_step
    assert ((out / "a.png").read_bytes(), (out / "b.png").exists()) == (before, False)

    assert upscale(lanczos) == 0
    made = (out / "b.png").read_bytes()
    assert made == before
    assert upscale(default.model_copy(update={"overwrite": True})) == 0
    assert (out / "a.png").read_bytes() == (out / "b.png").read_bytes() != before


def run_inline(
    request: Request, inputs: InputSet, workers: WorkerRequest, on_snapshot: Callable[[Snapshot], None]
) -> JobReport:
    """The driver with a real worker in this process."""

    def make_pool(sights: Sequence[Sight]) -> WorkerPool:
        return WorkerPool(InlineExecutor(lambda: Worker("cpu", 1)), WorkerSettings(1))

    return Driver(request, inputs, open_storage(inputs.output_url), make_pool, on_snapshot).run()


def tiny(folder: Path) -> Path:
    """Weights of a network of luma that doubles."""
    config = CompactConfig(num_channels=1, num_feat=4, num_conv=1, scale=2)
    path = folder / "tiny.safetensors"
    path.write_bytes(pack_weights(Compact(config), COMPACT, config))
    return path


def test_output_inside_the_input_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(jobs.upscale, "_run")
    with pytest.raises(SpecError, match="inside the input"):
        upscale(spec(tmp_path, output="in/out"))


def test_request_carries_retries_and_overwrite(tmp_path: Path) -> None:
    asked = spec(tmp_path).model_copy(update={"overwrite": True, "retries": RetriesSpec(7, again=True)})
    request = request_of(asked)
    assert (request.overwrite, request.again, request.retry.max_attempts) == (True, True, 7)


def test_models_by_name_have_no_weights() -> None:
    model = find_model("bicubic")
    assert (model.name, model.path, model.sha256) == ("bicubic", None, None)


def test_models_by_file_have_an_absolute_path_and_the_hash_of_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), weights)
    model = find_model("tiny.safetensors")
    assert model.path == str(weights)
    assert model.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_unknown_model_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'lanczos'"):
        request_of(spec(tmp_path, model="lanzcos"))


@pytest.mark.parametrize("is_cluster", [True, False])
def test_workers_of_a_cluster_get_weights_that_all_of_them_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cluster: bool
) -> None:
    weights = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), weights)
    jobs_run: list[Job] = []

    def run(request: Request, *_: object) -> JobReport:
        jobs_run.append(request.job)
        return JobReport("j", "r", 0.0, 1.0, ())

    monkeypatch.setattr(jobs.upscale, "_run", run)
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379" if is_cluster else "")
    assert upscale(spec(tmp_path, model=str(weights))) == 0
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    shared = tmp_path / f"out/.framelift/weights/{sha256}.safetensors"
    assert jobs_run[0].model.path == str(shared if is_cluster else weights)
    assert shared.exists() is is_cluster
