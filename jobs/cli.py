"""The command line. It imports only what `--help` needs; each command imports its own part."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from jobs.flags import (
    adaptation_of,
    output_url,
    spec_of,
    spec_of_flags,
    takes_job,
    takes_training,
    training_of,
)
from sr_core.errors import FrameliftError, MediaError, ModelError, SpecError

if TYPE_CHECKING:
    pass

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


_CODES: dict[type[FrameliftError], int] = {SpecError: 2, ModelError: 2, MediaError: 3}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that `argv`, by default of this process, names; exits with its code."""
    app(args=argv, prog_name="framelift")


@app.command("upscale")
@takes_job
def upscale_command(targets: Targets, **flags: Any) -> None:
    """Upscale videos and images. Each flag is also a key of the job spec, and replaces what the spec says."""

    def body() -> int:
        from jobs.upscale import upscale

        return upscale(spec_of(targets, flags))

    _exit_with(body)


@app.command("plan")
@takes_job
def plan_command(targets: Targets, as_json: Json = False, **flags: Any) -> None:
    """Say what `upscale` would do with the same arguments, and how long it would take."""

    def body() -> int:
        from jobs.plan import plan

        return plan(spec_of(targets, flags), as_json=as_json)

    _exit_with(body)


@app.command("submit")
@takes_job
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

        return submit(spec_of(targets, flags), address, wait=wait, submission_id=submission_id)

    _exit_with(body)


@app.command("train")
@takes_training
def train_command(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TRAIN.yaml | FOOTAGE...", help="The spec of a training; with --adapt, footage."
        ),
    ],
    is_adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt a model to footage: videos, images, folders of them.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|FILE", help="The one to adapt, by default a bundled one."),
    ] = None,
    is_plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be trained, on what, and what it takes.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="PNG", help="Only write what the first crops look like."),
    ] = None,
    **flags: Any,
) -> None:
    """Train a network on pictures. Each flag is also a key of the spec, and replaces what the spec says."""

    def body() -> int:
        if is_adapt:
            adaptation = adaptation_of(targets, model, flags)
            from jobs.adapt import adapt

            return adapt(adaptation, is_plan=is_plan, sheet_path=sheet)
        training = training_of(targets, model, flags)
        from jobs.train import train

        return train(training, is_plan=is_plan, sheet_path=sheet)

    _exit_with(body)


@app.command("status")
def status_command(
    output: Output, endpoint_url: EndpointUrl = None, region: Region = None, as_json: Json = False
) -> None:
    """Say how far the job that writes OUT is, while it runs and after it died."""

    def body() -> int:
        from jobs.status import status

        return status(output_url(output, endpoint_url, region), as_json=as_json)

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

        url = output_url(output, endpoint_url, region)
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
        spec = spec_of_flags(".", given)
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


@app.command("export")
def export_command(
    source: Annotated[
        str, typer.Argument(metavar="RUN | WEIGHTS", help="Output of a training run, or a weights file.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="OUT.safetensors or OUT.onnx.")],
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="FILE", help="JSON of 'framelift evaluate --json'.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Of the weights, for their card.")
    ] = None,
    is_last: Annotated[bool, typer.Option("--last", help="The last weights of a run, not the best.")] = False,
    is_half: Annotated[bool, typer.Option("--half", help="In half precision.")] = False,
    scale: Annotated[
        int | None, typer.Option("--scale", min=1, metavar="N", help="Of weights that do not tell theirs.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files.")] = False,
) -> None:
    """Write weights with a card that says what they are, or an ONNX file for other runtimes."""

    def body() -> int:
        from jobs.export import ExportRequest, export

        return export(
            ExportRequest(
                source=source,
                output=output,
                scale=scale,
                figures=figures,
                licence=licence,
                is_last=is_last,
                is_half=is_half,
                overwrite=overwrite,
            )
        )

    _exit_with(body)


@app.command("preview")
def preview_command(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A video, also s3://.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|FILE",
            help="Beside bicubic, which comes first; repeatable. By default what `upscale` would take.",
        ),
    ] = None,
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
        spec = spec_of_flags(out, given, source=("CLIP", clip))
        from jobs.models import choose_model
        from jobs.preview import preview

        return preview(spec, models or [choose_model(spec).name], start, seconds)

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
def schema_command(
    command: Annotated[
        str, typer.Argument(metavar="[upscale|train]", help="The command whose specs are meant.")
    ] = "upscale",
) -> None:
    """Print the JSON Schema of the specs that `upscale` or `train` takes, for editors."""

    def body() -> int:
        from jobs.schema import schema

        return schema(command)

    _exit_with(body)


def _exit_with(body: Callable[[], int]) -> Never:
    """Runs a command and exits with its code, or with that of the error that ended it."""
    try:
        code = body()
    except FrameliftError as error:
        print(error_block(error), file=sys.stderr)
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 4)
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
