"""Sections of a spec that come in kinds: one key says which, and each kind has the keys of a dataclass."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter, create_model
from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sr_core.errors import SpecError

_LARGEST_INTEGER = 4096  # no network has more blocks or channels, and no degradation larger numbers
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
Settings = TypeVar("Settings")


@dataclass(frozen=True, eq=False)
class Kinds:
    """Annotates a field that is made of a section of one of several kinds.

    Attributes:
        tag: The key that says which.
        meaning: Of that key, for people.
        settings: By what the tag says, the dataclass whose keys that kind has.
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
        fields: dict[str, Any] = {
            each.name: (_bounded(hints[each.name]), _field(each)) for each in dataclasses.fields(kind)
        }
        fields[self.tag] = (Literal[name], Field(description=self.meaning))
        own_first = {self.tag: fields.pop(self.tag), **fields}
        section: type[BaseModel] = create_model(
            kind.__name__, __config__=_STRICT, __doc__=kind.__doc__, **own_first
        )
        return section

    def _made(self, section: BaseModel) -> object:
        given = {name: getattr(section, name) for name in type(section).model_fields}
        kind = given.pop(self.tag)
        try:
            return self.make(kind, self.settings[kind](**given))
        except SpecError as error:
            raise misfit(error) from error


def checked(kind: type[Settings], value: object, _: Handler) -> Settings:
    """Wraps the validation of a dataclass that checks itself, for `functools.partial`: its SpecError is told
    beside other mistakes, at its place.
    """
    if isinstance(value, kind):
        return value
    try:
        # As text again: what strict JSON may hold is less strict than what Python may.
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except SpecError as error:
        raise misfit(error) from error


def misfit(error: SpecError) -> PydanticCustomError:
    """An error about a section, or about the key below it that the SpecError names."""
    told = [
        error.what,
        f"got {error.got}" if error.got else "",
        f"expected {error.expected}" if error.expected else "",
        error.next_step,
    ]
    problem = "; ".join(filter(None, told))
    return PydanticCustomError("misfit", "{problem}", {"key": error.where, "problem": problem})


def _bounded(hint: Any) -> Any:
    return Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)] if hint is int else hint


def _field(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return Field() if field.default is dataclasses.MISSING else Field(default=field.default)
