"""Which sources there are, and what each output will be called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from cluster import layout
from cluster.images.info import IMAGE_SUFFIXES, image_output_name
from cluster.job import ImageSettings, SequenceSettings, VideoSettings
from cluster.places import Place, place_of
from cluster.plan import Input, SourceRef
from cluster.sequences import find_sequences
from cluster.storage import ObjectInfo, Storage, open_storage
from cluster.video.codecs import can_hold_codec, other_container
from cluster.video.containers import VIDEO_SUFFIXES, Container, container_of, output_name
from cluster.video.encoders import CodecName
from sr_core.errors import SpecError

_MAX_LISTED = 20
ANIMATION_SUFFIXES = (".gif",)
_OF_SEQUENCES: Container = "mkv"  # which holds what loses nothing


@dataclass(frozen=True)
class InputSet:
    """What a job works on.

    Attributes:
        output_url: Of the store that outputs and state go to.
        inputs: Ordered by name.
        ignored: Keys in the input folder that are neither videos nor images by their names.
        refused: Sources that fail by their names alone, and why.
        report_key: Where the report goes in the output's store.
    """

    output_url: str
    report_key: str
    inputs: tuple[Input, ...]
    ignored: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()


def find_inputs(
    source: str,
    output: str,
    video: VideoSettings,
    image: ImageSettings,
    sequences: SequenceSettings = SequenceSettings(),  # noqa: B008
) -> InputSet:
    """The inputs below `source`, a file or a folder, whose outputs go to `output`.

    Either may lie in a bucket: then an object is a file, and a prefix that holds objects is a folder. Where
    `source` is a file and `output` has a suffix of its kind and is no folder, `output` is the file to write;
    else it is a folder that mirrors the tree of `source`.

    Raises:
        SpecError: There is nothing to upscale, two inputs would write one output, or outputs would land among
            inputs.
        StorageError: A bucket cannot be read.
    """
    try:
        found, target = place_of(source), place_of(output)
        names = _Names(video, image, sequences)
        if found.is_file:
            return _one_file(found, target, names)
        if found.is_folder:
            return _folder(found, target, names)
    except OSError as error:
        raise SpecError(
            "this path cannot be used", where=str(error.filename), got=error.strerror or str(error)
        ) from error
    raise SpecError(f"there is no such {found.kinds}", where=source, next_step="check the path of the input")


def state_folder(output: Place) -> Place:
    """Where a job keeps its state that writes to `output`: of a single file, in that file's folder."""
    return output.parent if _is_file_to_be(output) or output.is_file else output


@dataclass(frozen=True)
class _Names:
    """What outputs are called, as the settings ask."""

    video: VideoSettings
    image: ImageSettings
    sequences: SequenceSettings

    def is_input(self, key: str) -> bool:
        """Whether a file is a video or an image by its name."""
        return _has_suffix(key, VIDEO_SUFFIXES) or _has_suffix(key, IMAGE_SUFFIXES)

    def is_image(self, key: str) -> bool:
        """Whether a source becomes an image. GIFs do, unless they are asked for as videos."""
        is_animation = _has_suffix(key, ANIMATION_SUFFIXES)
        return _has_suffix(key, IMAGE_SUFFIXES) and not (is_animation and self.video.container != "auto")

    def output_name(self, key: str) -> str:
        """The name for `key`: in its own family, or where that cannot hold the codec, in another."""
        if self.is_image(key):
            return image_output_name(key, self.image.format)
        settings, name = self.video, output_name(key, self.video.container)
        if settings.container != "auto" or settings.codec == "auto":
            return name
        if can_hold_codec(container_of(name), settings.codec):
            return name
        return output_name(key, other_container(container_of(name), settings.codec))

    def sequences_among(
        self, objects: list[ObjectInfo], store: Storage
    ) -> tuple[list[Input], list[ObjectInfo]]:
        """The numbered images that are videos, where that is asked for, and the objects that are not."""
        frame_rate = self.sequences.exact_rate
        if frame_rate is None:
            return [], objects
        container = self.video.container if self.video.container != "auto" else _OF_SEQUENCES
        if self.video.container == "auto" and not can_hold_codec(container, self._sequence_codec):
            container = other_container(container, self._sequence_codec)
        return find_sequences(objects, store.url, frame_rate, container)

    @property
    def _sequence_codec(self) -> CodecName:
        return "ffv1" if self.video.codec == "auto" else self.video.codec

    def refuse(self, source: str, output: Place) -> None:
        """Refuses the name of a single output that contradicts the source or the settings."""
        if _has_suffix(output.name, IMAGE_SUFFIXES):
            if not self.is_image(source):
                raise SpecError("a video cannot become an image", where=output.url, got=source)
            _refuse_contradiction(output, image_output_name(output.name, self.image.format), "image.format")
            return
        container_of(output.name)  # refuses what is read but not written, as .avi
        if _has_suffix(source, IMAGE_SUFFIXES) and not _has_suffix(source, ANIMATION_SUFFIXES):
            raise SpecError("an image cannot become a video", where=output.url, got=source)
        _refuse_contradiction(output, output_name(output.name, self.video.container), "video.container")


def _refuse_contradiction(output: Place, named: str, key: str) -> None:
    if named != output.name:
        raise SpecError(
            f"the output's name and {key} disagree",
            where=output.url,
            expected=f"a name like {named}",
            next_step=f"leave {key} out, or change the name",
        )


def _one_file(source: Place, output: Place, names: _Names) -> InputSet:
    store = open_storage(source.parent.url)
    info = store.head(source.name)
    if info is None:
        raise SpecError("the input is gone again", where=source.url)
    if names.is_input(output.name) and not output.is_folder:
        folder, name = output.parent, output.name
        names.refuse(source.name, output)
    else:
        _refuse_file(output)
        folder, name = output, names.output_name(source.name)
    inputs = (Input(_reference(store, info), name),)
    _refuse_overwritten_sources(inputs, source.parent, folder)
    return InputSet(folder.url, layout.REPORT, inputs, ())


def _folder(source: Place, output: Place, names: _Names) -> InputSet:
    _refuse_file(output)
    if source.holds(output):
        raise SpecError(
            "the output lies inside the input, and would become an input itself",
            where=output.url,
            expected=f"a folder outside {source.url}",
            next_step="choose another output folder",
        )
    store = open_storage(source.url)
    objects = [info for info in store.list() if not _is_hidden(info.key)]
    sequences, singles = names.sequences_among(objects, store)
    found = [info for info in singles if names.is_input(info.key)]
    ignored = tuple(info.key for info in singles if not names.is_input(info.key))
    singly = (Input(_reference(store, info), names.output_name(info.key)) for info in found)
    wanted = sorted([*singly, *sequences], key=lambda input_: input_.source.key)
    wrong = [_wrong_name(input_, output) for input_ in wanted]
    inputs = tuple(input_ for input_, why in zip(wanted, wrong, strict=True) if not why)
    refused = tuple(
        (_printable(each.source.key), why) for each, why in zip(wanted, wrong, strict=True) if why
    )
    if not wanted:
        raise SpecError(
            "there is neither a video nor an image in the folder",
            where=source.url,
            got=f"{len(objects)} other files",
            expected=f"names that end in {' '.join((*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))}",
        )
    _refuse_shared_outputs(inputs)
    _refuse_overwritten_sources(inputs, source, output)
    return InputSet(output.url, "report.json", inputs, tuple(map(_printable, ignored)), refused)


def _refuse_file(output: Place) -> None:
    if _is_file_to_be(output) or output.is_file:
        raise SpecError(
            "this output must be a folder", where=output.url, next_step="give the name of a folder"
        )


def _is_file_to_be(output: Place) -> bool:
    """Whether it is named like a file, and is no folder."""
    return _has_suffix(output.name, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)) and not output.is_folder


def _wrong_name(input_: Input, output: Place) -> str:
    """Why a source fails by its name alone; empty if it does not."""
    if not _is_text(input_.source.key):
        return "its name is not valid UTF-8, and could not be written into any report; rename it"
    if "" in input_.source.key.split("/"):
        return "its name has nothing between two slashes, which no folder can mirror; rename it"
    return output.misfit(input_.output_name)


def _printable(key: str) -> str:
    """A name as it can be written down: bytes that are no UTF-8 as `\\xe9`."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _refuse_shared_outputs(inputs: Iterable[Input]) -> None:
    sources: dict[str, list[str]] = {}
    for input_ in inputs:
        sources.setdefault(input_.output_name, []).append(input_.source.key)
    shared = {name: keys for name, keys in sources.items() if len(keys) > 1}
    if shared:
        listed = [f"{name} from {' and '.join(keys)}" for name, keys in shared.items()]
        more = f"; and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
        raise SpecError(
            "outputs would be written by more than one input",
            got="; ".join(listed[:_MAX_LISTED]) + more,
            next_step="rename one, or upscale them into different folders",
        )


def _refuse_overwritten_sources(inputs: Iterable[Input], source: Place, output: Place) -> None:
    sources = {source.child(input_.source.key) for input_ in inputs}
    for input_ in inputs:
        target = output.child(input_.output_name)
        if target in sources:
            raise SpecError(
                "the output would replace a source", where=target.url, next_step="choose another output"
            )


def _reference(store: Storage, info: ObjectInfo) -> SourceRef:
    return SourceRef(store.url, info.key, info.size_bytes, info.version)


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(key).parts)


def _is_text(key: str) -> bool:
    """Whether a name can be written down: on Linux, names are bytes of any kind."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    return PurePosixPath(name).suffix.lower() in suffixes
