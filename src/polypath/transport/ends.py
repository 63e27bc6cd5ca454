"""Which links an address asks for: streams on one machine (`unix:`), else ZeroMQ."""

from __future__ import annotations

from polypath.transport.curve import HeadSockets, WorkerSocket
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.links import HeadLinks, Take, WorkerEnd
from polypath.transport.streams import SCHEME, HeadStreams, WorkerStream


def below(address: str, keys: KeyPair, take: Take) -> HeadLinks:
    """The links to those below, who find us at `address` and know us by `keys`. For the running loop."""
    return HeadStreams(address, take) if address.startswith(SCHEME) else HeadSockets(address, keys, take)


def above(link: WorkerLink) -> WorkerEnd:
    """The link to who is above."""
    return WorkerStream(link) if link.reports.startswith(SCHEME) else WorkerSocket(link)
