"""The command line. It imports only what `--help` needs; each command imports its own part."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from sr_core.errors import FrameliftError, ModelError, SpecError

if TYPE_CHECKING:
    from jobs.spec import UpscaleSpec

app = typer.Typer(
    help="Upscale folders of videos with super-resolution networks, on one machine or on a Ray cluster.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich would cost half of what --help may take
    pretty_exceptions_enable=False,
)

Targets = Annotated[
    list[str], typer.Argument(metavar="IN OUT | JOB.yaml", help="Input and output, or a job spec.")
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME|FILE", help="A model or a weights file. [model]")
]
Scale = Annotated[str | None, typer.Option("--scale", metavar="N", help="Output size / input size. [scale]")]
Height = Annotated[
    str | None, typer.Option("--height", metavar="PX", help="Output height in place of a scale. [height]")
]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="N", help="Number of workers. [workers.count]")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda. [workers.device]")
]
Codec = Annotated[
    str | None,
    typer.Option("--codec", metavar="NAME", help="auto, h264, hevc, av1, vp9, ffv1. [video.codec]"),
]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="Preset of the encoder. [video.preset]")
]
Quality = Annotated[
    str | None,
    typer.Option("--quality", metavar="N", help="CRF, auto, or lossless. [video.quality]"),
]
Container = Annotated[
    str | None,
    typer.Option("--container", metavar="NAME", help="auto, mp4, mov, mkv, webm. [video.container]"),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="NAME", help="auto, fp32, bf16, fp16. [engine.precision]"),
]
Tile = Annotated[str | None, typer.Option("--tile", metavar="PX", help="Edge of a tile. [engine.tile_px]")]
Batch = Annotated[
    str | None, typer.Option("--batch", metavar="N", help="Tiles in a batch. [engine.batch_size]")
]
SegmentSeconds = Annotated[
    str | None,
    typer.Option("--segment-seconds", metavar="S", help="Length of segments. [segments.seconds]"),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Fail damaged sources. [policies.strict]"),
]
Overwrite = Annotated[
    bool | None,
    typer.Option("--overwrite/--no-overwrite", help="Replace outputs of another spec. [overwrite]"),
]
RetryFailed = Annotated[
    bool | None,
    typer.Option("--retry-failed/--no-retry-failed", help="Try again what was set aside. [retries.again]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# The key in a job spec that each flag stands for.
FLAG_KEYS = {
    "model": "model",
    "scale": "scale",
    "height": "height",
    "workers": "workers.count",
    "device": "workers.device",
    "codec": "video.codec",
    "preset": "video.preset",
    "quality": "video.quality",
    "container": "video.container",
    "precision": "engine.precision",
    "tile": "engine.tile_px",
    "batch": "engine.batch_size",
    "segment_seconds": "segments.seconds",
    "strict": "policies.strict",
    "overwrite": "overwrite",
    "retry_failed": "retries.again",
}
_SPEC_SUFFIXES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that `argv`, by default of this process, names; exits with its code."""
    app(args=argv, prog_name="framelift")


@app.command("upscale")
def upscale_command(
    context: typer.Context,
    targets: Targets,
    model: Model = None,
    scale: Scale = None,
    height: Height = None,
    workers: Workers = None,
    device: Device = None,
    codec: Codec = None,
    preset: Preset = None,
    quality: Quality = None,
    container: Container = None,
    precision: Precision = None,
    tile: Tile = None,
    batch: Batch = None,
    segment_seconds: SegmentSeconds = None,
    strict: Strict = None,
    overwrite: Overwrite = None,
    retry_failed: RetryFailed = None,
) -> None:
    """Upscale videos. Each flag is also a key of the job spec, and replaces what the spec says."""

    def body() -> int:
        from jobs.upscale import upscale

        return upscale(_spec_of(targets, context.params))

    _exit_with(body)


@app.command("plan")
def plan_command(
    context: typer.Context,
    targets: Targets,
    model: Model = None,
    scale: Scale = None,
    height: Height = None,
    workers: Workers = None,
    device: Device = None,
    codec: Codec = None,
    preset: Preset = None,
    quality: Quality = None,
    container: Container = None,
    precision: Precision = None,
    tile: Tile = None,
    batch: Batch = None,
    segment_seconds: SegmentSeconds = None,
    strict: Strict = None,
    overwrite: Overwrite = None,
    retry_failed: RetryFailed = None,
    as_json: Json = False,
) -> None:
    """Say what `upscale` would do with the same arguments, and how long it would take."""

    def body() -> int:
        from jobs.plan import plan

        return plan(_spec_of(targets, context.params), as_json=as_json)

    _exit_with(body)


@app.command("status")
def status_command(
    output: Annotated[str, typer.Argument(metavar="OUT", help="The output of a job.")],
    as_json: Json = False,
) -> None:
    """Say how far the job that writes OUT is, while it runs and after it died."""

    def body() -> int:
        from jobs.status import status

        return status(output, as_json=as_json)

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
        from jobs.sample import sample

        return sample(path)

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
        key: Given("--" + name.replace("_", "-"), params[name])
        for name, key in FLAG_KEYS.items()
        if params[name] is not None
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
