"""`framelift models`: the models that go by name, and finding the one that a spec means."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from cluster.job import ModelRef
from cluster.storage.address import is_s3
from cluster.weights import opened_weights
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


def find_model(name_or_url: str, scale: int | None = None) -> ModelRef:
    """The model that a spec names. Weights are read whole, so that nothing runs with wrong ones.

    Args:
        name_or_url: Its name, or the path or S3 URL of its weights.
        scale: That the spec asks for; weights of another one contradict it.

    Raises:
        ModelError: The name is unknown, or the weights cannot be used, or not for this scale.
        StorageError: The store of the weights refuses or fails.
    """
    if name_or_url in set(Kernel):
        return ModelRef(name_or_url)
    from sr_core.model import load_model  # loads torch

    with opened_weights(name_or_url) as path:
        model = load_model(path, scale)
    place = name_or_url if is_s3(name_or_url) else str(Path(name_or_url).absolute())
    return ModelRef(name_or_url, place, model.weights_sha256)
