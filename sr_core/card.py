"""The card of weights: what they are, what they learnt from, how good they are, and who may use them.

A card is JSON beside the weights, `NAME.json`, and for people Markdown, `NAME.md`, in the order of the model
cards of "Model Cards for Model Reporting", Mitchell et al. 2019 (arXiv:1810.03993).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, field
from enum import StrEnum
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from sr_core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from sr_core.archs.arch import Arch
    from sr_core.weights import Named

_EXACT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
_MADE_WITH = ("framelift", "torch")
_MOST_MISTAKES = 4
_NOT_STATED = "not stated"

# What people call the measures of `framelift evaluate`.
_MEASURES = {
    "psnr_y": "PSNR of luma, dB",
    "ssim_y": "SSIM of luma",
    "psnr_rgb": "PSNR of RGB, dB",
    "lpips": "LPIPS",
    "consistency": "consistency, dB",
    "psnr": "PSNR, dB",
    "negative_elbo": "negative ELBO, nats per image",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "cross_entropy": "cross entropy, nats",
    "accuracy": "share that is right",
    "mae": "mean absolute error",
}


class Purpose(StrEnum):
    """What weights are for."""

    SUPER_RESOLUTION = "super-resolution"
    GUIDED = "guided-super-resolution"
    GENERATION = "image-generation"
    CLASSIFICATION = "image-classification"


@dataclass(frozen=True)
class _Use:
    """How weights are used.

    Attributes:
        does: What they do, to be filled with what the card says.
        command: Shell or YAML that takes them, to be filled with the name of their file.
        language: Of the command.
        pipeline_tag: What sites that show model cards call it.
    """

    does: str
    command: str
    language: str
    pipeline_tag: str


_USES = {
    Purpose.SUPER_RESOLUTION: _Use(
        "frames of {card.color_mode} become {card.scale} times as large on each side",
        "framelift upscale IN OUT --model {name}",
        "sh",
        "image-to-image",
    ),
    Purpose.GUIDED: _Use(
        "depth maps become {card.scale} times as large on each side, with the help of a picture",
        "framelift guide DEPTH GUIDE OUT --weights {name}",
        "sh",
        "image-to-image",
    ),
    Purpose.GENERATION: _Use(
        "images are made of noise",
        "framelift generate {name} OUT",
        "sh",
        "unconditional-image-generation",
    ),
    Purpose.CLASSIFICATION: _Use(
        "pictures are told apart as one of {classes}",
        "perceptual: [{{network: classifier, weights: {name}}}]  # in a stage of `framelift train`",
        "yaml",
        "image-classification",
    ),
}


@dataclass(frozen=True, config=_EXACT)
class Source:
    """Pictures that weights learnt from.

    Attributes:
        name: Of the data set or folder.
        num_pictures: That were trained on.
        licence: Of the pictures; empty where it is not stated.
        attribution: Whom to thank, as the licence asks; may name a file with all of them.
    """

    name: str
    num_pictures: int
    licence: str = ""
    attribution: str = ""


@dataclass(frozen=True, config=_EXACT)
class Card:
    """What weights are.

    Attributes:
        arch: Name of the architecture.
        config: Its hyper-parameters, as JSON has them.
        num_parameters: Numbers that were learnt.
        purpose: What it is for.
        scale: HR size / LR size, of what makes frames or depth maps larger.
        color_mode: What the channels of frames are, a value of `ColorMode`, of what makes these larger.
        classes: That pictures are told apart as, in the order of the outputs.
        dtype: That the weights are stored in, as torch names it.
        sources: What they learnt from; empty where that is not known.
        recipe: How they were trained, each part by its name, in words.
        num_images: Seen in training, over and over; None where that is not known.
        figures: Of each data set, measures by their names in `framelift evaluate`.
        licence: Of the weights; empty where it is not stated.
        made_with: Versions of what they were made with, by name.
    """

    arch: str
    config: dict[str, JsonValue]
    num_parameters: int
    purpose: Purpose = Purpose.SUPER_RESOLUTION
    scale: int | None = None
    color_mode: str | None = None
    classes: tuple[str, ...] = ()
    dtype: str = "float32"
    sources: tuple[Source, ...] = ()
    recipe: dict[str, str] = field(default_factory=dict)
    num_images: int | None = None
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    licence: str = ""
    made_with: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed = {
            Purpose.SUPER_RESOLUTION: ("scale", "color_mode"),
            Purpose.GUIDED: ("scale",),
            Purpose.CLASSIFICATION: ("classes",),
        }
        for name in needed.get(self.purpose, ()):
            if not getattr(self, name):
                problem = f"{name} is missing, without which {self.purpose} means nothing"
                raise PydanticCustomError("missing", "{problem}", {"problem": problem})


_CARD = TypeAdapter(Card)


def new_card(network: nn.Module, arch: Arch, config: Any) -> Card:
    """What an upscaler tells of itself, made with the versions here; the rest is left open.

    Args:
        network: That of the weights.
        arch: Its architecture.
        config: Its hyper-parameters, a dataclass.
    """
    facts = arch.facts(config)
    mode = facts.color_mode.value
    return card_for(Purpose.SUPER_RESOLUTION, network, arch, config, scale=facts.scale, color_mode=mode)


def card_for(
    purpose: Purpose,
    network: nn.Module,
    family: Named,
    config: Any,
    *,
    scale: int | None = None,
    color_mode: str | None = None,
    classes: tuple[str, ...] = (),
) -> Card:
    """The same of a network of any family, of which `Card` says what each purpose asks for besides.

    Raises:
        ValidationError: Something of that is missing.
    """
    return Card(
        arch=family.name,
        config=json.loads(json.dumps(asdict(config))),
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        purpose=purpose,
        scale=scale,
        color_mode=color_mode,
        classes=classes,
        made_with={name: metadata.version(name) for name in _MADE_WITH},
    )


def card_key(weights: str) -> str:
    """Where the card of the weights at a path, URL path or key lies: beside them, as JSON."""
    return f"{weights.removesuffix(PurePosixPath(weights).suffix)}.json"


def card_json(card: Card) -> bytes:
    """The card as JSON, which `read_card` takes back."""
    return _CARD.dump_json(card, indent=1) + b"\n"


def read_card(content: bytes, where: str) -> Card:
    """The card that `card_json` wrote.

    Args:
        content: JSON.
        where: Names the file in errors.

    Raises:
        ModelError: It is none: something is missing, of another type, or unknown.
    """
    try:
        return _CARD.validate_json(content)
    except ValidationError as error:
        raise ModelError(
            "This is not the card of a model",
            where=where,
            got="; ".join(_mistakes(error)),
            expected="what 'framelift export' writes beside weights",
            next_step="move the file away, or get it again",
        ) from error


def _mistakes(error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False, include_input=False)[:_MOST_MISTAKES]:
        place = ".".join(map(str, mistake["loc"]))
        yield f"{place}: {mistake['msg']}" if place else mistake["msg"]


def card_markdown(card: Card, name: str) -> str:
    """The card for people.

    Args:
        card: What to tell.
        name: Of the weights' file, without its folder.
    """
    sections = (
        ("Figures", _figures(card)),
        ("Data", _data(card)),
        ("Training", _training(card)),
        ("Licence", [_line(card.licence) or f"Of the weights: {_NOT_STATED}."]),
    )
    lines = [*_front_matter(card), "", f"# {_line(PurePosixPath(name).stem)}", "", *_summary(card, name)]
    for title, body in sections:
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _front_matter(card: Card) -> list[str]:
    """What sites that show model cards read; JSON strings are YAML too."""
    licence = [f"license: {json.dumps(card.licence)}"] if card.licence else []
    tags = json.dumps([card.purpose.value, card.arch])
    return [
        "---",
        *licence,
        "library_name: framelift",
        f"pipeline_tag: {_USES[card.purpose].pipeline_tag}",
        f"tags: {tags}",
        "---",
    ]


def _summary(card: Card, name: str) -> list[str]:
    made = ", ".join(f"{library} {version}" for library, version in card.made_with.items())
    config = ", ".join(f"{key} {json.dumps(value)}" for key, value in card.config.items())
    use = _USES[card.purpose]
    does = use.does.format(card=card, classes=", ".join(map(_line, card.classes)))
    return [
        f"{card.arch} ({config}), {card.num_parameters:,} parameters: {does}. Weights are {card.dtype}.",
        *([f"Made with {made}."] if made else []),
        "",
        f"```{use.language}",
        use.command.format(name=name),
        "```",
    ]


def _figures(card: Card) -> list[str]:
    names = list(dict.fromkeys(name for measured in card.figures.values() for name in measured))
    if not names:
        return ["None were measured."]
    rows = [
        [data, *(figure_text(measured[name]) if name in measured else "" for name in names)]
        for data, measured in card.figures.items()
    ]
    return _table(["data", *(_MEASURES.get(name, name) for name in names)], rows)


def figure_text(value: float) -> str:
    """A figure as papers print it: dB with two digits after the point, likeness up to 1 with four."""
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.4f}"


def _data(card: Card) -> list[str]:
    if not card.sources:
        return [f"What the weights learnt from is {_NOT_STATED}."]
    rows = [
        [source.name, f"{source.num_pictures:,}", source.licence or _NOT_STATED, source.attribution]
        for source in card.sources
    ]
    return _table(["source", "pictures", "licence", "attribution"], rows)


def _training(card: Card) -> list[str]:
    seen = [f"- images seen: {card.num_images:,}"] if card.num_images is not None else []
    told = [f"- {_line(name)}: {_line(text)}" for name, text in card.recipe.items()]
    return [*told, *seen] or [f"How the weights were trained is {_NOT_STATED}."]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _line(text: str) -> str:
    return " ".join(text.split())
