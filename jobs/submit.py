"""`framelift submit`: a job that a Ray cluster runs by itself, through Ray's job submission.

The cluster gets a folder with the spec and, where the model is a file of this machine, its weights under
their hash. Nothing else of this machine goes there: no environment, no credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.storage.address import is_s3
from jobs.models import Choice, choose_model, find_model, with_model
from jobs.spec import UpscaleSpec
from jobs.view import printable
from sr_core.errors import FrameliftError, SpecError, WorkerError
from sr_core.kernels import Kernel
from sr_core.pretrained import BUNDLED

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

MAX_WEIGHTS_BYTES = 99 * 2**20
"""Of weights that are uploaded: a Ray dashboard takes 100 MiB at once, and the spec needs a little."""

_ENTRYPOINT = "python -m jobs.upscale job.yaml"
_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
_SUBMISSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_CONNECT_TIMEOUT_S = 5.0
_SILENCE_S = 60.0  # a running job tells how far it is every 10 s, so that its connection is dead by then
_GIVE_UP_S = 300.0  # a head node that is replaced answers again before
_RETRY_S = 2.0
_OWN_EXIT_CODES = (0, 2, 3, 4, 130)
_LACKS_FRAMELIFT = re.compile(r"No module named '?(jobs|cluster|sr_core)\b")
# Of Ray's client, which tell of uploads and connections, and advise against files as large as weights are.
_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


def submit(spec: UpscaleSpec, address: str, *, wait: bool = True, submission_id: str | None = None) -> int:
    """Has the cluster at `address` run a job, and shows what the job prints until it ends.

    Inputs are looked for by the job, where they need to be seen.

    Args:
        address: Of the cluster's dashboard, as `http://head:8265`.
        wait: Else it returns as soon as the job is submitted.
        submission_id: Names the job on the cluster.

    Returns:
        The job's exit code; 130 if it was stopped, or if Ctrl-C came, which leaves the job running.

    Raises:
        SpecError: The spec or an argument means nothing on another machine. Nothing was submitted.
        ModelError: The weights cannot be used. Nothing was submitted.
        WorkerError: The cluster does not answer, refuses the job, or cannot run it.
    """
    name = submission_id or f"framelift-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}"
    _check(spec, address, name)
    choice = choose_model(spec)  # here, so that what is told here is what the cluster takes
    with tempfile.TemporaryDirectory(prefix="framelift-") as folder:
        pack(with_model(spec, choice), Path(folder))
        client = _connect(address)
        _send(client, address, name, folder)
    print(_told(spec, choice, address, name), flush=True)
    if not wait:
        return 0
    try:
        details = asyncio.run(Follower(client, name, _print).end())
    except KeyboardInterrupt:
        print(f"\nnot followed any more; the job goes on. To stop it: {_ray_job('stop', name, address)}")
        return 130
    return exit_code_of(details)


def pack(spec: UpscaleSpec, folder: Path) -> None:
    """Writes into `folder` what the job needs of this machine: `job.yaml`, and weights that lie here.

    The model must be named.

    Equal specs with equal weights give equal folders, of which Ray uploads one.

    Raises:
        SpecError: The weights are too large to be uploaded.
        ModelError: They cannot be used.
    """
    spec = _with_packed_weights(spec, folder)
    asked = spec.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
    (folder / "job.yaml").write_text(text, encoding="utf-8")


class Follower:
    """Shows a job's log as it grows, every part once, over connections that break."""

    def __init__(self, client: JobSubmissionClient, submission_id: str, show: Callable[[str], None]) -> None:
        self._client = client
        self._submission_id = submission_id
        self._show = show
        self._num_shown = 0  # characters

    async def end(self) -> JobDetails:
        """How the job ended, once it has, and after its log was shown.

        Raises:
            WorkerError: The cluster has told nothing of it for minutes.
        """
        from ray.exceptions import RayError

        heard_s = time.monotonic()
        while True:
            try:
                await self._show_rest()
                details = self._client.get_job_info(self._submission_id)
                if details.status.is_terminal():
                    return details
                heard_s = time.monotonic()
            except (OSError, RuntimeError, RayError) as error:
                if time.monotonic() - heard_s > _GIVE_UP_S:
                    raise WorkerError(
                        "the cluster tells nothing of the job any more",
                        where=self._submission_id,
                        got=_first_line(error),
                        next_step="it may still run: 'framelift status OUT' tells",
                    ) from error
            await asyncio.sleep(_RETRY_S)

    async def _show_rest(self) -> None:
        """Shows what the log holds beyond what was shown, until it is closed or nothing comes for long."""
        from aiohttp import ClientError

        chunks, num_seen = self._client.tail_job_logs(self._submission_id), 0
        try:
            while (text := await asyncio.wait_for(anext(chunks, None), _SILENCE_S)) is not None:
                num_seen += len(text)  # from the beginning, on every connection
                num_new = max(0, num_seen - self._num_shown)
                self._show(_printable_lines(text[len(text) - num_new :] if num_new < len(text) else text))
                self._num_shown += num_new
        except TimeoutError:
            return
        except ClientError as error:
            raise ConnectionError(_first_line(error)) from error


def exit_code_of(details: JobDetails) -> int:
    """The exit code of a job that has ended.

    Raises:
        WorkerError: It did not end by itself, or never began.
    """
    if details.status == "SUCCEEDED":
        return 0
    if details.status == "STOPPED":
        print("the job was stopped; what is done stays done, the same command goes on from there")
        return 130
    code = details.driver_exit_code
    if code in _OWN_EXIT_CODES:
        return int(code)
    message = details.message or ""
    got = f"exit code {code}" if code is not None else _first_line(message)
    if _LACKS_FRAMELIFT.search(message):
        raise WorkerError(
            "the cluster lacks Framelift",
            where=details.submission_id or "",
            got=got,
            next_step="install it into the image of the head and of every worker, for the Python that "
            "'python' starts there",
        )
    raise WorkerError(
        "the job did not end by itself" if code is not None else "the cluster could not run the job",
        where=details.submission_id or "",
        got=got,
        next_step="submit it again: what is done stays done",
    )


def _check(spec: UpscaleSpec, address: str, submission_id: str) -> None:
    mistakes = [*_path_mistakes(spec)]
    if not _ADDRESS.fullmatch(address):
        got = "a URL with what may be a password" if "@" in address else repr(address)
        mistakes.append(
            f"--address: got {got}, expected that of the cluster's dashboard, as http://head:8265"
        )
    if not _SUBMISSION_ID.fullmatch(submission_id):
        mistakes.append(f"--submission-id: got {submission_id!r}, expected letters, digits, '-' and '_'")
    if mistakes:
        raise SpecError("\n".join(mistakes))


def _path_mistakes(spec: UpscaleSpec) -> Iterator[str]:
    """Of paths that would mean something else in the folder that Ray runs the job in."""
    for key, place in (("input", spec.input), ("output", spec.output)):
        if not is_s3(place) and not Path(place).is_absolute():
            yield f"{key}: got {place!r}, expected s3://… or an absolute path that the whole cluster sees"


def _is_local_file(model: str) -> bool:
    """Whether weights go along. An absolute path that does not exist here may be one of the cluster's."""
    if model in set(Kernel) or model in BUNDLED or is_s3(model):
        return False
    return not Path(model).is_absolute() or Path(model).exists()


def _with_packed_weights(spec: UpscaleSpec, folder: Path) -> UpscaleSpec:
    """`spec` with those of its weights that lie here copied into `folder`, and named relative to it."""
    places = [place for place in (spec.model, spec.blend.model) if place and _is_local_file(place)]
    names = {place: f"weights/{find_model(place, spec.scale).sha256}{Path(place).suffix}" for place in places}
    if len(places) == 2:
        find_model(spec.model, spec.scale, spec.blend_with)  # which refuses what cannot be blended
    _refuse_too_large(names)
    for place, name in names.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(place, folder / name)
    blend = spec.blend
    if blend.model in names:
        blend = replace(blend, model=names[blend.model])
    return spec.model_copy(update={"model": names.get(spec.model, spec.model), "blend": blend})


def _refuse_too_large(places: Collection[str]) -> None:
    num_bytes = sum(Path(place).stat().st_size for place in places)
    if num_bytes > MAX_WEIGHTS_BYTES:
        raise SpecError(
            "the weights are too large to be uploaded with a job",
            where=", ".join(places),
            got=f"{num_bytes / 2**20:.1f} MiB",
            expected=f"at most {MAX_WEIGHTS_BYTES // 2**20} MiB, as a Ray dashboard takes no more",
            next_step="put them into a bucket, and give their s3:// URL as the model",
        )


def _connect(address: str) -> JobSubmissionClient:
    import requests  # which is how Ray's client talks
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for logger in _CHATTY:
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        requests.get(
            f"{address.rstrip('/')}/api/version", timeout=_CONNECT_TIMEOUT_S
        )  # Ray's has no time limit
        with _nothing_else_than(address):
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise _refused(address, error) from error
    except OSError as error:
        raise WorkerError(
            "there is no Ray cluster that answers",
            where=address,
            got=_first_line(_root(error)),
            next_step="check --address: it is the dashboard's, by default with port 8265, and has to be "
            "reachable from here",
        ) from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise WorkerError(
            "what answers there is no Ray cluster's dashboard", where=address, got=_first_line(error)
        ) from error


@contextlib.contextmanager
def _nothing_else_than(address: str) -> Iterator[None]:
    """Keeps Ray from preferring a cluster that the environment names."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _send(client: JobSubmissionClient, address: str, submission_id: str, folder: str) -> None:
    try:
        client.submit_job(
            entrypoint=_ENTRYPOINT, submission_id=submission_id, runtime_env={"working_dir": folder}
        )
    except RuntimeError as error:
        raise _not_taken(address, submission_id, str(error)) from error
    except OSError as error:
        raise WorkerError(
            "the connection broke while the job was submitted",
            where=address,
            got=_first_line(_root(error)),
            next_step=f"see whether it runs: {_ray_job('status', submission_id, address)}",
        ) from error


def _not_taken(address: str, submission_id: str, reason: str) -> FrameliftError:
    if "already exists" in reason:
        return SpecError(
            "the cluster has a job of this name already",
            where="--submission-id",
            got=submission_id,
            next_step="choose another, or leave it out: a job that is submitted again goes on where it was",
        )
    # Of a traceback on the head node, the last line says what went wrong.
    lines = [line.strip() for line in reason.splitlines() if line.strip(" .")]
    return WorkerError("the cluster does not take the job", where=address, got=lines[-1] if lines else "")


def _refused(address: str, error: Exception) -> WorkerError:
    return WorkerError(
        "the cluster asks for a token",
        where=address,
        got=_first_line(error).partition(". ")[0],
        expected="RAY_AUTH_MODE=token in the environment, and the cluster's token in RAY_AUTH_TOKEN, or in "
        "the file that RAY_AUTH_TOKEN_PATH names",
        next_step="ask whoever runs the cluster for the token",
    )


def _told(spec: UpscaleSpec, choice: Choice, address: str, submission_id: str) -> str:
    return "\n".join(
        [
            f"submitted as {submission_id}",
            f"  {printable(str(choice))}",
            f"  follow: {_ray_job('logs', submission_id, address)} --follow",
            f"  stop:   {_ray_job('stop', submission_id, address)}",
            f"  status: {shlex.join(['framelift', 'status', spec.output_url])}",
        ]
    )


def _ray_job(command: str, submission_id: str, address: str) -> str:
    return shlex.join(["ray", "job", command, submission_id, "--address", address])


def _print(text: str) -> None:
    print(text, end="", flush=True)


def _printable_lines(text: str) -> str:
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def _root(error: BaseException) -> BaseException:
    """What an error comes from: the HTTP libraries wrap what the system says several times."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _first_line(problem: object) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__
