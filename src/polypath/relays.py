"""The head's relays: started before the hosts below them, and again after they were lost.

Owns which run. A relay that is lost takes everything below it along: those processes are ended, so that
each is told of and started again as after any loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from polypath.errors import ClusterError
from polypath.launch.base import Launcher, RelaySpec
from polypath.transport import HeadChannel
from polypath.transport.tree import Branch, Tree
from polypath.types import HostId

log = logging.getLogger(__name__)


class Relays:
    """The relays of one cluster."""

    def __init__(
        self, tree: Tree, channel: HeadChannel, launcher: Launcher, listen: str, lost: Callable[[HostId, str], None]
    ) -> None:
        """`listen` is where they listen, but for a suffix.

        `lost` is told of hosts that a lost relay cut off, and the cause.
        """
        self._tree = tree
        self._channel = channel
        self._launcher = launcher
        self._listen = listen
        self._lost = lost
        self._incarnations: dict[int, int] = {}
        self._up: dict[int, asyncio.Future[None]] = {}

    def of(self, host: HostId) -> int | None:
        """The relay that a host is below; None for the head itself."""
        return self._tree.relay_of(host)

    async def start_for(self, hosts: Iterable[HostId]) -> None:
        """Have the relays of these hosts run.

        Raises:
            ClusterError: one cannot be started.
        """
        wanted = sorted({relay for host in hosts if (relay := self.of(host)) is not None})
        levels: dict[int, dict[int, Branch]] = {}
        for relay in wanted:
            for depth, branch in enumerate(self._tree.above(relay)):
                levels.setdefault(depth, {})[branch.relay] = branch
        for _, level in sorted(levels.items()):
            await asyncio.gather(*(self._start(branch) for branch in level.values()))

    def ended(self, relay: int, cause: str) -> None:
        """A relay's process ended."""
        log.warning("Relay %d ended: %s", relay, cause)
        for branch in self._tree.below(relay):
            self._channel.drop(branch.relay)
            if (up := self._up.pop(branch.relay, None)) is not None and not up.done():
                _fail(up, ClusterError(f"A relay {cause}"))
            for host in branch.hosts:
                self._lost(host, f"lost its relay ({cause})")

    async def _start(self, branch: Branch) -> None:
        """Once, however many ask.

        Raises:
            ClusterError: it cannot be started.
        """
        if (up := self._up.get(branch.relay)) is not None:
            await asyncio.shield(up)
            return
        up = self._up[branch.relay] = asyncio.get_running_loop().create_future()
        incarnation = self._incarnations[branch.relay] = self._incarnations.get(branch.relay, 0) + 1
        where = f"{self._listen}{branch.relay}.{incarnation}"
        link = self._channel.link_relay(branch.relay, incarnation, where, branch.above)
        await self._channel.settled()
        try:
            await self._launcher.start_relay(RelaySpec(branch.relay, msgspec.json.encode(link), branch.hosts))
            await self._channel.serving(branch.relay)
        except ClusterError as error:
            del self._up[branch.relay]
            _fail(up, error)
            raise
        except asyncio.CancelledError:
            if up.done():  # The relay ended, and is dropped, before it served.
                await up
            raise
        up.set_result(None)


def _fail(future: asyncio.Future[None], error: ClusterError) -> None:
    future.set_exception(error)
    future.exception()  # Others may wait for it, or nobody.
