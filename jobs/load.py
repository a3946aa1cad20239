"""From a spec file and flags to a checked spec, with every mistake reported at once.

YAML is read as a tree of nodes, which know their lines, along the tree of keys that the spec's JSON Schema
gives; of each key the place that it was written at is kept. Nothing in a spec is expanded or run: no
environment variables, no tags beyond plain scalars.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Generic, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from jobs.keys import Key, Path, dotted, paths, pattern
from jobs.schema import spec_schema
from jobs.spec import UpscaleSpec
from sr_core.errors import SpecError

Spec = TypeVar("Spec", bound=BaseModel)
_Place = tuple[int, str]
"""Order among all, and `file:line` or a flag."""

# Spellings from elsewhere that no measure of likeness would find.
_ALSO_CALLED = {
    "avc": "h264",
    "x264": "h264",
    "libx264": "h264",
    "h265": "hevc",
    "x265": "hevc",
    "libx265": "hevc",
    "libvpx-vp9": "vp9",
    "libsvtav1": "av1",
    "matroska": "mkv",
    "quicktime": "mov",
    "float32": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "gpu": "cuda",
    "lr": "learning_rate",
    "iterations": "images",
    "epochs": "images",
    "crf": "video.quality",
    "format": "video.container",
    "encoder": "video.codec",
    "weights": "model",
    "factor": "scale",
    "resolution": "height",
    "endpoint": "storage.endpoint_url",
    "checksum": "storage.checksums",
}
_LIKE_ENOUGH = 0.6
_FLAG_ORDER = 1_000_000_000  # behind all lines
# As people write numbers, and YAML 1.1 takes them for text.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_PLAIN_VALUES = (str, bool, int, float, type(None))


class Given(NamedTuple):
    """A value that was given as a flag: the flag's name and what was written after it."""

    flag: str
    value: str | bool


Flags = Mapping[str, Given]
"""What was given on a command line, by the dotted key in a spec that it stands for."""


def load_spec(path: str | FilePath, flags: Flags | None = None) -> UpscaleSpec:
    """The job in a YAML file, as `load` gives it."""
    return load(UpscaleSpec, path, flags)


def load(kind: type[Spec], path: str | FilePath, flags: Flags | None = None) -> Spec:
    """The spec in a YAML file, with the keys that `flags` give replaced.

    Raises:
        SpecError: With one line for each mistake: where, which key, what was got, what was expected.
    """
    refuse_s3(str(path), "a job spec")
    draft = _Draft(kind, flags or {})
    draft.read(_parse(FilePath(path), draft.required), str(path))
    return draft.finish(f"{path}:1")


def spec_from_flags(flags: Flags) -> UpscaleSpec:
    """The job that a command line alone gives, as `load_flags` does."""
    return load_flags(UpscaleSpec, flags)


def load_flags(kind: type[Spec], flags: Flags) -> Spec:
    """The spec that a command line alone gives.

    Raises:
        SpecError: As `load`.
    """
    return _Draft(kind, flags).finish("command line")


class _Misfit(Exception):  # noqa: N818 - it is a mistake of the user, told with others
    """What stands at a place cannot be taken over."""


class _Draft(Generic[Spec]):
    """A spec in the making.

    Attributes:
        required: Keys that must be there.
    """

    def __init__(self, kind: type[Spec], flags: Flags) -> None:
        schema = spec_schema(kind)
        self.required: list[str] = schema["required"]
        self._kind = kind
        self._root = Key.of(schema, schema["$defs"])
        self._flags = {_path_of(name): given for name, given in flags.items()}
        self._file = ""
        self._values: dict[str, Any] = {}
        self._places: dict[Path, _Place] = {}
        self._mistakes: list[tuple[int, str]] = []
        self._refused: set[Path] = set()  # of which nothing more needs to be said

    def read(self, root: yaml.MappingNode, file: str) -> None:
        """Takes over what a file holds. It goes only as deep as the spec has sections."""
        self._file = file
        self._values = self._section(self._root, root, ())

    def finish(self, default_place: str) -> Spec:
        """The spec, if there was no mistake.

        Raises:
            SpecError: There was one, or more.
        """
        for path, given in self._flags.items():
            self._add_flag(path, given)
        spec = None
        try:
            spec = self._kind.model_validate_json(json.dumps(self._values), strict=True)
        except ValidationError as error:
            self._refuse_invalid(error, default_place)
        if spec is None or self._mistakes:
            raise SpecError("\n".join(text for _, text in sorted(self._mistakes, key=lambda item: item[0])))
        return spec

    def _add_flag(self, path: Path, given: Given) -> None:
        """Puts what a flag says in the place of what the file says."""
        self._places[path] = (_FLAG_ORDER, given.flag)
        section, key = self._values, self._root
        for part in path[:-1]:
            key = key.members()[str(part)]
            section = section.setdefault(str(part), {})
        node = given.value if isinstance(given.value, bool) else _scalar_node(given.value)
        self._put(section, key.members()[str(path[-1])], node, path)

    def _section(self, key: Key, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        kind = self._kind_of(key, node, path)
        for name_node, child in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else "?"
            here, place = (*path, name), self._place(name_node)
            if here in self._places:
                self._refuse(place, here, f"given twice, the first time at {self._places[here][1]}")
                continue
            self._places[here] = place
            member = key.members(kind).get(name)
            if member is None:
                self._refuse(place, here, self._unknown(here, key, kind))
            elif here not in self._flags and not _is_commented_out(member, child):
                self._put(values, member, child, here)
        return values

    def _kind_of(self, key: Key, node: yaml.MappingNode, path: Path) -> object:
        """What a section says of which kind it is; None where it has none, or a wrong one, which is told."""
        if key.tag is None:
            return None
        choices = list(key.kinds)
        for name_node, child in node.value:
            if name_node.value == key.tag:
                kind = child.value if isinstance(child, yaml.ScalarNode) else None
                if kind not in choices:
                    problem = f"got {_got(child)}, expected one of {', '.join(choices)}"
                    self._refuse(
                        self._place(name_node), (*path, key.tag), problem + _did_you_mean(kind, choices)
                    )
                    self._refused.add(path)
                    return None
                return kind
        problem = f"missing, expected one of {', '.join(choices)}: {key.members()[key.tag].description}"
        self._refuse(self._places[path], (*path, key.tag), problem)
        self._refused.add(path)
        return None

    def _put(self, into: dict[str, Any] | list[Any], key: Key, node: yaml.Node | bool, path: Path) -> None:
        """Takes over what stands at `path`, or says why not."""
        try:
            value = node if isinstance(node, bool) else self._value(key, node, path)
        except _Misfit as misfit:
            self._refuse(self._places[path], path, str(misfit))
            self._refused.add(path)
            value = None
        if isinstance(into, list):
            into.append(value)
        elif path not in self._refused:
            into[str(path[-1])] = value

    def _value(self, key: Key, node: yaml.Node, path: Path) -> object:
        if key.is_section and isinstance(node, yaml.MappingNode):
            return self._section(key, node, path)
        if key.is_list and isinstance(node, yaml.SequenceNode):
            return self._list(key, node, path)
        if not isinstance(node, yaml.ScalarNode) or key.is_section or key.is_list:
            raise _Misfit(f"got {_got(node)}, expected {key.expected}")
        return _scalar_for(key, node)

    def _list(self, key: Key, node: yaml.SequenceNode, path: Path) -> list[Any]:
        values: list[Any] = []
        for number, child in enumerate(node.value):
            here, item = (*path, number), key.item(number)
            if item is None:
                raise _Misfit(f"got a list of {len(node.value)}, expected {key.expected}")
            self._places[here] = self._place(child)
            self._put(values, item, child, here)
        return values

    def _refuse_invalid(self, error: ValidationError, default_place: str) -> None:
        wrong: dict[Path, str] = {}
        for detail in error.errors(include_url=False):
            path, key = self._meant(detail["loc"])
            context = detail.get("ctx", {})
            if detail["type"] == "too_short" and len(self._at(path)) >= context["min_length"]:
                continue  # of its items some are wrong, which are told
            for culprit, problem in self._problems(path, key, detail["type"], context):
                wrong.setdefault(culprit, problem)
        for path, problem in wrong.items():
            above = [path[:length] for length in range(len(path), 0, -1)]
            if not self._refused.intersection(above):
                place = next(
                    (self._places[each] for each in above if each in self._places), (1, default_place)
                )
                self._refuse(place, path, problem)

    def _problems(
        self, path: Path, key: Key, kind: str, context: Mapping[str, Any]
    ) -> Iterator[tuple[Path, str]]:
        """What one error of pydantic says, as (where, problem)."""
        if "misfits" in context:  # of keys that do not fit each other, by their names in the whole spec
            yield from ((_path_of(name), problem) for name, problem in context["misfits"])
        elif kind == "misfit":  # of a section, of which one key may be named, by the end of its path
            end = _path_of(context["key"])
            below = (each for each in self._places if each[: len(path)] == path)
            yield next((each for each in below if each[-len(end) :] == end), path), context["problem"]
        elif kind == "value_error":
            yield path, str(context["error"])
        elif kind == "missing" and isinstance(path[-1], int):  # in a list that is too short
            _, whole = self._meant(path[:-1])
            yield path[:-1], _problem(whole, self._at(path[:-1]))
        elif kind == "missing":
            yield path, f"missing, expected {key.expected}: {key.description}"
        else:
            yield path, _problem(key, self._at(path))

    def _meant(self, loc: Path) -> tuple[Path, Key]:
        """The place that pydantic means, which also names kinds of sections and variants of types."""
        path: Path = ()
        key, kind = self._root, None
        for part in loc:
            if kind is None and key.tag is not None and part in key.kinds:
                kind = part
                continue
            child = key.item(part) if isinstance(part, int) else key.members(kind).get(part)
            if child is None:
                break
            path, key, kind = (*path, part), child, None
        return path, key

    def _at(self, path: Path) -> Any:
        value: Any = self._values
        for part in path:
            value = value[part]
        return value

    def _place(self, node: yaml.Node) -> _Place:
        line = node.start_mark.line + 1
        return line, f"{self._file}:{line}"

    def _refuse(self, place: _Place, path: Path, problem: str) -> None:
        order, where = place
        self._mistakes.append((order, f"{where}: {_printable(dotted(path))}: {problem}"))

    def _unknown(self, path: Path, section: Key, kind: object) -> str:
        siblings = section.members(kind)
        if path[-1] in section.members():
            return f"no key of {kind}, expected one of {', '.join(siblings)}"
        near = self._nearest(path, siblings)
        if near:
            return f"unknown key; did you mean {dotted(near)!r}?"
        return f"unknown key, expected one of {', '.join(siblings)}"

    def _nearest(self, path: Path, siblings: Mapping[str, Key]) -> Path | None:
        home, leaf = path[:-1], str(path[-1])
        candidates = [(*home, name) for name in siblings]
        candidates += [each for each, _ in paths(self._root) if pattern(each[:-1]) != pattern(home)]
        candidates = [each for each in candidates if isinstance(each[-1], str)]
        if leaf in _ALSO_CALLED:
            called = _ALSO_CALLED[leaf]
            for each in candidates:
                if called in (dotted(each), each[-1]):
                    return each
        matcher = difflib.SequenceMatcher(b=leaf.lower())

        def likeness(candidate: Path) -> float:
            matcher.set_seq1(str(candidate[-1]))
            return matcher.ratio() + (0.1 if candidate[:-1] == home else 0.0)

        best = max(candidates, key=likeness)
        return best if likeness(best) >= _LIKE_ENOUGH else None


def _path_of(name: str) -> Path:
    """What `dotted` makes a name of."""
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def _scalar_for(key: Key, node: yaml.ScalarNode) -> object:
    """What a scalar says, as far as it is a value that `key` may have."""
    try:
        value = _scalar(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise _Misfit(f"{problem}; expected {key.expected}") from error
    if isinstance(value, str) and node.style is None and _EXPONENT.fullmatch(value):
        number = float(value)
        value = int(number) if number.is_integer() and key.takes(1) and not key.takes(0.5) else number
    if isinstance(value, float) and not math.isfinite(value):
        raise _Misfit(_problem(key, value))
    # `preset: 8`, a folder named 2024, `deinterlace: off`: where only text can be right, what stands
    # there is meant as text.
    as_text = not key.takes(value) and key.takes("") and not _is_null(node)
    return node.value if as_text else value


def _problem(key: Key, value: object) -> str:
    expected = f"{key.expected}: {key.description}" if key.has_pattern else key.expected
    return f"got {_shown(value)}, expected {expected}{_did_you_mean(value, key.choices)}"


def _did_you_mean(value: object, choices: list[str]) -> str:
    near = _nearest_choice(value, choices)
    return f"; did you mean {near!r}?" if near else ""


def _is_commented_out(key: Key, node: yaml.Node) -> bool:
    """Whether a section or list stands there with nothing below it, and so keeps its defaults."""
    return (key.is_section or key.is_list) and isinstance(node, yaml.ScalarNode) and _is_null(node)


def _parse(path: FilePath, required: list[str]) -> yaml.MappingNode:
    try:
        root = yaml.compose(_read_text(path), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = ", ".join(text for text in (error.context, error.problem) if text)
        raise SpecError(f"not valid YAML: {problem}", where=f"{path}:{line}") from error
    except yaml.YAMLError as error:
        raise SpecError("not valid YAML", where=str(path), got=" ".join(str(error).split())) from error
    except RecursionError as error:
        raise SpecError("too deeply nested", where=str(path)) from error
    if root is None:
        raise SpecError(
            "the job spec is empty", where=str(path), expected=f"at least {' and '.join(required)}"
        )
    if not isinstance(root, yaml.MappingNode):
        where = f"{path}:{root.start_mark.line + 1}"
        raise SpecError(
            "a job spec has keys with values", where=where, got=_got(root), expected=f"{required[0]}: …"
        )
    return root


def refuse_s3(path: str, what: str) -> None:
    """Raises `SpecError` where what must lie on this machine is named by an S3 URL."""
    if path.startswith(("s3:/", "S3:/")):  # two slashes are one in a path
        raise SpecError(
            f"{what} lies on this machine",
            where=path,
            expected="a path",
            next_step="inputs, outputs and weights may be s3://bucket/prefix",
        )


def _read_text(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SpecError("there is no such job spec", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise SpecError("the job spec is not UTF-8 text", where=str(path), got=str(error)) from error
    except OSError as error:
        raise SpecError("the job spec cannot be read", where=str(path), got=str(error)) from error


def _scalar(node: yaml.ScalarNode) -> object:
    """The value of a plain scalar: text, number, boolean or None; dates and the like stay text."""
    value = yaml.constructor.SafeConstructor().construct_object(node)
    return value if type(value) in _PLAIN_VALUES else node.value


def _scalar_node(text: str) -> yaml.ScalarNode:
    resolver = yaml.resolver.Resolver()
    tag = resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return yaml.ScalarNode(tag, text)


def _is_null(node: yaml.ScalarNode) -> bool:
    return str(node.tag) == "tag:yaml.org,2002:null"


def _nearest_choice(value: object, choices: list[str]) -> str | None:
    text = str(value).lower()
    if _ALSO_CALLED.get(text) in choices:
        return _ALSO_CALLED[text]
    near = difflib.get_close_matches(text, choices, n=1, cutoff=_LIKE_ENOUGH)
    return near[0] if near else None


def _got(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if _is_null(node) else _shown(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys below it"


def _shown(value: object) -> str:
    match value:
        case None | "":
            return "nothing"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case bool():
            return str(value).lower()
        case str() if "@" in value and "://" in value:
            return "a URL with what may be a password"  # which is not repeated
        case str() if len(value) > 60:
            return repr(value[:57] + "…")
    return repr(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
