"""Finding a thing by its name in a list, or telling which names there are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from sr_core.errors import SpecError

_T = TypeVar("_T")


def named(name: str, choices: Mapping[str, _T], what: str) -> _T:
    """The one of `choices` with this name.

    Args:
        name: As the user wrote it.
        choices: By name.
        what: What they are, for the error: "pixel loss".

    Raises:
        SpecError: None has it.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1)
    raise SpecError(
        f"There is no such {what}",
        got=name,
        expected=", ".join(choices),
        next_step=f"did you mean {near[0]!r}?" if near else "",
    )
