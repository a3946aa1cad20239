"""The flags of a job on the command line, and from what was typed to a spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sr_core.errors import SpecError

if TYPE_CHECKING:
    from jobs.adapt import AdaptSpec
    from jobs.load import Flags
    from jobs.spec import UpscaleSpec
    from jobs.train_spec import TrainSpec

_SPEC_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Flag:
    """One flag of the commands that take a job or a training.

    Attributes:
        name: As it is typed.
        key: Of the spec, for whose value it stands.
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
    Flag("--model", "model", "NAME|FILE", "A model or a weights file, also s3://; auto: the bundled one."),
    Flag("--blend", "blend.model", "NAME|FILE", "Other weights of that network, to blend its own with."),
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

TRAIN_FLAGS = (
    Flag("--output", "output", "OUT", "The folder to train in, also s3://."),
    Flag("--start", "start", "FILE", "Weights to start from."),
    Flag("--seed", "seed", "N", "Of everything that is random."),
    Flag("--minutes", "minutes", "M", "Stop after so many; the same command goes on."),
    Flag("--workers", "workers.count", "N", "Number of workers."),
    Flag("--device", "workers.device", "NAME", "auto, cpu, cuda."),
    Flag("--precision", "numerics.precision", "NAME", "fp32, bf16, fp16."),
    Flag("--endpoint-url", "storage.endpoint_url", "URL", "Of an S3 store other than AWS."),
    Flag("--region", "storage.region", "NAME", "Of an S3 store."),
)

# Of them, those that mean something where a model is adapted.
_ADAPT_FLAGS = ("--output", "--seed", "--minutes", "--device", "--endpoint-url", "--region")


def takes_job(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the flags of a job; which it gets as `flags`."""
    return _takes(command, FLAGS)


def takes_training(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the flags of a training; which it gets as `flags`."""
    return _takes(command, TRAIN_FLAGS)


def _takes(command: Callable[..., None], known: Sequence[Flag]) -> Callable[..., None]:
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    own = [p.replace(annotation=hints[p.name]) for p in parameters if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(
            flag.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag.annotation
        )
        for flag in known
    ]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return command


def spec_of(targets: Sequence[str], params: dict[str, Any]) -> UpscaleSpec:
    """The spec that IN and OUT, or a spec file, and flags mean.

    Raises:
        SpecError: They contradict each other, or a value is wrong.
    """
    from jobs.load import Given, load_spec, spec_from_flags

    flags = _given(params, FLAGS)
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


def training_of(targets: Sequence[str], model: str | None, params: dict[str, Any]) -> TrainSpec:
    """The training that a spec file and flags mean.

    Raises:
        SpecError: A value is wrong, or they are those of an adaptation.
    """
    from jobs.load import load
    from jobs.train_spec import TrainSpec

    if len(targets) != 1 or model is not None:
        raise SpecError(
            "these arguments are not understood",
            where="command line",
            got=" ".join([*targets, *(() if model is None else ("--model", model))]),
            expected="one spec of a training (.yaml)",
            next_step="give --adapt, where a model is to be adapted to footage",
        )
    return load(TrainSpec, targets[0], _given(params, TRAIN_FLAGS))


def adaptation_of(footage: Sequence[str], model: str | None, params: dict[str, Any]) -> AdaptSpec:
    """The adaptation that footage and flags mean.

    Raises:
        SpecError: A value is wrong, or a flag is one of other trainings.
    """
    from jobs.adapt import AdaptSpec
    from jobs.load import Given, load_flags

    flags = _given(params, TRAIN_FLAGS)
    for given in flags.values():
        if given.flag not in _ADAPT_FLAGS:
            raise SpecError(
                "this flag means nothing with --adapt",
                where=given.flag,
                expected=f"--model, {', '.join(_ADAPT_FLAGS)}",
                next_step="for a recipe of your own, write the spec of a training",
            )
    named = {} if model is None else {"model": Given("--model", model)}
    return load_flags(AdaptSpec, {**named, **flags}).model_copy(update={"footage": tuple(footage)})


def output_url(output: str, endpoint_url: str | None, region: str | None) -> str:
    """Where a job's output lies, as a job spec would say it."""
    given = {"--endpoint-url": endpoint_url, "--region": region}
    return spec_of_flags(output, given).output_url


def spec_of_flags(
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


def _given(params: Mapping[str, Any], known: Sequence[Flag]) -> Flags:
    from jobs.load import Given

    given = {flag: params[flag.parameter] for flag in known}
    return {flag.key: Given(flag.name, value) for flag, value in given.items() if value is not None}


def _is_spec(target: str) -> bool:
    return target.lower().endswith(_SPEC_SUFFIXES)
