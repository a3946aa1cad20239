"""A Ray cluster of several nodes on this machine, whose nodes come and go."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from typing import Any

from tests.chaos.processes import Process, below

# A node that is gone is noticed within two seconds, and not within the ten of Ray's defaults.
_WATCHFUL = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 2,
    "health_check_timeout_ms": 500,
}


class Machines:
    """A head that does no work, and nodes of one core each."""

    def __init__(self, num_nodes: int) -> None:
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.ERROR)
        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": _WATCHFUL}
        )
        self._draining: set[str] = set()
        for _ in range(num_nodes):
            self.add()

    @property
    def address(self) -> str:
        """For `RAY_ADDRESS`."""
        return str(self._cluster.address)

    def add(self) -> None:
        """Brings one more node."""
        self._cluster.add_node(num_cpus=1)

    def pick(self, rng: random.Random) -> Any | None:
        """A node that nothing happened to yet; None where there is none."""
        nodes = [node for node in self._cluster.worker_nodes if node.node_id not in self._draining]
        return rng.choice(sorted(nodes, key=lambda node: str(node.node_id))) if nodes else None

    def remove(self, node: Any) -> None:
        """Takes a node away with all that runs on it, at once, as when its power fails."""
        if node not in self._cluster.worker_nodes:
            return
        for process in _processes_of(node):
            process.signal(signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: float) -> None:
        """Gives notice that a node will be taken away; who takes it is `remove`."""
        from ray import _raylet
        from ray.core.generated import autoscaler_pb2

        reasons: Any = autoscaler_pb2.DrainNodeReason  # type: ignore[attr-defined]
        reason = reasons.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = round((time.time() + seconds) * 1000)
        client = _raylet.GcsClient(address=self.address)  # type: ignore[attr-defined]
        accepted, why_not = client.drain_node(node.node_id, reason, "chaos", deadline_ms)
        if not accepted:
            raise RuntimeError(f"the drain was not accepted: {why_not}")
        self._draining.add(node.node_id)

    def close(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()  # type: ignore[no-untyped-call]


def _processes_of(node: Any) -> list[Process]:
    roots = [info.process.pid for infos in node.all_processes.values() for info in infos]
    return [process for root in roots if root != os.getpid() for process in below(root)]
