"""The command line. It imports only what `--help` needs; each command imports its own part."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never, get_type_hints

import typer

from sr_core.errors import FrameliftError, ModelError, SpecError

if TYPE_CHECKING:
    from jobs.spec import UpscaleSpec

app = typer.Typer(
    help="Upscale videos and images with super-resolution networks, on one machine or on a Ray cluster.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich would cost half of what --help may take
    pretty_exceptions_enable=False,
)

Targets = Annotated[
    list[str], typer.Argument(metavar="IN OUT | JOB.yaml", help="Input and output, or a job spec.")
]
Output = Annotated[str, typer.Argument(metavar="OUT", help="The output of a job.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EndpointUrl = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="Of an S3 store other than AWS.")
]
Region = Annotated[str | None, typer.Option("--region", metavar="NAME", help="Of an S3 store.")]


@dataclass(frozen=True)
class Flag:
    """One flag of the commands that take a job.

    Attributes:
        name: As it is typed.
        key: Of the job spec, for whose value it stands.
        metavar: What its value is called; empty for a switch, which has a `--no-` twin.
    """

    name: str
    key: str
    metavar: str
    help: str

    @property
    def parameter(self) -> str:
        """Its name in Python."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def annotation(self) -> Any:
        """What typer is told of it."""
        text = f"{self.help} [{self.key}]"
        if self.metavar:
            return Annotated[str | None, typer.Option(self.name, metavar=self.metavar, help=text)]
        switch = f"{self.name}/--no-{self.name.removeprefix('--')}"
        return Annotated[bool | None, typer.Option(switch, help=text)]


FLAGS = (
    Flag("--model", "model", "NAME|FILE", "A model or a weights file, also s3://."),
    Flag("--scale", "scale", "N", "Output size / input size."),
    Flag("--height", "height", "PX", "Output height in place of a scale."),
    Flag("--workers", "workers.count", "N", "Number of workers, at most."),
    Flag("--device", "workers.device", "NAME", "auto, cpu, cuda."),
    Flag("--codec", "video.codec", "NAME", "auto, h264, hevc, av1, vp9, ffv1, prores."),
    Flag("--preset", "video.preset", "NAME", "Preset of the encoder."),
    Flag("--quality", "video.quality", "N", "CRF, auto, or lossless."),
    Flag("--container", "video.container", "NAME", "auto, mp4, mov, mkv, webm."),
    Flag("--image-format", "image.format", "NAME", "auto, png, jpeg, webp, avif, tiff, bmp, gif."),
    Flag("--image-quality", "image.quality", "N", "1 to 100, auto, or lossless."),
    Flag("--sequence-rate", "sequences.frame_rate", "FPS", "Numbered images become videos of this rate."),
    Flag("--deinterlace", "policies.deinterlace", "HOW", "auto, frame, field, off."),
    Flag("--precision", "engine.precision", "NAME", "auto, fp32, bf16, fp16."),
    Flag("--tile", "engine.tile_px", "PX", "Edge of a tile."),
    Flag("--batch", "engine.batch_size", "N", "Tiles in a batch."),
    Flag("--segment-seconds", "segments.seconds", "S", "Length of segments."),
    Flag("--strict", "policies.strict", "", "Fail damaged sources."),
    Flag("--endpoint-url", "storage.endpoint_url", "URL", "Of an S3 store other than AWS."),
    Flag("--region", "storage.region", "NAME", "Of an S3 store."),
    Flag("--overwrite", "overwrite", "", "Replace outputs of another spec."),
    Flag("--retry-failed", "retries.again", "", "Try again what was set aside."),
)
_SPEC_SUFFIXES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that `argv`, by default of this process, names; exits with its code."""
    app(args=argv, prog_name="framelift")


def _takes_job(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the flags of a job; which it gets as `flags`."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    own = [p.replace(annotation=hints[p.name]) for p in parameters if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            flag.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag.annotation
        )
        for flag in FLAGS
    ]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return command


@app.command("upscale")
@_takes_job
def upscale_command(targets: Targets, **flags: Any) -> None:
    """Upscale videos and images. Each flag is also a key of the job spec, and replaces what the spec says."""

    def body() -> int:
        from jobs.upscale import upscale

        return upscale(_spec_of(targets, flags))

    _exit_with(body)


@app.command("plan")
@_takes_job
def plan_command(targets: Targets, as_json: Json = False, **flags: Any) -> None:
    """Say what `upscale` would do with the same arguments, and how long it would take."""

    def body() -> int:
        from jobs.plan import plan

        return plan(_spec_of(targets, flags), as_json=as_json)

    _exit_with(body)


@app.command("submit")
@_takes_job
def submit_command(
    targets: Targets,
    address: Annotated[
        str, typer.Option("--address", metavar="URL", help="Of the cluster's dashboard, as http://head:8265.")
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show what the job prints until it ends.")
    ] = True,
    submission_id: Annotated[
        str | None, typer.Option("--submission-id", metavar="ID", help="Names the job on the cluster.")
    ] = None,
    **flags: Any,
) -> None:
    """Have a Ray cluster run the job that `upscale` would run with the same arguments."""

    def body() -> int:
        from jobs.submit import submit

        return submit(_spec_of(targets, flags), address, wait=wait, submission_id=submission_id)

    _exit_with(body)


@app.command("status")
def status_command(
    output: Output, endpoint_url: EndpointUrl = None, region: Region = None, as_json: Json = False
) -> None:
    """Say how far the job that writes OUT is, while it runs and after it died."""

    def body() -> int:
        from jobs.status import status

        return status(_output_url(output, endpoint_url, region), as_json=as_json)

    _exit_with(body)


@app.command("clean")
def clean_command(
    output: Output,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Only what runs left that are silent for so long.")
    ] = 24.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what, uploads and scratch aside.")
    ] = False,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Remove what abandoned runs left in OUT; never an output, nor what an unfinished job goes on from."""

    def body() -> int:
        from jobs.clean import clean

        url = _output_url(output, endpoint_url, region)
        return clean(url, older_than * 3600, is_dry_run=dry_run, as_json=as_json)

    _exit_with(body)


@app.command("models")
def models_command() -> None:
    """List the models that go by name."""

    def body() -> int:
        from jobs.models import models

        return models()

    _exit_with(body)


@app.command("sample")
def sample_command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write, or a folder for it.")],
) -> None:
    """Write a short sample clip, to try things on."""

    def body() -> int:
        from jobs.load import refuse_s3
        from jobs.sample import sample

        refuse_s3(str(path), "the sample")
        return sample(path)

    _exit_with(body)


@app.command("conformance")
def conformance_command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where to leave corpus and outputs.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Just this case; may be repeated.")
    ] = None,
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Leave the files; by default those in DIR.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make clips and images of every kind, upscale them, and compare with what must come of it."""

    def body() -> int:
        from jobs.conformance import conformance
        from jobs.load import refuse_s3

        refuse_s3(str(folder), "the corpus")
        return conformance(folder, only or (), keep=keep, as_json=as_json)

    _exit_with(body)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of job specs, for editors."""

    def body() -> int:
        from jobs.schema import schema

        return schema()

    _exit_with(body)


def _spec_of(targets: Sequence[str], params: dict[str, Any]) -> UpscaleSpec:
    from jobs.load import Given, load_spec, spec_from_flags

    flags = {
        flag.key: Given(flag.name, params[flag.parameter])
        for flag in FLAGS
        if params[flag.parameter] is not None
    }
    match targets:
        case [file] if _is_spec(file):
            return load_spec(file, flags)
        case [source, output] if not _is_spec(source):
            places = {"input": Given("IN", source), "output": Given("OUT", output)}
            return spec_from_flags({**places, **flags})
    raise SpecError(
        "these arguments are not understood",
        where="command line",
        got=" ".join(targets),
        expected="an input and an output, or one job spec (.yaml), which names both",
    )


def _output_url(output: str, endpoint_url: str | None, region: str | None) -> str:
    """Where a job's output lies, as a job spec would say it."""
    from jobs.load import Given, spec_from_flags

    given = {"--endpoint-url": endpoint_url, "--region": region}
    keys = {flag.name: flag.key for flag in FLAGS}
    flags = {keys[name]: Given(name, value) for name, value in given.items() if value is not None}
    places = {"input": Given("OUT", "."), "output": Given("OUT", output)}
    return spec_from_flags({**places, **flags}).output_url


def _is_spec(target: str) -> bool:
    return target.lower().endswith(_SPEC_SUFFIXES)


def _exit_with(body: Callable[[], int]) -> Never:
    """Runs a command and exits with its code, or with that of the error that ended it."""
    try:
        code = body()
    except FrameliftError as error:
        print(error_block(error), file=sys.stderr)
        code = 2 if isinstance(error, SpecError | ModelError) else 4
    except KeyboardInterrupt:
        print("interrupted; what is done stays done, the same command goes on from there", file=sys.stderr)
        code = 130
    except Exception:
        traceback.print_exc()
        print("\nThis is a defect in Framelift; please report it with the lines above.", file=sys.stderr)
        code = 4
    raise typer.Exit(code)


def error_block(error: FrameliftError) -> str:
    """An error as a few lines for a person."""
    what = error.what.splitlines() or [type(error).__name__]
    if len(what) > 1:
        return "\n".join([f"error: {len(what)} mistakes, nothing was run", *(f"  {line}" for line in what)])
    facts = {"got": error.got, "expected": error.expected, "next step": error.next_step}
    first = f"error: {error.where}: {what[0]}" if error.where else f"error: {what[0]}"
    return "\n".join([first, *(f"  {name}: {text}" for name, text in facts.items() if text)])
