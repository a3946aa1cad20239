"""Which sources there are, and what each output will be called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cluster.job import Container, VideoSettings
from cluster.plan import Input, SourceRef
from cluster.storage import ObjectInfo, Storage, open_storage
from cluster.video.codecs import can_hold_codec, other_container
from cluster.video.containers import VIDEO_SUFFIXES, container_of, output_name
from sr_core.errors import SpecError

STATE_FOLDER = ".framelift"


@dataclass(frozen=True)
class InputSet:
    """What a job works on.

    Attributes:
        output_url: Of the store that outputs and state go to.
        inputs: Ordered by name.
        ignored: Keys in the input folder that are no videos by their names.
        report_key: Where the report goes in the output's store.
    """

    output_url: str
    report_key: str
    inputs: tuple[Input, ...]
    ignored: tuple[str, ...]


def find_inputs(source: str, output: str, video: VideoSettings) -> InputSet:
    """The inputs below `source`, a file or a folder, whose outputs go to `output`.

    Where `source` is a file and `output` has a video suffix and is no folder, `output` is the file to write;
    else it is a folder that mirrors the tree of `source`.

    Raises:
        SpecError: There is no video, two inputs would write one output, or outputs would land among inputs.
    """
    try:
        source_path, output_path = Path(source).resolve(), Path(output).resolve()
        if source_path.is_file():
            return _one_file(source_path, output_path, video)
        if source_path.is_dir():
            return _folder(source_path, output_path, video)
    except OSError as error:
        raise SpecError(
            "this path cannot be used", where=str(error.filename), got=error.strerror or str(error)
        ) from error
    raise SpecError("there is no such file or folder", where=source, next_step="check the path of the input")


def _one_file(source: Path, output: Path, video: VideoSettings) -> InputSet:
    store = open_storage(str(source.parent))
    info = store.head(source.name)
    assert info is not None, "the caller saw that it is a file"
    if output.suffix.lower() in VIDEO_SUFFIXES and not output.is_dir():
        folder, name = output.parent, output.name
        container_of(name)  # refuses what is read but not written, as .avi
        _refuse_two_containers(output, video.container)
    else:
        _refuse_file(output)
        folder, name = output, _output_name(source.name, video)
    inputs = (Input(_reference(store, info), name),)
    _refuse_overwritten_sources(inputs, source.parent, folder)
    return InputSet(str(folder), f"{STATE_FOLDER}/report.json", inputs, ())


def _folder(source: Path, output: Path, video: VideoSettings) -> InputSet:
    _refuse_file(output)
    if output == source or source in output.parents:
        raise SpecError(
            "the output lies inside the input, and would become an input itself",
            where=str(output),
            expected=f"a folder outside {source}",
            next_step="choose another output folder",
        )
    store = open_storage(str(source))
    objects = [info for info in store.list() if not _is_hidden(info.key)]
    _refuse_names(info.key for info in objects if _is_video(info.key))
    videos = [info for info in objects if _is_video(info.key)]
    inputs = tuple(Input(_reference(store, info), _output_name(info.key, video)) for info in videos)
    if not inputs:
        raise SpecError(
            "there is no video in the folder",
            where=str(source),
            got=f"{len(objects)} other files",
            expected=f"names that end in {' '.join(VIDEO_SUFFIXES)}",
        )
    _refuse_shared_outputs(inputs)
    _refuse_overwritten_sources(inputs, source, output)
    ignored = tuple(info.key for info in objects if not _is_video(info.key))
    return InputSet(str(output), "report.json", inputs, ignored)


def _output_name(key: str, video: VideoSettings) -> str:
    """The output's name: in the source's family, or where that cannot hold the codec, in one that can."""
    name = output_name(key, video.container)
    if video.container != "auto" or video.codec == "auto" or can_hold_codec(container_of(name), video.codec):
        return name
    return output_name(key, other_container(container_of(name), video.codec))


def _refuse_file(output: Path) -> None:
    is_named_as_file = output.suffix.lower() in VIDEO_SUFFIXES and not output.is_dir()
    if output.is_file() or is_named_as_file:
        raise SpecError(
            "this output must be a folder", where=str(output), next_step="give the name of a folder"
        )


def _refuse_names(keys: Iterable[str]) -> None:
    wrong = [repr(key) for key in keys if not _is_text(key)]
    if wrong:
        raise SpecError(
            f"{len(wrong)} names are not valid UTF-8, and could not be written into any report",
            got=", ".join(wrong[:3]),
            next_step="rename them",
        )


def _refuse_two_containers(output: Path, container: Container) -> None:
    if container not in ("auto", output_name(output.name, "auto").rpartition(".")[2]):
        raise SpecError(
            "the output's name and the container disagree",
            where=str(output),
            got=f"video.container {container}",
            next_step="leave the container out, or change the name",
        )


def _refuse_shared_outputs(inputs: Iterable[Input]) -> None:
    sources: dict[str, list[str]] = {}
    for input_ in inputs:
        sources.setdefault(input_.output_name, []).append(input_.source.key)
    shared = {name: keys for name, keys in sources.items() if len(keys) > 1}
    if shared:
        name, keys = next(iter(shared.items()))
        raise SpecError(
            f"{len(shared)} outputs would be written by more than one input",
            where=name,
            got=" and ".join(keys),
            next_step="rename one, or upscale them into different folders",
        )


def _refuse_overwritten_sources(inputs: Iterable[Input], source: Path, output: Path) -> None:
    sources = {(source / input_.source.key).resolve() for input_ in inputs}
    for input_ in inputs:
        if (output / input_.output_name).resolve() in sources:
            raise SpecError(
                "the output would replace a source",
                where=str(output / input_.output_name),
                next_step="choose another output",
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


def _is_video(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in VIDEO_SUFFIXES
