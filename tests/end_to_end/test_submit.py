"""Jobs that a Ray cluster runs by itself: a real head with its dashboard, and the command line before it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
import safetensors.torch
import yaml

import jobs.models
import jobs.submit
from jobs.load import load_spec
from jobs.sample import SAMPLE
from jobs.submit import pack
from sr_core.archs.compact import Compact, CompactConfig
from sr_core.errors import ModelError, SpecError
from tests.end_to_end.conftest import Framelift, receipts, sha256s
from tests.end_to_end.ray_head import RAY, RayHead, ray_head

_STEP_S = 0.1
_QUICK = ("--preset", "ultrafast", "--workers", "1")
_SLOW = (
    "--model",
    "lanczos",
    "--scale",
    "4",
    "--segment-seconds",
    "0.5",
    "--preset",
    "slower",
    "--workers",
    "1",
)

_EVERY_SECTION = """
input: s3://films/in
output: /mnt/films/out 2
model: /models/fidelity.pth
blend: {model: s3://models/gan.pth, strength: 0.6}
height: 720
video: {codec: av1, preset: 8, quality: 21}
image: {format: webp, quality: lossless}
sequences: {frame_rate: 24000/1001}
engine: {precision: fp32, tile_px: 128, batch_size: 2}
segments: {seconds: 3.5}
workers: {device: cpu, count: 3, cpus: 0.5}
retries: {max_attempts: 2, again: true}
policies: {deinterlace: field, strict: true}
storage: {endpoint_url: "http://store:9000", region: "0"}
overwrite: true
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as running:
        yield running


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(SAMPLE.read_bytes())
    return path


@pytest.fixture
def films(clip: Path) -> Path:
    """A folder that a fast machine, too, is long at: of the films, `clip.mp4` comes first."""
    for number in range(9):
        clip.with_name(f"later-{number}.mp4").write_bytes(clip.read_bytes())
    return clip.parent


@pytest.fixture(autouse=True)
def _no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of clusters is not for these."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def ray_job(head: RayHead, *arguments: str, cwd: Path | None = None) -> str:
    """What Ray's own `ray job` prints."""
    command, *rest = arguments
    done = subprocess.run(
        [RAY, "job", command, "--address", head.address, *rest],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Following:
    """`framelift submit` in the background, with what it prints in a file."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._printed = folder / "printed.txt"
        with self._printed.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from jobs.cli import main; main()",
                    "submit",
                    *map(str, arguments),
                ],
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    def wait(self, exit_code: int) -> str:
        """What it printed, when it has ended."""
        assert self.process.wait(timeout=200) == exit_code, self.printed
        return self.printed


def until(is_time: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Waits for something that happens while `process` runs."""
    deadline_s = time.monotonic() + 200
    while not is_time():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(_STEP_S)


@pytest.mark.slow
def test_a_submitted_job_gives_the_bytes_of_a_local_one_and_shows_its_log(
    framelift: Framelift, head: RayHead, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secrets.token_hex(16)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")  # the flag counts, not this
    out = framelift.folder / "out"
    (framelift.folder / "job.yaml").write_text(f"input: {clip.parent}\noutput: {out}\nscale: 2\n")
    name = f"job-{secrets.token_hex(3)}"
    said = framelift(
        *("submit", "job.yaml", "--address", head.address, "--submission-id", name, "--scale", "3", *_QUICK)
    )
    assert f"submitted as {name}" in said
    assert f"ray job stop {name} --address {head.address}" in said
    assert "72/72 frames" in said
    assert "1 done; 72 frames" in said
    monkeypatch.delenv("RAY_ADDRESS")
    framelift("upscale", clip.parent, framelift.folder / "local", "--scale", "3", *_QUICK)
    assert sha256s(out) == sha256s(framelift.folder / "local")
    with urllib.request.urlopen(f"{head.address}/api/jobs/{name}") as answer:
        told = json.load(answer)
    assert [key for key in told["runtime_env"] if not key.startswith("_")] == ["working_dir"]
    kept = [path for path in (head.folder / "ray").rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_failing_input_gives_exit_code_3(framelift: Framelift, head: RayHead, clip: Path) -> None:
    clip.with_name("broken.mp4").write_bytes(b"this is no film")
    said = framelift(
        *("submit", clip.parent, framelift.folder / "out", "--address", head.address, *_QUICK), exit_code=3
    )
    assert "broken.mp4" in said
    assert (framelift.folder / "out" / "clip.mp4").exists()


@pytest.mark.slow
def test_inputs_are_looked_for_on_the_cluster_alone(framelift: Framelift, head: RayHead) -> None:
    said = framelift("submit", "/no/such/film.mp4", "/no/out.mp4", "--address", head.address, exit_code=2)
    assert said.index("submitted as") < said.index("/no/such/film.mp4: ")


@pytest.mark.slow
def test_a_stopped_job_ends_in_order_and_goes_on_when_it_is_submitted_again(
    framelift: Framelift, head: RayHead, films: Path
) -> None:
    out = framelift.folder / "out"
    arguments = (films, out, "--address", head.address, *_SLOW)
    first = f"first-{secrets.token_hex(3)}"
    following = Following(framelift.folder, *arguments, "--submission-id", first)
    until(lambda: len(receipts(out)) >= 1, following.process)
    ray_job(head, "stop", first)
    assert "the job was stopped" in following.wait(130)
    states = [json.loads(path.read_text())["state"] for path in (out / ".framelift" / "runs").iterdir()]
    assert states == ["stopped"], "it was told to end, and said so"
    before = receipts(out)
    assert len(before) < 60, "there is something left to do"

    said = framelift("submit", *arguments, "--no-wait")
    assert "submitted as framelift-" in said
    assert "frames" not in said
    until((out / "clip.mp4").exists)
    assert before.items() <= receipts(out).items(), "a segment that was committed was computed again"
    ray_job(head, "stop", said.partition("submitted as ")[2].split()[0])


@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_and_its_name_taken(
    framelift: Framelift, head: RayHead, films: Path
) -> None:
    out = framelift.folder / "out"
    name = f"job-{secrets.token_hex(3)}"
    arguments = (films, out, "--address", head.address, *_SLOW, "--submission-id", name)
    following = Following(framelift.folder, *arguments)
    until(lambda: "starting: " in following.printed, following.process)
    following.process.send_signal(signal.SIGINT)
    said = following.wait(130)
    assert f"the job goes on. To stop it: ray job stop {name} --address {head.address}" in said
    until(lambda: len(receipts(out)) >= 1)
    assert "RUNNING" in ray_job(head, "status", name)
    assert "a job of this name already" in framelift("submit", *arguments, exit_code=2)
    ray_job(head, "stop", name)


@pytest.mark.slow
def test_a_log_is_shown_once_over_connections_that_break(
    framelift: Framelift, head: RayHead, clip: Path
) -> None:
    with Relay(int(head.address.rpartition(":")[2])) as relay:
        following = Following(
            framelift.folder, clip, framelift.folder / "out.mp4", "--address", relay.url, *_SLOW
        )
        until(lambda: "starting: " in following.printed, following.process)
        relay.cut()
        lines = following.wait(0).splitlines()
    assert relay.num_cut >= 1
    for part in ("Running entrypoint", " starting: ", " finished: ", "1 done; 72 frames"):
        assert len([line for line in lines if part in line]) == 1, part


@pytest.mark.slow
def test_local_weights_go_along_and_are_found_by_workers(
    framelift: Framelift, head: RayHead, clip: Path
) -> None:
    weights = tiny_weights(framelift.folder)
    out, local = framelift.folder / "out", framelift.folder / "local"
    options = ("--model", weights.name, *_QUICK)
    framelift("submit", clip.parent, out, "--address", head.address, *options)
    framelift("upscale", clip.parent, local, *options)
    assert sha256s(out) == sha256s(local)
    stored = list((out / ".framelift" / "weights").iterdir())
    assert [path.read_bytes() for path in stored] == [weights.read_bytes()]


@pytest.mark.slow
def test_the_long_form_through_ray_itself_works(framelift: Framelift, head: RayHead, clip: Path) -> None:
    folder, out = framelift.folder / "job", framelift.folder / "out.mp4"
    folder.mkdir()
    weights = tiny_weights(folder)
    spec = {"input": str(clip), "output": str(out), "model": weights.name, "video": {"preset": "ultrafast"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(spec))
    said = ray_job(
        *(head, "submit", "--working-dir", str(folder), "--", "python", "-m", "jobs.upscale", "job.yaml")
    )
    assert "72/72 frames" in said
    with av.open(str(out)) as film:
        assert film.streams.video[0].width == 640


@pytest.mark.slow
def test_a_cluster_without_framelift_is_told(framelift: Framelift, head: RayHead, clip: Path) -> None:
    with head.without_framelift():
        said = framelift(
            *("submit", clip, framelift.folder / "out.mp4", "--address", head.address), exit_code=4
        )
    assert "the cluster lacks Framelift" in said
    assert "install it into the image" in said


@pytest.mark.slow
def test_a_cluster_with_a_token_takes_jobs_from_who_has_it_and_tells_others_how(
    framelift: Framelift, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secrets.token_hex(32)
    arguments = ("submit", clip, framelift.folder / "out.mp4", *_QUICK, "--address")
    (framelift.folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(framelift.folder / "home"))  # where Ray keeps tokens
    with ray_head(token) as head:
        for environment in (
            {"RAY_AUTH_MODE": "disabled"},
            {"RAY_AUTH_MODE": "token"},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/no/such/file"},
        ):
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                said = framelift(*arguments, head.address, exit_code=4)
            assert "the cluster asks for a token" in said, environment
            assert "RAY_AUTH_TOKEN_PATH" in said
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        (framelift.folder / "token").write_text(token)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(framelift.folder / "token"))
        said = framelift(*arguments, head.address)
        assert "1 done; 72 frames" in said
        assert token not in said


def test_every_mistake_is_told_before_a_cluster_is_looked_for(framelift: Framelift) -> None:
    said = framelift(
        "submit", "films", "out", "--address", "head:6379", "--submission-id", "a/b", exit_code=2
    )
    assert "4 mistakes, nothing was run" in said
    for part in (
        "input: got 'films'",
        "output: got 'out'",
        "--address: got 'head:6379'",
        "--submission-id: got",
    ):
        assert part in said


def test_a_password_in_an_address_is_not_repeated(framelift: Framelift) -> None:
    said = framelift("submit", "/in", "/out", "--address", "http://me:hunter2@head:8265", exit_code=2)
    assert "hunter2" not in said
    assert "--address" in said


@pytest.mark.slow
def test_a_cluster_that_is_not_there_or_says_nothing_is_told_within_seconds(framelift: Framelift) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = framelift("submit", "/in", "/out", "--address", address, exit_code=4, timeout_s=30)
        assert "there is no Ray cluster that answers" in said
        assert "timed out" in said
    said = framelift("submit", "/in", "/out", "--address", address, exit_code=4, timeout_s=30)
    assert "Connection refused" in said


def test_a_packed_spec_asks_for_the_same(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(_EVERY_SECTION)
    spec = load_spec(path)
    (tmp_path / "packed").mkdir()
    pack(spec, tmp_path / "packed")
    assert [file.name for file in (tmp_path / "packed").iterdir()] == ["job.yaml"]
    assert load_spec(tmp_path / "packed" / "job.yaml") == spec


def test_equal_specs_with_equal_weights_are_packed_equally(tmp_path: Path) -> None:
    packed = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        weights = tiny_weights(tmp_path / name)
        spec_path = tmp_path / name / "given.yaml"
        spec_path.write_text(f"input: /in\noutput: /out\nmodel: {weights}\n")
        folder = tmp_path / name / "packed"
        folder.mkdir()
        pack(load_spec(spec_path), folder)
        packed.append(sha256s(folder))
    assert packed[0] == packed[1]
    assert len(packed[0]) == 2


@pytest.mark.parametrize(("asked", "taken"), [("", "fast-x2"), ("scale: 4\n", "lanczos")])
def test_the_model_is_chosen_where_the_job_is_submitted(
    asked: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (jobs.models, jobs.submit):
        monkeypatch.setattr(module, "BUNDLED", {"fast-x2": tiny_weights(tmp_path)})
    (tmp_path / "given.yaml").write_text(f"input: /in\noutput: /out\n{asked}")
    sent: list[tuple[list[str], str]] = []

    def send(client: object, address: str, name: str, folder: str) -> None:
        names = [path.name for path in Path(folder).iterdir()]
        sent.append((names, load_spec(Path(folder) / "job.yaml").model))

    monkeypatch.setattr(jobs.submit, "_connect", lambda address: None)
    monkeypatch.setattr(jobs.submit, "_send", send)
    assert jobs.submit.submit(load_spec(tmp_path / "given.yaml"), "http://head:8265", wait=False) == 0
    assert sent == [(["job.yaml"], taken)]


def test_both_weights_of_a_blend_are_packed(tmp_path: Path) -> None:
    weights = [tiny_weights(tmp_path), tmp_path / "other.safetensors"]
    state = safetensors.torch.load_file(weights[0])
    safetensors.torch.save_file({name: 2 * value for name, value in state.items()}, weights[1])
    spec_path, folder = tmp_path / "given.yaml", tmp_path / "packed"
    blend = f"{{model: {weights[1]}, strength: 0.25}}"
    spec_path.write_text(f"input: /in\noutput: /out\nmodel: {weights[0]}\nblend: {blend}\n")
    folder.mkdir()
    pack(load_spec(spec_path), folder)
    packed = load_spec(folder / "job.yaml")
    assert packed.blend.model is not None
    assert packed.blend.strength == 0.25
    for path, name in zip(weights, (packed.model, packed.blend.model), strict=True):
        assert (folder / name).read_bytes() == path.read_bytes()
        assert Path(name).stem == hashlib.sha256(path.read_bytes()).hexdigest()

    safetensors.torch.save_file(Compact(CompactConfig(num_feat=4, scale=2)).state_dict(), weights[1])
    with pytest.raises(ModelError, match="one network can be blended"):
        pack(load_spec(spec_path), tmp_path)


def test_weights_that_ray_would_not_take_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights(tmp_path)
    monkeypatch.setattr(jobs.submit, "MAX_WEIGHTS_BYTES", weights.stat().st_size - 1)
    spec_path = tmp_path / "given.yaml"
    spec_path.write_text(f"input: /in\noutput: /out\nmodel: {weights}\n")
    with pytest.raises(SpecError, match=r"too large to be uploaded.*s3://"):
        pack(load_spec(spec_path), tmp_path)


def tiny_weights(folder: Path) -> Path:
    """Those of a network of a few numbers that doubles, the same ones every time."""
    path = folder / "tiny.safetensors"
    state = Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict()
    for index, (name, value) in enumerate(state.items()):
        state[name] = ((value * 0 + index).cumsum(0) % 5 - 2) / 50
    safetensors.torch.save_file(state, path)
    return path


class Relay:
    """Passes connections on to a port of this machine, and breaks them all on request.

    Attributes:
        num_cut: Connections that were broken so far.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.num_cut = 0

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Breaks all connections; new ones may come."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # its other side was faster
                    connection.shutdown(socket.SHUT_RDWR)
            self.num_cut += len(self._open) // 2
            self._open.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._open.update((client, server))
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        source.close()
        with self._lock:
            self._open.discard(source)
