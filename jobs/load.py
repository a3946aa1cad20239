"""From a spec file and flags to a checked spec, with every mistake reported at once.

YAML is read as a tree of nodes, which know their lines; then each value is kept under its dotted key together
with the place that it was written at. What is right comes from the JSON Schema of the spec alone. Nothing in
a spec is expanded or run: no environment variables, no tags beyond plain scalars.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from jobs.schema import spec_schema
from jobs.spec import UpscaleSpec
from sr_core.errors import SpecError

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
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


class Given(NamedTuple):
    """A value that was given as a flag: the flag's name and what was written after it."""

    flag: str
    value: str | bool


Flags = Mapping[str, Given]
"""What was given on a command line, by the dotted key in a spec that it stands for."""


def load_spec(path: str | Path, flags: Flags | None = None) -> UpscaleSpec:
    """The spec in a YAML file, with the keys that `flags` give replaced.

    Raises:
        SpecError: With one line for each mistake: where, which key, what was got, what was expected.
    """
    refuse_s3(str(path), "a job spec")
    draft = _Draft()
    draft.read(_parse(Path(path)), str(path))
    draft.add_flags(flags or {})
    return draft.finish(f"{path}:1")


def spec_from_flags(flags: Flags) -> UpscaleSpec:
    """The spec that a command line alone gives.

    Raises:
        SpecError: As `load_spec`.
    """
    draft = _Draft()
    draft.add_flags(flags)
    return draft.finish("command line")


class _Key:
    """One key of the spec, as the schema describes it."""

    def __init__(self, name: str, schema: dict[str, Any]) -> None:
        variants = schema.get("anyOf", [schema])
        self.name = name
        self.leaf = name.rpartition(".")[2]
        self.description = str(schema.get("description", ""))
        self.types = {variant["type"] for variant in variants}
        self.choices = [choice for variant in variants for choice in variant.get("enum", [])]
        self.members = list(schema.get("properties", {}))
        self.has_pattern = any("pattern" in variant for variant in variants)
        self.expected = " or ".join(_expected(variant) for variant in variants if variant["type"] != "null")

    @property
    def is_section(self) -> bool:
        """Whether it holds further keys."""
        return "object" in self.types

    def takes(self, value: object) -> bool:
        """Whether a value of this kind can be right."""
        kind = _JSON_TYPES.get(type(value), "")
        return kind in self.types or (kind == "integer" and "number" in self.types)


def _expected(variant: dict[str, Any]) -> str:
    if "enum" in variant:
        return f"one of {', '.join(variant['enum'])}"
    match variant["type"]:
        case "object":
            return f"keys below it: {', '.join(variant['properties'])}"
        case "boolean":
            return "true or false"
        case "string":
            return "a text"
    noun = "an integer" if variant["type"] == "integer" else "a number"
    low, high = variant.get("minimum"), variant.get("maximum")
    if "exclusiveMinimum" in variant:
        return f"{noun} above {variant['exclusiveMinimum']:g}"
    if high is not None:
        return f"{noun} from {low:g} to {high:g}"
    return noun if low is None else f"{noun} from {low:g} upwards"


def _all_keys() -> dict[str, _Key]:
    schema = spec_schema()

    def walk(part: dict[str, Any], prefix: str) -> Iterator[_Key]:
        for name, child in part["properties"].items():
            section = schema["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else child
            yield _Key(prefix + name, {**section, **child})
            if "$ref" in child:
                yield from walk(section, f"{prefix}{name}.")

    return {key.name: key for key in walk(schema, "")}


@dataclass
class _Draft:
    """A spec in the making.

    Attributes:
        values: By dotted key; sections are not among them.
        places: Where each key was written: `file:line` or a flag.
        mistakes: (order, message) of each.
    """

    keys: dict[str, _Key] = field(default_factory=_all_keys)
    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, tuple[int, str]] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)

    def read(self, root: yaml.MappingNode, file: str, section: str = "") -> None:
        """Takes over what a mapping holds. It goes only as deep as the spec has sections."""
        for name_node, node in root.value:
            line = name_node.start_mark.line + 1
            place = (line, f"{file}:{line}")
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else "?"
            self._take(f"{section}{name}", node, place, file)

    def add_flags(self, flags: Flags) -> None:
        """Puts what flags say in the place of what the file says."""
        for name, given in flags.items():
            self.places[name] = (1_000_000_000, given.flag)
            self.values.pop(name, None)
            if isinstance(given.value, bool):
                self.values[name] = given.value
            else:
                self._keep(self.keys[name], _scalar_node(given.value))

    def finish(self, default_place: str) -> UpscaleSpec:
        """The spec, if there was no mistake.

        Raises:
            SpecError: There was one, or more.
        """
        spec = None
        try:
            spec = UpscaleSpec.model_validate_json(json.dumps(_nested(self.values)), strict=True)
        except ValidationError as error:
            self._refuse_invalid(error, default_place)
        if spec is None or self.mistakes:
            raise SpecError("\n".join(text for _, text in sorted(self.mistakes, key=lambda item: item[0])))
        return spec

    def _take(self, name: str, node: yaml.Node, place: tuple[int, str], file: str) -> None:
        if name in self.places:
            return self._refuse(place, name, f"given twice, the first time at {self.places[name][1]}")
        self.places[name] = place
        key = self.keys.get(name)
        if key is None:
            return self._refuse(place, name, self._unknown(name))
        if not key.is_section:
            return self._keep(key, node)
        if isinstance(node, yaml.MappingNode):
            return self.read(node, file, f"{name}.")
        if not (isinstance(node, yaml.ScalarNode) and _is_null(node)):  # with all keys commented out
            self._refuse(place, name, f"got {_got(node)}, expected {key.expected}")
        return None

    def _keep(self, key: _Key, node: yaml.Node) -> None:
        place = self.places[key.name]
        if not isinstance(node, yaml.ScalarNode):
            return self._refuse(place, key.name, f"got {_got(node)}, expected {key.expected}")
        try:
            value = _scalar(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = getattr(error, "problem", None) or str(error)
            return self._refuse(place, key.name, f"{problem}; expected {key.expected}")
        # `preset: 8`, a folder named 2024, `deinterlace: off`: where only text can be right, what stands
        # there is meant as text.
        as_text = not key.takes(value) and "string" in key.types and not _is_null(node)
        self.values[key.name] = node.value if as_text else value
        return None

    def _refuse_invalid(self, error: ValidationError, default_place: str) -> None:
        wrong: dict[str, str] = {}
        for detail in error.errors(include_url=False):
            name = self._key_of(detail["loc"])
            problem = self._problem(self.keys[name], is_missing=detail["type"] == "missing")
            if detail["type"] == "value_error":  # of keys that do not fit each other
                problem = str(detail["ctx"]["error"])
            own = (name, problem)
            for culprit, problem in detail.get("ctx", {}).get("misfits", (own,)):
                wrong.setdefault(culprit, problem)
        for name, problem in wrong.items():
            section = name.rpartition(".")[0]
            place = self.places.get(name) or self.places.get(section) or (1, default_place)
            is_new = name in self.values or name not in self.places or self.keys[name].is_section
            if is_new:  # else it was refused already
                self._refuse(place, name, problem)

    def _key_of(self, loc: tuple[int | str, ...]) -> str:
        """The key of pydantic's location, which may go on into the variants of a type."""
        names = [".".join(map(str, loc[:length])) for length in range(len(loc), 0, -1)]
        return next(name for name in names if name in self.keys)

    def _problem(self, key: _Key, *, is_missing: bool) -> str:
        if is_missing:
            return f"missing, expected {key.expected}: {key.description}"
        value = self.values.get(key.name)
        near = _nearest_choice(value, key.choices)
        expected = f"{key.expected}: {key.description}" if key.has_pattern else key.expected
        return f"got {_shown(value)}, expected {expected}" + (f"; did you mean {near!r}?" if near else "")

    def _refuse(self, place: tuple[int, str], name: str, problem: str) -> None:
        order, where = place
        self.mistakes.append((order, f"{where}: {_printable(name)}: {problem}"))

    def _unknown(self, name: str) -> str:
        near = self._nearest_key(name)
        if near:
            return f"unknown key; did you mean {near!r}?"
        section = name.rpartition(".")[0]
        siblings = self.keys[section].members if section else [key for key in self.keys if "." not in key]
        return f"unknown key, expected one of {', '.join(siblings)}"

    def _nearest_key(self, name: str) -> str | None:
        section, _, leaf = name.rpartition(".")
        if leaf in _ALSO_CALLED and _ALSO_CALLED[leaf] in self.keys:
            return _ALSO_CALLED[leaf]
        matcher = difflib.SequenceMatcher(b=leaf.lower())

        def likeness(key: _Key) -> float:
            matcher.set_seq1(key.leaf)
            at_home = key.name.rpartition(".")[0] == section
            return matcher.ratio() + (0.1 if at_home else 0.0)

        best = max(self.keys.values(), key=likeness)
        return best.name if likeness(best) >= _LIKE_ENOUGH else None


def _parse(path: Path) -> yaml.MappingNode:
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
        raise SpecError("the job spec is empty", where=str(path), expected="at least input and output")
    if not isinstance(root, yaml.MappingNode):
        where = f"{path}:{root.start_mark.line + 1}"
        raise SpecError("a job spec has keys with values", where=where, got=_got(root), expected="input: …")
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


def _read_text(path: Path) -> str:
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
    return value if type(value) in _JSON_TYPES else node.value


def _scalar_node(text: str) -> yaml.ScalarNode:
    resolver = yaml.resolver.Resolver()
    tag = resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return yaml.ScalarNode(tag, text)


def _is_null(node: yaml.ScalarNode) -> bool:
    return str(node.tag) == "tag:yaml.org,2002:null"


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    return nested


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
        case bool():
            return str(value).lower()
        case str() if "@" in value and "://" in value:
            return "a URL with what may be a password"  # which is not repeated
        case str() if len(value) > 60:
            return repr(value[:57] + "…")
    return repr(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
