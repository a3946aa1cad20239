"""Sections of a spec whose keys are the fields of a part's own dataclass, which checks itself.

Some come in kinds: one key says which, and each kind has a dataclass.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sr_core.errors import SpecError

_LARGEST_INTEGER = 4096  # no network has more blocks or channels, and no degradation larger numbers
_SMALL = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_ATTRIBUTES = "\n\nAttributes:\n"
Settings = TypeVar("Settings")


@dataclass(frozen=True, eq=False)
class Part:
    """Annotates a field that holds a dataclass, which is made of a section with the same keys.

    Dataclasses within it need no annotation. A SpecError of any of them is told beside other mistakes, at its
    place.

    Attributes:
        forms: By the name of a field, the type that makes its value of what stands in a spec, where that is
            not the field's own type.
    """

    forms: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        section = _section(source, self.forms) if self.forms else _plain_section(source)
        return core_schema.no_info_after_validator_function(
            partial(_made, source), handler.generate_schema(section)
        )


@dataclass(frozen=True, eq=False)
class Kinds:
    """Annotates a field that is made of a section of one of several kinds.

    Attributes:
        tag: The key that says which.
        meaning: Of that key, for people.
        settings: By what the tag says, the dataclass whose keys that kind has. Whole numbers in it without
            bounds of their own are kept small.
        make: The field's value, of what the tag says and those settings. It may raise SpecError.
    """

    tag: str
    meaning: str
    settings: Mapping[str, type]
    make: Callable[[str, Any], object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        sections = {name: handler.generate_schema(self._section(name)) for name in self.settings}
        union = core_schema.tagged_union_schema(sections, discriminator=self.tag)
        return core_schema.no_info_after_validator_function(self._made, union)

    def _section(self, name: str) -> type[BaseModel]:
        kind = self.settings[name]
        hints = get_type_hints(kind, include_extras=True)
        small = {key: _SMALL for key, hint in hints.items() if hint is int}
        return _section(kind, small, {self.tag: (Literal[name], Field(description=self.meaning))})

    def _made(self, section: BaseModel) -> object:
        given = _values(section)
        kind = given.pop(self.tag)
        try:
            return self.make(kind, self.settings[kind](**given))
        except SpecError as error:
            raise _misfit(error) from error


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def one_of(parts: Iterable[_Named]) -> Any:
    """The type of their names: what may stand where one of them is chosen."""
    return Literal.__getitem__(tuple(each.name for each in parts))


def _made(kind: type[Settings], section: BaseModel) -> Settings:
    try:
        return kind(**_values(section))
    except SpecError as error:
        raise _misfit(error) from error


def _values(section: BaseModel) -> dict[str, Any]:
    return {name: getattr(section, name) for name in type(section).model_fields}


def _misfit(error: SpecError) -> PydanticCustomError:
    """An error about a section, or about the key below it that the SpecError names."""
    told = [
        error.what,
        f"got {error.got}" if error.got else "",
        f"expected {error.expected}" if error.expected else "",
        error.next_step,
    ]
    problem = "; ".join(filter(None, told))
    return PydanticCustomError("misfit", "{problem}", {"key": error.where, "problem": problem})


@cache
def _plain_section(kind: type) -> type[BaseModel]:
    """Always the same one, so that the schema of a spec has it once."""
    return _section(kind, {})


def _section(kind: type, forms: Mapping[str, Any], first: Mapping[str, Any] | None = None) -> type[BaseModel]:
    """What a section of a dataclass's keys may hold; behind the keys of `first`."""
    hints = {**get_type_hints(kind, include_extras=True), **forms}
    keys: dict[str, Any] = {**(first or {})}
    for each in dataclasses.fields(kind):
        keys[each.name] = (_part_of(hints[each.name]), _field(each))
    section: type[BaseModel] = create_model(kind.__name__, __config__=_STRICT, __doc__=_told(kind), **keys)
    return section


def _part_of(hint: Any) -> Any:
    return Annotated[hint, Part()] if dataclasses.is_dataclass(hint) else hint


def _field(each: dataclasses.Field[Any]) -> Any:
    if each.default_factory is not dataclasses.MISSING:
        return Field(default=each.default_factory())  # as a schema does not tell what a factory makes
    return Field() if each.default is dataclasses.MISSING else Field(default=each.default)


def _told(kind: type) -> str:
    """The docstring of a dataclass, with what those that it extends say of their fields."""
    known = [each for each in reversed(kind.__mro__) if dataclasses.is_dataclass(each)]
    docs = [inspect.cleandoc(each.__doc__ or "").partition(_ATTRIBUTES) for each in known]
    attributes = "\n".join(attributes for _, _, attributes in docs if attributes)
    return docs[-1][0] + (_ATTRIBUTES + attributes if attributes else "")
