"""`framelift models`: which models there are, what weights are of, and finding the one that a spec means."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cluster.job import BlendRef, ModelRef
from cluster.storage import open_storage
from cluster.storage.address import is_s3, join_url, split_url
from cluster.weights import model_at
from jobs.spec import AUTO_MODEL, UpscaleSpec
from jobs.view import console, printable
from sr_core.blend import Blend
from sr_core.card import Card, Source, card_key, figure_text, read_card
from sr_core.errors import ModelError
from sr_core.kernels import Kernel
from sr_core.pretrained import BUNDLED, DEFAULTS

if TYPE_CHECKING:
    from sr_core.model import Model

_log = logging.getLogger(__name__)

_DEFAULT_SCALE = 2
_FALLBACK = Kernel.LANCZOS


@dataclass(frozen=True)
class Choice:
    """The model of a job.

    Attributes:
        name: As a spec may name it.
        why: Why it is this one, and what else could be; empty where the spec names it.
    """

    name: str
    why: str = ""

    def __str__(self) -> str:
        return f"model: {self.name}" + (f" ({self.why})" if self.why else "")


def choose_model(spec: UpscaleSpec) -> Choice:
    """The model that `spec` names, or the one that is taken where it names none.

    It follows from the spec alone: were it chosen by the device, several drivers of one spec would be at
    different jobs, and what was begun on one machine could not be ended on another.
    """
    if spec.model != AUTO_MODEL:
        return Choice(spec.model)
    scale = spec.scale or _DEFAULT_SCALE
    name = DEFAULTS.get(scale, "")
    if name in BUNDLED:
        return Choice(name, "none is named: this one is bundled; 'framelift models' lists others")
    why = f"none is named, and no bundled model makes x{scale}: give weights that do, as --model FILE"
    usual = DEFAULTS[_DEFAULT_SCALE]
    if usual in BUNDLED:
        why += f", or in place of the scale a --height, which {usual} is fitted to"
    return Choice(_FALLBACK, why)


def with_model(spec: UpscaleSpec, choice: Choice) -> UpscaleSpec:
    """`spec` with its model named."""
    return spec.model_copy(update={"model": choice.name})


def models() -> int:
    """Prints a table of the models that go by name, and one of all architectures of weights files."""
    from sr_core.archs import ARCHS

    to = console()
    named = _table("model", "scale", "architecture", "parameters", "figures", "licence")
    for kernel in Kernel:
        named.add_row(Text(kernel.value), Text("any"))
    for name, path in BUNDLED.items():
        named.add_row(Text(name), *map(Text, _bundled_facts(str(path))))
    to.print(named)
    to.print(Text(f"\n{_default_text()}"))
    to.print(Text("\nWeights files go by their path; 'framelift models FILE' says what one holds.\n"))
    archs = _table("architecture", "paper", "published as")
    for arch in ARCHS:
        forms = ", ".join(form.name for form in arch.forms)
        archs.add_row(Text(arch.name), Text(arch.paper), Text(forms))
    to.print(archs)
    to.print(Text(f"\n{_foreign_text()}"))
    return 0


def describe(files: Sequence[str], scale: int | None = None) -> int:
    """Prints what each of `files` was recognised as, and what the engine knows of it.

    Args:
        files: Paths or S3 URLs of weights.
        scale: Of weights that do not tell theirs.

    Returns:
        2 where one cannot be used.
    """
    to, num_bad = console(), 0
    for file in files:
        table = _table(show_header=False)
        try:
            for name, text in (*_facts_of(model_at(file, scale)), *_card_facts(file)):
                table.add_row(Text(name), Text(printable(text)))
        except ModelError as error:
            num_bad += 1
            table.add_row(Text("error"), Text(printable(str(error))))
        to.print(Text(printable(file)))
        to.print(table)
    return 2 if num_bad else 0


def find_model(name_or_url: str, scale: int | None = None, blend: Blend | None = None) -> ModelRef:
    """The model that a spec names. Weights are read whole, so that nothing runs with wrong ones.

    What must be known of weights before they are used, as licences, is logged.

    Args:
        name_or_url: Its name, or the path or S3 URL of its weights.
        scale: That the spec asks for; weights of another one contradict it.
        blend: Other weights, by name, path or S3 URL, that its own are blended with.

    Raises:
        ModelError: The name is unknown, or the weights cannot be used, or not for this scale, or not blended.
        StorageError: The store of the weights refuses or fails.
    """
    if name_or_url in set(Kernel):
        return ModelRef(name_or_url)
    path = str(BUNDLED.get(name_or_url, name_or_url))
    if blend is not None:
        blend = replace(blend, path=str(BUNDLED.get(blend.path, blend.path)))
    model = model_at(path, scale, blend)
    for note in model.origin.notes if model.origin else ():
        _log.warning("%s: %s", name_or_url, note)
    sha256, *others = model.files_sha256
    blended_with = BlendRef(_place(blend.path), others[0], blend.strength) if blend else None
    return ModelRef(name_or_url, _place(path), sha256, blended_with)


def card_at(url: str) -> Card | None:
    """The card beside the weights at a path or S3 URL; None where there is none.

    Raises:
        ModelError: What lies there is no card.
        StorageError: The store refuses or fails.
    """
    store_url, weights_key = split_url(url)
    key = card_key(weights_key)
    content = open_storage(store_url).get(key)
    return None if content is None else read_card(content, join_url(store_url, key))


def _place(name_or_url: str) -> str:
    return name_or_url if is_s3(name_or_url) else str(Path(name_or_url).absolute())


def _facts_of(model: Model) -> Iterator[tuple[str, str]]:
    """What is known of a model, as (name, text)."""
    origin, facts = model.origin, model.facts
    if origin is not None:
        yield "architecture", f"{origin.arch} ({origin.paper})" if origin.paper else origin.arch
        yield "published as", origin.form
        yield "hyper-parameters", str(origin.config)
    yield "scale", str(facts.scale)
    num_parameters = sum(value.numel() for value in model.network.parameters())
    yield "parameters", f"{num_parameters:,}"
    yield "colours", facts.color_mode.value
    whole = "none: the whole frame matters to every pixel"
    yield "tiles", f"with a halo of {facts.halo_px} px" if facts.halo_px is not None else whole
    if facts.size_multiple > 1:
        yield "frame sizes", f"multiples of {facts.size_multiple}, to which the engine pads"
    if facts.num_frames > 1:
        yield "frames", f"sees {facts.frames_before} before and {facts.frames_after} after each"
    yield "runs in", ", ".join(str(dtype).removeprefix("torch.") for dtype in facts.dtypes)
    yield "sha256", model.weights_sha256
    for note in origin.notes if origin else ():
        yield "note", note


def _card_facts(file: str) -> Iterator[tuple[str, str]]:
    """What the card beside weights says, if there is one, as (name, text)."""
    try:
        card = card_at(str(BUNDLED.get(file, file)))
    except ModelError as error:
        yield "card", str(error)
        return
    if card is None:
        return
    if card.figures:
        yield "figures", _figures_text(card)
    for source in card.sources:
        yield "learnt from", _source_text(source)
    yield "licence", card.licence or "not stated"


def _bundled_facts(path: str) -> tuple[str, ...]:
    """Scale, architecture, parameters, figures and licence."""
    card = card_at(path)
    if card is None:
        raise ModelError("A bundled model has no card", where=path, next_step="install Framelift again")
    facts = str(card.scale), card.arch, f"{card.num_parameters:,}"
    return (*facts, _figures_text(card), card.licence)


def _default_text() -> str:
    """Which model is taken where none is named."""
    found = [f"{name} makes x{scale}" for scale, name in DEFAULTS.items() if name in BUNDLED]
    rest = f"{_FALLBACK} any other scale" if found else f"{_FALLBACK} is taken"
    return f"Where no model is named, {', and '.join([*found, rest])}."


def _source_text(source: Source) -> str:
    """Pictures that were learnt from, with whose they are."""
    rights = "; ".join(text for text in (source.licence, source.attribution) if text)
    return f"{source.name} ({source.num_pictures:,})" + (f": {rights}" if rights else "")


def _figures_text(card: Card) -> str:
    """Of each data set the first measure, which is PSNR of luma unless others alone were taken."""
    firsts = [(data, next(iter(measured.items()))) for data, measured in card.figures.items() if measured]
    return ", ".join(f"{data} {name} {figure_text(value)}" for data, (name, value) in firsts)


def _foreign_text() -> str:
    from sr_core.foreign import foreign_archs

    try:
        known = foreign_archs()
    except ModelError as error:
        return f"spandrel is installed and does not work: got {error.got}; {error.next_step}"
    if not known:
        return "'pip install framelift[spandrel]' adds some 40 architectures of the spandrel library."
    names = ", ".join(known)
    return f"Where none of these matches, spandrel is asked, for such as upscale plain images: {names}"


def _table(*columns: str, show_header: bool = True) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=show_header)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
