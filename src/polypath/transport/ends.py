"""Which links an address asks for: streams on one machine (`unix:`), else ZeroMQ."""

from __future__ import annotations

from collections.abc import Callable

from polypath.transport.curve import HeadSockets, WorkerSocket
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.links import HeadLinks, Silent, Take, WorkerEnd
from polypath.transport.streams import SCHEME, HeadStreams, WorkerStream


def below(address: str, keys: KeyPair, take: Take, silent: Silent, patience: float) -> HeadLinks:
    """The links to those below, who find us at `address` and know us by `keys`. For the running loop."""
    if address.startswith(SCHEME):
        return HeadStreams(address, take, silent, patience)
    return HeadSockets(address, keys, take, silent, patience)


def above(link: WorkerLink, silent: Callable[[str], None]) -> WorkerEnd:
    """The link to who is above.

    `silent` is called once, on a thread of the link's, with a sentence, when who is above was silent for the patience.
    """
    return WorkerStream(link, silent) if link.reports.startswith(SCHEME) else WorkerSocket(link, silent)
