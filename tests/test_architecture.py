"""The rules that hold the house together: who may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sr_core", "cluster", "jobs")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Each big third party has one door; within our own packages, dependencies point one way.
DOORS = {
    "ray": ("cluster/actor.py", "cluster/training/workers.py", "jobs/"),
    "av": ("cluster/video/",),
    "boto3": ("cluster/storage/",),
    "pyvips": ("cluster/images/",),
    "PIL": ("cluster/images/",),
    "cluster": ("cluster/", "jobs/"),
    "jobs": ("jobs/",),
    "typer": ("jobs/cli.py", "jobs/flags.py"),
    "rich": ("jobs/",),
    "spandrel": (),
    "torchvision": (),
    "tensorboardX": ("cluster/training/events.py",),
}
# Plans, state, decisions and specs are values: importing them must stay a matter of milliseconds.
LIGHT = (
    "cluster.clean",
    "cluster.driver",
    "cluster.executor",
    "cluster.inputs",
    "cluster.job",
    "cluster.layout",
    "cluster.machines",
    "cluster.manifest",
    "cluster.neighbours",
    "cluster.places",
    "cluster.plan",
    "cluster.pool",
    "cluster.report",
    "cluster.request",
    "cluster.retry",
    "cluster.schedule",
    "cluster.sight",
    "cluster.status",
    "cluster.storage",
    "cluster.stragglers",
    "cluster.tasks",
    "cluster.weights",
    "jobs.cli",
    "jobs.flags",
    "jobs.load",
    "jobs.models",
    "jobs.spec",
    "jobs.status",
    "jobs.submit",
    "jobs.upscale",
    "jobs.view",
    "jobs.which_ray",
    "sr_core.blend",
    "sr_core.card",
    "sr_core.errors",
    "sr_core.pretrained",
)


HEAVY = {"torch", "ray", "av", "boto3", "pyvips", "PIL"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_goes_through_the_doors(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    wrong = [
        imported
        for imported in imports(path)
        for top, doors in DOORS.items()
        if imported.split(".")[0] == top and not name.startswith(doors)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", LIGHT)
def test_what_only_plans_and_decides_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_the_log_callback_that_deadlocks_pyav_is_never_set() -> None:
    for path in MODULES:
        assert "logging.set_level" not in path.read_text(), path
