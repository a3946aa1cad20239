"""What may stand in a spec, as its JSON Schema says it: a tree of keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_PLURALS = {
    "an integer": "integers",
    "a number": "numbers",
    "a text": "texts",
    "true or false": "true or false",
}

Path = tuple[str | int, ...]
"""Where something stands in a spec: names of keys, and numbers of items in lists."""


@dataclass(frozen=True)
class Key:
    """What may stand at one place of a spec. It may be several things, as a number or a text.

    Attributes:
        schema: Of this place, with whatever it refers to put in.
        variants: What it may be, null left out.
        definitions: Of the whole spec.
    """

    schema: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...]
    definitions: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Key:
        """What a part of a JSON Schema says."""
        whole = {**_referred(schema, definitions), **schema}
        variants = tuple(_referred(each, definitions) for each in whole.get("anyOf", [whole]))
        return Key(whole, tuple(each for each in variants if each.get("type") != "null"), definitions)

    @property
    def description(self) -> str:
        """What it means, in a sentence."""
        return str(self.schema.get("description", ""))

    @cached_property
    def choices(self) -> list[str]:
        """Words that may stand here."""
        return [choice for each in self.variants for choice in _choices(each)]

    @property
    def has_pattern(self) -> bool:
        """Whether texts must have a form that only the description tells."""
        return any("pattern" in each for each in self.variants)

    @property
    def is_section(self) -> bool:
        """Whether it holds further keys."""
        return any("properties" in each or "oneOf" in each for each in self.variants)

    @property
    def is_list(self) -> bool:
        """Whether it holds items."""
        return any(each.get("type") == "array" for each in self.variants)

    @property
    def tag(self) -> str | None:
        """The key that says which further keys there are, in a section that has kinds."""
        return next(
            (each["discriminator"]["propertyName"] for each in self.variants if "oneOf" in each), None
        )

    @cached_property
    def kinds(self) -> Mapping[str, Mapping[str, Key]]:
        """The keys of each kind of a section by what `tag` says; of one without kinds, by the empty text."""
        found: dict[str, Mapping[str, Key]] = {}
        for each in self.variants:
            if "oneOf" in each:
                for name, reference in each["discriminator"]["mapping"].items():
                    found[name] = self._members(_referred({"$ref": reference}, self.definitions))
            elif "properties" in each:
                found[""] = self._members(each)
        return found

    def members(self, kind: object = None) -> Mapping[str, Key]:
        """The keys of a section; where it has kinds and none of them is meant, of all."""
        if isinstance(kind, str) and kind in self.kinds:
            return self.kinds[kind]
        return {name: key for members in self.kinds.values() for name, key in members.items()}

    def item(self, number: int) -> Key | None:
        """What may stand in a list at a place; None where it is too long for that."""
        for each in self.variants:
            if each.get("type") == "array":
                first = each.get("prefixItems", [])
                schema = first[number] if number < len(first) else each.get("items")
                return Key.of(schema, self.definitions) if schema else None
        return None

    def takes(self, value: object) -> bool:
        """Whether a value of this kind can be right."""
        kind = _JSON_TYPES.get(type(value), "")
        types = {each.get("type") for each in self.variants}
        return kind in types or (kind == "integer" and "number" in types)

    def takes_only(self, *types: str) -> bool:
        """Whether nothing but values of these JSON types can be right."""
        return {each.get("type") for each in self.variants} <= set(types)

    @property
    def expected(self) -> str:
        """What may stand here, in words."""
        return " or ".join(self._expected(each) for each in self.variants)

    def _members(self, section: Mapping[str, Any]) -> dict[str, Key]:
        return {name: Key.of(each, self.definitions) for name, each in section["properties"].items()}

    def _expected(self, variant: Mapping[str, Any]) -> str:
        if _choices(variant):
            return f"one of {', '.join(_choices(variant))}"
        if "oneOf" in variant:
            return f"keys below it, {self.tag} among them"
        match variant["type"]:
            case "object":
                return f"keys below it: {', '.join(variant['properties'])}"
            case "array":
                return self._expected_list(variant)
            case "boolean":
                return "true or false"
            case "string":
                return "a text"
        return _expected_number(variant)

    def _expected_list(self, variant: Mapping[str, Any]) -> str:
        item = self.item(0)
        if item is None or item.is_section:
            return "a list of such sections" if item is None else f"a list, each item with {item.expected}"
        noun, least = _PLURALS.get(item.expected, item.expected), variant.get("minItems", 0)
        if least and least == variant.get("maxItems"):
            return f"a list of {least} {noun}"
        return f"a list of {noun}" + (f", {least} at least" if least else "")


def paths(key: Key, path: Path = ()) -> Iterator[tuple[Path, Key]]:
    """All keys below one, with places where they may stand: of lists in the first item, and of each kind."""
    for members in key.kinds.values():
        for name, child in members.items():
            yield (*path, name), child
            yield from paths(child, (*path, name))
    item = key.item(0)
    if item is not None:
        yield from paths(item, (*path, 0))


def pattern(path: Path) -> Path:
    """Where something stands, without saying in which items of lists."""
    return tuple(part for part in path if isinstance(part, str))


def dotted(path: Path) -> str:
    """A place as people write it: `stages.0.learning_rate`."""
    return ".".join(map(str, path))


def _referred(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    referred: Mapping[str, Any] = definitions[schema["$ref"].rpartition("/")[2]]
    return referred


def _choices(variant: Mapping[str, Any]) -> list[str]:
    return [variant["const"]] if "const" in variant else list(variant.get("enum", []))


def _expected_number(variant: Mapping[str, Any]) -> str:
    noun = "an integer" if variant["type"] == "integer" else "a number"
    low, high = variant.get("minimum"), variant.get("maximum")
    above, below = variant.get("exclusiveMinimum"), variant.get("exclusiveMaximum")
    if above is not None:
        return f"{noun} above {above:g}" + (f" and below {below:g}" if below is not None else _to(high))
    if high is not None:
        return f"{noun} from {low:g} to {high:g}"
    return noun if low is None else f"{noun} from {low:g} upwards"


def _to(high: float | None) -> str:
    return "" if high is None else f" and up to {high:g}"
