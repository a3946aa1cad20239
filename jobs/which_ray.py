"""Which Ray does the work: that of a cluster, or one that a command starts for itself."""

from __future__ import annotations

import os
import secrets


def cluster_address() -> str | None:
    """The cluster that is to do the work; None where this machine is."""
    return os.environ.get("RAY_ADDRESS") or None


def close_off_local_ray() -> None:
    """Lets nobody but this run's own processes call the Ray that it starts.

    Ray would make a token and store it in the home folder, where it changes what other Rays of the user ask
    for. Ours is made for this run and passed on to its processes alone. For a cluster both are the user's.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
