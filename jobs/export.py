"""`framelift export`: weights with a card, or an ONNX file, of a training run or of any weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cluster.storage import open_storage
from cluster.storage.address import join_url
from cluster.weights import model_at
from jobs.evaluation.record import Record
from jobs.models import card_at
from jobs.outputs import refuse_existing, written
from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch
from sr_core.card import Card, card_json, card_key, card_markdown, new_card
from sr_core.errors import ModelError, SpecError
from sr_core.model import Model
from sr_core.onnx import onnx_bytes
from sr_core.pretrained import BUNDLED
from sr_core.shrink import Degradation
from sr_core.weights import pack_weights

_SAFETENSORS, _ONNX = ".safetensors", ".onnx"
_BEST, _LAST = "best.safetensors", "last.safetensors"
_RECORDS = TypeAdapter(list[Record])
_CARD_MEASURES = ("psnr_y", "ssim_y", "psnr_rgb", "lpips")


@dataclass(frozen=True)
class ExportRequest:
    """What is asked of an export.

    Attributes:
        source: Folder or S3 URL of a training run; or name, path or S3 URL of weights.
        output: File to write, whose suffix says what; its card goes beside it.
        scale: Of weights that do not tell theirs.
        figures: JSON of `framelift evaluate`, of which the card takes what is of these weights.
        licence: Of the weights; None keeps what their card says.
        is_last: Of a run, the last weights are taken in place of the best.
        is_half: Numbers become float16.
        overwrite: Whether files that stand there are replaced.
    """

    source: str
    output: Path
    scale: int | None = None
    figures: Path | None = None
    licence: str | None = None
    is_last: bool = False
    is_half: bool = False
    overwrite: bool = False


def export(request: ExportRequest) -> int:
    """Writes the file that is asked for, and its card as JSON and as Markdown, and says so.

    Raises:
        SpecError: What is asked cannot be done.
        ModelError: The weights, or the card beside them, cannot be used, or not in this way.
        StorageError: A store fails, or a file cannot be written.
    """
    output = request.output
    card_path = Path(card_key(str(output)))
    markdown_path = card_path.with_suffix(".md")
    _refuse_other_suffix(output)
    refuse_existing([output, card_path, markdown_path], overwrite=request.overwrite)
    url = _weights_of(request)
    model = model_at(url, request.scale)
    arch = _arch_of(model, url)
    card = _card_of(request, url, model, arch)
    content = _content(request, model, arch, card)
    _write(markdown_path, card_markdown(card, output.name).encode())
    _write(card_path, card_json(card))
    _write(output, content)
    print(
        f"{output}: {card.arch} x{card.scale}, {card.num_parameters:,} parameters, {card.dtype}, "
        f"{len(content) / 1024:,.0f} KiB; its card is {card_path.name} and {markdown_path.name}"
    )
    if not card.licence:
        print("no licence is stated: --licence says whose and which")
    return 0


def _refuse_other_suffix(output: Path) -> None:
    if output.suffix not in (_SAFETENSORS, _ONNX):
        raise SpecError(
            "the output's suffix says what to write",
            where=str(output),
            got=output.suffix or "none",
            expected=f"{_SAFETENSORS} or {_ONNX}",
        )


def _weights_of(request: ExportRequest) -> str:
    """Where the weights lie: in the run's store, where the source is one."""
    name = _LAST if request.is_last else _BEST
    if open_storage(request.source).head(name) is not None:
        return join_url(request.source, name)
    if request.is_last or Path(request.source).is_dir():
        raise SpecError(
            "this is no training run that has been validated",
            where=request.source,
            expected=f"a folder with {name} in it",
            next_step="give the 'output' of 'framelift train', or a weights file without --last",
        )
    return str(BUNDLED.get(request.source, request.source))


def _arch_of(model: Model, url: str) -> Arch:
    name = model.origin.arch if model.origin else "no weights"
    is_own = model.origin is not None and model.origin.form != "spandrel"
    arch = next((arch for arch in ARCHS if arch.name == name and is_own), None)
    if arch is None:
        raise ModelError(
            "Only weights of Framelift's own architectures are exported",
            where=url,
            got=name,
            expected=", ".join(arch.name for arch in ARCHS),
        )
    return arch


def _card_of(request: ExportRequest, url: str, model: Model, arch: Arch) -> Card:
    """The card beside the weights, if there is one, with what is new."""
    card = new_card(model.network, arch, model.origin.config if model.origin else None)
    found = card_at(url)
    if found is not None:
        _refuse_other_card(found, card, url)
        card = found
    card = replace(card, dtype="float16" if request.is_half else "float32")
    if request.figures is not None:
        card = replace(card, figures=card.figures | _figures(request.figures, model))
    return card if request.licence is None else replace(card, licence=request.licence)


def _refuse_other_card(found: Card, own: Card, where: str) -> None:
    told = (found.arch, found.config, found.scale, found.num_parameters)
    expected = (own.arch, own.config, own.scale, own.num_parameters)
    if told != expected:
        raise ModelError(
            "The card beside the weights is of other ones",
            where=where,
            got=f"{found.arch} x{found.scale}, {found.num_parameters:,} parameters, {found.config}",
            expected=f"{own.arch} x{own.scale}, {own.num_parameters:,} parameters, {own.config}",
            next_step="move it away",
        )


def _figures(path: Path, model: Model) -> dict[str, dict[str, float]]:
    """Of each data set, what was measured of these very weights."""
    records = [record for record in _records(path) if record.weights_sha256 == model.weights_sha256]
    if not records:
        raise SpecError(
            "there are no figures of these weights",
            where=str(path),
            expected=f"some of the file with the SHA-256 {model.weights_sha256}",
            next_step="measure them with 'framelift evaluate --json'",
        )
    return {_data_name(record): _measures(record) for record in records}


def _records(path: Path) -> Sequence[Record]:
    try:
        return _RECORDS.validate_json(path.read_bytes())
    except OSError as error:
        raise SpecError("the figures cannot be read", where=str(path), got=error.strerror or "") from error
    except ValidationError as error:
        raise SpecError(
            "these are not figures",
            where=str(path),
            got=f"{error.error_count()} mistakes",
            expected="the JSON of 'framelift evaluate --json'",
        ) from error


def _data_name(record: Record) -> str:
    is_usual = record.degradation in (Degradation.BICUBIC, "given")
    return record.data if is_usual else f"{record.data}, {record.degradation}"


def _measures(record: Record) -> dict[str, float]:
    found = {name: getattr(record, name) for name in _CARD_MEASURES}
    return {name: value for name, value in found.items() if value is not None}


def _content(request: ExportRequest, model: Model, arch: Arch, card: Card) -> bytes:
    where = request.source
    if request.output.suffix == _ONNX:
        if request.is_half:
            _refuse_half(model, where)
            model.network.set_body_dtype(torch.float16)
        return onnx_bytes(model.network, model.facts, card, where)
    network = _halved(model.network, where) if request.is_half else model.network
    return pack_weights(network, arch, model.origin.config if model.origin else None)


def _refuse_half(model: Model, where: str) -> None:
    if torch.float16 not in model.facts.dtypes:
        raise ModelError("The network does not run in half precision", where=where, got=model.facts.name)


def _halved(network: nn.Module, where: str) -> nn.Module:
    halved = network.half()
    for name, weight in halved.state_dict().items():
        if not bool(torch.isfinite(weight).all()):
            raise ModelError(
                "A weight is too large for half precision",
                where=f"{where}, {name}",
                next_step="leave out --half",
            )
    return halved


def _write(path: Path, content: bytes) -> None:
    with written(path) as part:
        part.write_bytes(content)
