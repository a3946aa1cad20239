"""What every worker of a job must see, and whether a process does."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.storage import open_storage
from cluster.storage.address import join_url
from sr_core.errors import FrameliftError, SpecError


@dataclass(frozen=True)
class Sight:
    """An object that every worker must see to be of use.

    Attributes:
        version: That it must have; None takes any.
    """

    store_url: str
    key: str
    version: str | None = None

    def look(self) -> None:
        """Looks from this process.

        Raises:
            SpecError: The object is not seen, or something else is seen in its place.
            StorageError: The store refuses or fails.
        """
        found = open_storage(self.store_url).head(self.key)
        if found is None:
            self._refuse("this is not seen by a worker", "nothing")
        elif self.version not in (None, found.version):
            self._refuse("a worker sees something else here", f"version {found.version}")

    def _refuse(self, what: str, got: str) -> None:
        raise SpecError(
            what,
            where=f"{join_url(self.store_url, self.key)} on {socket.gethostname()}",
            got=got,
            expected=f"version {self.version}" if self.version else "what the driver sees there",
            next_step="use a shared folder that all nodes have under the same path, or s3://",
        )


def refusal(sights: Iterable[Sight]) -> FrameliftError | None:
    """Why this process is of no use where all `sights` must be seen; None where it sees them."""
    for sight in sights:
        try:
            sight.look()
        except SpecError as error:
            return error
        except FrameliftError as error:  # of a store, which does not know on which machine that is
            error.where = f"{error.where or join_url(sight.store_url, sight.key)} on {socket.gethostname()}"
            return error
    return None
