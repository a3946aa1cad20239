"""`framelift models`: the models that go by name, and finding the one that a spec means."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from cluster.job import ModelRef
from jobs.view import console
from sr_core.kernels import Kernel


def models() -> int:
    """Prints a table of the models that go by name."""
    from sr_core.archs import ARCHS
    from sr_core.model import list_models

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model")
    table.add_column("scale")
    for name in list_models():
        table.add_row(Text(name), Text("any"))
    to = console()
    to.print(table)
    archs = ", ".join(f"{arch.name} ({arch.paper})" for arch in ARCHS)
    to.print(Text(f"Weights files, by their path, of these architectures: {archs}"))
    return 0


def find_model(name_or_path: str) -> ModelRef:
    """The model that a spec names. Weights are read whole, so that nothing runs with wrong ones.

    Args:
        name_or_path: As in the spec.

    Raises:
        ModelError: The name is unknown, or the weights cannot be used.
    """
    if name_or_path in set(Kernel):
        return ModelRef(name_or_path)
    from sr_core.model import load_model  # loads torch

    model = load_model(name_or_path)
    return ModelRef(name_or_path, str(Path(name_or_path).absolute()), model.weights_sha256)
