"""The bundled models: weights that come with Framelift, each `NAME.safetensors` beside its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Found, so that a model is bundled by putting its files here.
BUNDLED: Mapping[str, Path] = {
    path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))
}
"""Weights by the name that `--model` takes."""

# One for every machine: a job is the same wherever its drivers and workers run, which a model that went by
# the device would end. So it is one that processors run at a useful speed too.
DEFAULTS: Mapping[int, str] = {2: "fast-x2"}
"""By scale, the model that is taken where none is named."""
