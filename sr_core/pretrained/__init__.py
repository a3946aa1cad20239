"""The bundled models: weights that come with Framelift, each `NAME.safetensors` beside its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Found, so that a model is bundled by putting its files here.
BUNDLED: Mapping[str, Path] = {
    path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))
}
"""Weights by the name that `--model` takes."""
