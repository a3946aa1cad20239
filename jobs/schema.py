"""`framelift schema`: the JSON Schema of job specs, for editors."""

from __future__ import annotations

import json
import re
from typing import Any

from jobs.spec import UpscaleSpec

# What editors such as those with yaml-language-server look for.
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of `UpscaleSpec`; each key's description is its line in the docstring of its class."""
    schema = UpscaleSpec.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        _describe(part)
    return {"$schema": _DIALECT, **schema}


def schema_text() -> str:
    """The schema as indented JSON with a line feed at its end."""
    return json.dumps(spec_schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> int:
    """Prints the schema."""
    print(schema_text(), end="")
    return 0


def _describe(part: dict[str, Any]) -> None:
    """Moves the `Attributes:` of a docstring into the properties that they describe."""
    summary, _, attributes = part.get("description", "").partition("\n\nAttributes:\n")
    part["description"] = summary
    for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
        if name in part["properties"]:
            part["properties"][name]["description"] = re.sub(r"\s+", " ", text).strip()
