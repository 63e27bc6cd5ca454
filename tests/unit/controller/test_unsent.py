"""Arrays on their way between islands when a host is lost: who waits for its shards is told that they will not come."""

from __future__ import annotations

from polypath.controller import events
from polypath.messages import HostBuffer, Peer, Undelivered, Unsent
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, HostId, Sharding

SOURCE, COPY, LATER = 10, 11, 12
"""Handles of arrays: one on the source, and its copies on the taker."""
SENDER, MATE, TAKER, OTHER = 0, 1, 2, 3
"""Hosts: two of island 0, two of island 1; each has the device of its number."""


class Copying:
    """Two islands of two hosts of one device each, and session 1 with an array on host 0."""

    def __init__(self) -> None:
        self.cluster = SimulatedCluster(4, 1, islands=2)
        self.cluster.up()
        self.cluster.handle(events.Open(1, "test"))
        array = events.HostArray(SOURCE, self._spec(SENDER), None, (HostBuffer((2,), None, (SENDER,), b"12345678"),))
        self.cluster.handle(events.Put(1, self.cluster.op(), (array,)))
        self.cluster.settle()

    @staticmethod
    def _spec(device: int) -> ArraySpec:
        return ArraySpec("float32", (2,), Sharding((device,), fully_replicated=True))

    def copy(self, result: events.Handle) -> int:
        """Copy the array to the taker; the id of the copy."""
        copy = events.Copy(1, self.cluster.op(), (SOURCE,), (result,), (TAKER,), None, False, False)
        self.cluster.handle(copy)
        return self.cluster.controller._core.sessions[1].arrays[result].id

    def unsent(self, host: HostId) -> list[Unsent]:
        """What a host is told in the commands that it has yet to take."""
        return [command for command in self.cluster.workers[host].commands if isinstance(command, Unsent)]


def test_who_takes_from_a_lost_host_is_told() -> None:
    at = Copying()
    copy = at.copy(COPY)
    at.cluster.kill(SENDER)
    (told,) = at.unsent(TAKER)
    assert (told.host, told.devices) == (SENDER, (SENDER,))
    assert told.before > copy
    assert told.failure.code is Code.DATA_LOSS
    assert told.failure.message.startswith("Host 0 of island 0 was lost (killed by SIGKILL)")
    assert at.unsent(OTHER) == []


def test_who_takes_from_a_host_that_had_to_leave_is_told_once_it_has_ended() -> None:
    """By then it has sent all that it could."""
    at = Copying()
    copy = at.copy(COPY)
    at.cluster.kill(MATE)
    assert at.unsent(TAKER) == []
    while at.cluster.deliver(SENDER):
        pass
    (told,) = at.unsent(TAKER)
    assert told.host == SENDER
    assert told.before > copy
    assert told.failure.message.startswith("Host 1 of island 0 was lost")


def test_what_is_held_for_the_sender_still_comes() -> None:
    """And if it is dropped, as another host is lost, the taker is told."""
    at = Copying()
    at.copy(COPY)
    at.cluster.kill(MATE)
    later = at.copy(LATER)
    while at.cluster.deliver(SENDER):
        pass
    (told,) = at.unsent(TAKER)
    assert told.before <= later
    at.cluster.kill(MATE)  # While it starts.
    assert max(told.before for told in at.unsent(TAKER) if told.host == SENDER) > later


def test_a_taker_that_comes_up_is_told_of_what_was_lost_on_its_way() -> None:
    """Its command to take the copy was held until then."""
    at = Copying()
    at.copy(COPY)
    at.cluster.settle()
    at.cluster.kill(TAKER)
    at.cluster.settle()
    later = at.copy(LATER)
    at.cluster.kill(SENDER)
    while at.cluster.starting:
        at.cluster.join()
    assert max(told.before for told in at.unsent(TAKER)) > later


def test_who_takes_from_a_host_whose_stream_broke_is_told() -> None:
    at = Copying()
    copy = at.copy(COPY)
    peer = at.cluster.controller._core.hosts[TAKER].peer
    assert peer is not None
    at.cluster.handle(Undelivered(SENDER, Peer(TAKER, "an earlier process"), "broken"))
    assert at.unsent(TAKER) == []
    at.cluster.handle(Undelivered(SENDER, peer, "timed out"))
    (told,) = at.unsent(TAKER)
    assert (told.host, told.devices) == (SENDER, (SENDER,))
    assert told.before > copy
    assert told.failure.message == (
        "Host 0 of island 0 could not send to host 2 of island 1 (timed out), and what it was sending is lost; "
        "copy the arrays again."
    )
