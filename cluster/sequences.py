"""Numbered images as the frames of one video. Pure, but for the listings that it is given."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePosixPath

from cluster.job import hash_of
from cluster.plan import Input, SequenceRef, SourceRef
from cluster.storage.base import ObjectInfo, Storage
from sr_core.errors import MediaError, SourceChanged

SEQUENCE_SUFFIXES = (".png", ".tif", ".tiff", ".dpx", ".exr", ".jpg", ".jpeg", ".bmp")

_NUMBERED = re.compile(r"(.*?)(\d+)(\.[^./]+)")
_FEWEST_FRAMES = 2
_MAX_NUMBER = 10**12
_SEPARATORS = "._- "

# By prefix, suffix and least number of digits; then by number.
_Groups = dict[tuple[str, str, int], dict[int, ObjectInfo]]


def find_sequences(
    objects: Iterable[ObjectInfo], store_url: str, frame_rate: Fraction, container: str
) -> tuple[list[Input], list[ObjectInfo]]:
    """The sequences among `objects`, and the objects that belong to none.

    Names that differ in their last number alone are one sequence, if there are at least two of them. A number
    that is left out is a frame that is not there: the one before stays longer.
    """
    groups: _Groups = defaultdict(dict)
    rest = []
    for info in objects:
        found = _NUMBERED.fullmatch(info.key)
        if found is None or PurePosixPath(info.key).suffix.lower() not in SEQUENCE_SUFFIXES:
            rest.append(info)
            continue
        prefix, digits, suffix = found.groups()
        if int(digits) > _MAX_NUMBER:
            rest.append(info)
            continue
        width = len(digits) if digits.startswith("0") else 0
        groups[prefix, suffix, width][int(digits)] = info
    sequences = []
    for (prefix, suffix, width), images in _merged(groups).items():
        if len(images) < _FEWEST_FRAMES:
            rest.extend(images.values())
            continue
        numbers = tuple(sorted(images))
        sequence = SequenceRef(prefix, suffix, width, numbers, frame_rate)
        infos = [images[number] for number in numbers]
        sequences.append(
            Input(_source_of(sequence, infos, store_url), _output_name(sequence, container), sequence)
        )
    return _with_own_names(sequences), rest


def _with_own_names(sequences: list[Input]) -> list[Input]:
    """The sequences, with their range in the output's name where two would have the same."""
    counts = Counter(each.output_name for each in sequences)
    return [_with_range(each) if counts[each.output_name] > 1 else each for each in sequences]


def _with_range(input_: Input) -> Input:
    assert input_.sequence is not None
    first, last, width = input_.sequence.numbers[0], input_.sequence.numbers[-1], input_.sequence.num_digits
    stem, dot, suffix = input_.output_name.rpartition(".")
    return replace(input_, output_name=f"{stem}_{first:0{width}}-{last:0{width}}{dot}{suffix}")


def refuse_empty(source: SourceRef) -> None:
    """Raises `MediaError` where a source has no content at all."""
    if not source.size_bytes:
        raise MediaError(
            "the file is empty",
            where=source.key,
            got="0 bytes",
            next_step="copy it again from where it came from",
        )


def refuse_changed(input_: Input, storage: Storage) -> None:
    """Raises `SourceChanged` where a source is not what was found any more."""
    source, sequence = input_.source, input_.sequence
    if sequence is None:
        storage.open(source.key, source.version).close()
        return
    keys = [sequence.key(number) for number in sequence.numbers]
    found = storage.find(keys)
    infos = [found[key] for key in keys if key in found]
    if len(infos) < len(keys) or _source_of(sequence, infos, source.store_url) != source:
        raise SourceChanged(
            "the images of this sequence changed while the job ran",
            where=source.key,
            next_step="run the same command again when they are complete",
        )


def _merged(groups: _Groups) -> _Groups:
    """The groups, with numbers that outgrew their zeros (`1000`) beside those that have some (`0999`)."""
    widths = {(prefix, suffix): width for prefix, suffix, width in groups if width}
    merged: _Groups = defaultdict(dict)
    for (prefix, suffix, width), images in groups.items():
        padded = width or widths.get((prefix, suffix), 0)
        for number, info in images.items():
            outgrew = len(str(number)) >= padded
            merged[prefix, suffix, padded if width or outgrew else 0][number] = info
    return merged


def _source_of(sequence: SequenceRef, infos: list[ObjectInfo], store_url: str) -> SourceRef:
    first, last = sequence.numbers[0], sequence.numbers[-1]
    width = sequence.num_digits
    return SourceRef(
        store_url=store_url,
        key=f"{sequence.prefix}[{first:0{width}}-{last:0{width}}]{sequence.suffix}",
        size_bytes=sum(info.size_bytes for info in infos),
        version=hash_of([[info.key, info.size_bytes, info.version] for info in infos]),
    )


def _output_name(sequence: SequenceRef, container: str) -> str:
    folder, _, stem = sequence.prefix.rpartition("/")
    name = stem.rstrip(_SEPARATORS) or folder.rpartition("/")[2] or "sequence"
    return f"{folder}/{name}.{container}" if folder else f"{name}.{container}"
