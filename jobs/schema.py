"""`framelift schema`: the JSON Schema of job specs, for editors."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from jobs.spec import UpscaleSpec
from sr_core.errors import SpecError

# What editors such as those with yaml-language-server look for.
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def spec_schema(kind: type[BaseModel] = UpscaleSpec) -> dict[str, Any]:
    """The JSON Schema of a spec; each key's description is its line in the docstring of its class."""
    schema = kind.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        _describe(part)
    return {"$schema": _DIALECT, **schema}


def schema_text(kind: type[BaseModel] = UpscaleSpec) -> str:
    """The schema as indented JSON with a line feed at its end."""
    return json.dumps(spec_schema(kind), indent=2, ensure_ascii=False) + "\n"


def schema(command: str = "upscale") -> int:
    """Prints the schema of what a command takes.

    Raises:
        SpecError: It is neither `upscale` nor `train`.
    """
    match command:
        case "upscale":
            print(schema_text(), end="")
        case "train":
            from jobs.train_spec import TrainSpec  # which loads torch, as networks are in it

            print(schema_text(TrainSpec), end="")
        case _:
            raise SpecError("no spec is for this command", got=repr(command), expected="upscale or train")
    return 0


def _describe(part: dict[str, Any]) -> None:
    """Moves the `Attributes:` of a docstring into the properties that they describe."""
    summary, _, attributes = part.get("description", "").partition("\n\nAttributes:\n")
    part["description"] = summary
    for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
        if name in part["properties"]:
            part["properties"][name]["description"] = re.sub(r"\s+", " ", text).strip()
