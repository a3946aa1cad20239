"""The command line. It imports only what `--help` needs; each command imports its own part."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
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
    Flag("--blend", "blend.model", "FILE", "Other weights of that network, to blend its own with."),
    Flag("--strength", "blend.strength", "S", "Their part, 0 to 1."),
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
def models_command(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Weights files, also s3://.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option("--scale", metavar="N", help="Of weights that do not tell theirs.")
    ] = None,
) -> None:
    """List the models that go by name and all architectures, or say what weights files hold."""

    def body() -> int:
        from jobs.models import describe, models

        return describe(files, scale) if files else models()

    _exit_with(body)


@app.command("evaluate")
def evaluate_command(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="PLACE",
            help="HR images in a folder, HR:LR folders, or a video; may be repeated.",
        ),
    ],
    scale: Annotated[int, typer.Option("--scale", min=1, metavar="N", help="HR size / LR size.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME|FILE", help="Beside bicubic, which is always there; repeatable."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", metavar="NAME", help="rgb, y.")] = "rgb",
    degradation: Annotated[
        str, typer.Option("--degradation", metavar="NAME", help="bicubic, blur, noise, jpeg.")
    ] = "bicubic",
    lpips: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--lpips", metavar="FEATURES HEADS", help="Weights to measure LPIPS with."),
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option("--frames", min=1, metavar="N", help="Of a video, from its start.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All figures.")] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Crops side by side.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files.")] = False,
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda.")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="auto, fp32, bf16, fp16.")
    ] = None,
    tile: Annotated[str | None, typer.Option("--tile", metavar="PX", help="Edge of a tile.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="N", help="Tiles in a batch.")] = None,
) -> None:
    """Measure models on pictures whose truth is known, by the protocol of the papers."""

    def body() -> int:
        given = {"--device": device, "--precision": precision, "--tile": tile, "--batch": batch}
        spec = _spec_of_flags(".", given)
        from jobs.evaluation.evaluate import evaluate
        from jobs.evaluation.request import Protocol, Request, choice
        from sr_core.shrink import Degradation

        request = Request(
            models=tuple(models or ()),
            data=tuple(data),
            scale=scale,
            protocol=choice(protocol, Protocol, "--protocol"),
            degradation=choice(degradation, Degradation, "--degradation"),
            lpips=lpips,
            num_frames=num_frames,
            json_path=json_path,
            plot_path=plot_path,
            overwrite=overwrite,
            device=spec.workers.device,
            engine=spec.engine,
        )
        return evaluate(request)

    _exit_with(body)


@app.command("preview")
def preview_command(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A video, also s3://.")],
    models: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME|FILE", help="Beside bicubic, which comes first; repeatable."),
    ],
    start: Annotated[float, typer.Option("--start", min=0, metavar="S", help="Where it begins.")] = 0.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.001, metavar="S", help="Its length.")] = 3.0,
    out: Annotated[str, typer.Option("--out", metavar="FILE.mp4", help="The file to write.")] = "preview.mp4",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="N", help="Of models by name; of weights by default.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda.")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="auto, fp32, bf16, fp16.")
    ] = None,
    tile: Annotated[str | None, typer.Option("--tile", metavar="PX", help="Edge of a tile.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="N", help="Tiles in a batch.")] = None,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
) -> None:
    """Show a few seconds of a clip through several models, side by side, and how fast each is."""

    def body() -> int:
        given = {
            "--scale": scale,
            "--device": device,
            "--precision": precision,
            "--tile": tile,
            "--batch": batch,
            "--endpoint-url": endpoint_url,
            "--region": region,
            "--overwrite": overwrite,
        }
        spec = _spec_of_flags(out, given, source=("CLIP", clip))
        from jobs.preview import preview

        return preview(spec, models, start, seconds)

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


@app.command("generate")
def generate_command(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Of a GAN's generator or a VAE.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for the images.")],
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many images.")] = 16,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same gives the same images.")] = 0,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|FILE", help="Upscale them with this model.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option("--scale", metavar="N", help="Of a model that does not bring its own.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace images of these names.")] = False,
) -> None:
    """Draw images from a generative model, as PNG, and upscale them if a model is given."""

    def body() -> int:
        from jobs.generate import generate

        return generate(weights, folder, count, seed, model, scale, overwrite=overwrite)

    _exit_with(body)


@app.command("guide")
def guide_command(
    depth: Annotated[Path, typer.Argument(metavar="DEPTH", help="A depth map, grey, 8 or 16 bits.")],
    image: Annotated[
        Path, typer.Argument(metavar="GUIDE", help="An image of the same view, N times as large.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The PNG to write, grey, 16 bits.")],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="FILE", help="Of a guided network; else the guided filter does it."
        ),
    ] = None,
    scale: Annotated[
        int | None, typer.Option("--scale", metavar="N", help="Refuse sizes that say another scale.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Upscale a depth map to the size of an image that guides it."""

    def body() -> int:
        from jobs.guide import guide

        return guide(depth, image, output, weights, scale, overwrite=overwrite)

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
    given = {"--endpoint-url": endpoint_url, "--region": region}
    return _spec_of_flags(output, given).output_url


def _spec_of_flags(
    output: str, given: Mapping[str, str | bool | None], source: tuple[str, str] = ("OUT", ".")
) -> UpscaleSpec:
    """What a few flags of a job mean, and OUT; of those that are None, the default.

    Args:
        source: What the input is called, and the input.
    """
    from jobs.load import Given, spec_from_flags

    keys = {flag.name: flag.key for flag in FLAGS}
    flags = {keys[name]: Given(name, value) for name, value in given.items() if value is not None}
    places = {"input": Given(*source), "output": Given("OUT", output)}
    return spec_from_flags({**places, **flags})


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
