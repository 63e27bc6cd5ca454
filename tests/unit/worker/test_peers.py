"""Pieces on their way to a worker: whoever waits for one gets it, or the failure of the host that does not send it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from polypath.messages import Peer, Unsent
from polypath.types import Code, Failure
from polypath.worker.peers import Header, OnLost, OnPeer, PeerPost, tag_of

FAILURE = Failure(Code.DATA_LOSS, "Host 1 was lost.")
HEADER = Header("float32", (1,))
LOST = (4, 5)
"""The devices of host 1. Host 2 has device 8."""


class Link:
    """What the transport offers, without one."""

    def __init__(self) -> None:
        self.me = Peer(0, "here")
        self.drains: list[Callable[[], None]] = []

    def listen(self, on_shard: OnPeer, on_lost: OnLost) -> None:
        self._on_shard = on_shard

    def connect(self, peers: tuple[Peer, ...]) -> None: ...

    def send(self, host: int, tag: str, header: bytes, data: bytes | memoryview) -> None: ...

    def drain(self, host: int, then: Callable[[], None]) -> None:
        assert host == 1
        self.drains.append(then)

    def brings(self, tag: str, data: bytes) -> None:
        self._on_shard(tag, msgspec.msgpack.encode(HEADER), memoryview(data))


class Post:
    """A worker's post and what came of the pieces that it expects."""

    def __init__(self) -> None:
        self.link = Link()
        self.post = PeerPost(self.link, lambda *_: None)
        self.came: dict[str, bytes | Failure] = {}

    def expect(self, out: int, source: int) -> str:
        tag = tag_of(out, 0, source)

        def receive(header: Header, data: bytes | memoryview) -> None:
            assert tag not in self.came, "received twice"
            self.came[tag] = bytes(data) if header.failure is None else header.failure

        self.post.expect(tag, source, receive)
        return tag

    def lose(self, before: int) -> None:
        self.post.give_up(Unsent(1, LOST, before, FAILURE))


@pytest.fixture
def at() -> Post:
    return Post()


def test_what_is_awaited_of_a_lost_host_fails_once_its_streams_are_read(at: Post) -> None:
    comes, fails = at.expect(7, 4), at.expect(8, 5)
    at.lose(before=10)
    assert at.came == {}
    at.link.brings(comes, b"data")  # Was on its way.
    at.link.drains.pop()()
    assert at.came == {comes: b"data", fails: FAILURE}


def test_what_is_awaited_later_of_what_came_before_the_loss_fails_too(at: Post) -> None:
    at.lose(before=10)
    at.link.drains.pop()()
    assert at.came == {}
    fails = at.expect(9, 4)
    assert at.came == {fails: FAILURE}


def test_what_came_before_it_is_awaited_is_kept(at: Post) -> None:
    at.link.brings(tag_of(9, 0, 4), b"data")
    at.lose(before=10)
    at.link.drains.pop()()
    comes = at.expect(9, 4)
    assert at.came == {comes: b"data"}


def test_what_the_next_process_or_another_host_sends_is_waited_for(at: Post) -> None:
    waits = at.expect(9, 8), at.expect(10, 4)
    at.lose(before=10)
    at.link.drains.pop()()
    waits += (at.expect(11, 5),)
    assert at.came == {}
    for tag in waits:
        at.link.brings(tag, b"data")
    assert at.came == dict.fromkeys(waits, b"data")


def test_whatever_is_wrong_with_a_piece_who_waits_for_it_hears_of_it(at: Post) -> None:
    came: list[Failure | None] = []

    def receive(header: Header, data: bytes | memoryview) -> None:
        came.append(header.failure)
        if header.failure is None:
            raise ValueError("three bytes are no float32")

    at.post.expect(tag_of(9, 0, 0), 4, receive)
    at.link.brings(tag_of(9, 0, 0), b"abc")
    assert came[0] is None
    assert came[1] is not None
    assert "three bytes are no float32" in came[1].message


def test_what_comes_after_it_failed_is_dropped(at: Post) -> None:
    tag = at.expect(9, 4)
    at.lose(before=10)
    at.link.drains.pop()()
    at.link.brings(tag, b"data")
    assert at.came == {tag: FAILURE}
    assert at.post._early == {}
    assert at.post._given_up == set()
