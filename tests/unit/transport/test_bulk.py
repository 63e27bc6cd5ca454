"""Bulk streams over real sockets, on one machine and over networks: order, keys, what breaks, what is left."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from polypath.errors import ClusterError
from polypath.transport import bulk, keys, sending
from polypath.transport.bulk import Listener
from polypath.transport.keys import BulkKeys
from polypath.transport.sending import Sender

Shard = tuple[str, bytes, memoryview]
PATIENCE = 20.0


class Ends:
    """A listener and those who send to it."""

    def __init__(self, folder: Path, network: bool) -> None:
        self.keys = BulkKeys.new(network=network)
        self.listener = Listener("tcp://127.0.0.1" if network else f"ipc://{folder}/shards", self.keys, PATIENCE)
        self.senders: list[Sender] = []
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.came: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        self.listener.start(lambda *shard: self.came.put(shard))

    def sender(self, keys: BulkKeys | None = None) -> Sender:
        self.senders.append(Sender(self.listener.address, keys or self.keys, 1, PATIENCE, self.lost.put))
        return self.senders[-1]

    def take(self) -> Shard:
        return self.came.get(timeout=60)

    def close(self) -> None:
        for sender in self.senders:
            sender.close(0)
        self.listener.close()


def join(name: str) -> None:
    """Wait for the threads of that name."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread._started.wait(60)  # One that is being started is listed too, and cannot be joined yet.
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(params=["unix", "tls"])
def ends(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ends]:
    before = set(threading.enumerate())
    ends = Ends(tmp_path, request.param == "tls")
    yield ends
    ends.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_shards_of_all_sizes_come_in_order(ends: Ends) -> None:
    sender = ends.sender()
    sizes = (0, 1, 1000, bulk.MAPPED - 1, bulk.MAPPED, 5_000_001)
    sent = [os.urandom(size) for size in sizes]
    for size, data in zip(sizes, sent, strict=True):
        sender.send(f"ü{size}", bytes(size % 7), memoryview(data))
    for size, data in zip(sizes, sent, strict=True):
        tag, header, came = ends.take()
        assert (tag, header, bytes(came)) == (f"ü{size}", bytes(size % 7), data)


def test_several_may_send(ends: Ends) -> None:
    for number in range(5):
        ends.sender().send("tag", bytes((number,)), bytes((number,)) * 100_000)
    came = [ends.take()[1:] for _ in range(5)]
    assert {(header, bytes(data)) for header, data in came} == {(bytes((n,)), bytes((n,)) * 100_000) for n in range(5)}


def test_what_was_sent_is_let_go_of(ends: Ends) -> None:
    class Data(bytearray):
        """Can be watched."""

    data = Data(1 << 20)
    gone = weakref.ref(data)
    sender = ends.sender()
    sender.send("tag", b"", memoryview(data))
    del data
    ends.take()
    sender.send("tag", b"", b"")  # Its thread is done with the first before it takes this.
    ends.take()
    gc.collect()
    assert gone() is None


def test_what_is_queued_leaves_before_the_end(ends: Ends) -> None:
    sender = ends.sender()
    for number in range(20):
        sender.send(str(number), b"", bytes(1 << 20))
    sender.close(60)
    assert [ends.take()[0] for _ in range(20)] == [str(number) for number in range(20)]


def test_who_does_not_know_the_secret_is_refused(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    stranger = ends.sender(msgspec.structs.replace(ends.keys, secret="0" * len(ends.keys.secret)))
    stranger.send("tag", b"", bytes(1 << 20))
    stranger.close(60)
    join("shards in")
    ends.sender().send("ours", b"", b"data")
    assert ends.take()[0] == "ours"
    assert "not of this cluster" in caplog.text


def test_who_shows_another_certificate_is_sent_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends = Ends(tmp_path, network=True)
    sender = ends.sender(BulkKeys.new(network=True))
    sender.send("tag", b"", b"data")
    sender._thread.join(60)
    assert "certificate verify failed" in caplog.text
    assert ends.came.empty()
    ends.close()


def test_nothing_goes_over_a_network_as_it_is(tmp_path: Path) -> None:
    ends = Ends(tmp_path, network=True)
    host, _, port = ends.listener.address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as stream:
        stream.sendall(ends.keys.secret.encode() + bytes(1000))
        with contextlib.suppress(ConnectionResetError):
            while stream.recv(4096):
                pass
    assert ends.came.empty()
    context = sending.client_context(ends.keys.certificate)
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as stream:
        assert (stream.version(), "GCM" in stream.cipher()[0]) == ("TLSv1.3", True)
    ends.close()


def test_half_a_shard_is_dropped_and_sent_again(ends: Ends) -> None:
    sender = ends.sender()
    sender.send("first", b"", b"")
    assert ends.take()[0] == "first"
    (stream,) = ends.listener._streams
    bulk.wake(stream)
    sender.send("second", b"header", bytes(8 << 20))
    tag, header, data = ends.take()
    assert (tag, header, bytes(data)) == ("second", b"header", bytes(8 << 20))
    assert ends.came.empty()


def test_a_sender_whose_listener_is_gone_keeps_nothing(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    sender = ends.sender()
    ends.listener.close()
    sender.send("tag", b"", bytes(1 << 20))
    sender._thread.join(60)
    sender.send("tag", b"", bytes(1 << 20))
    assert sender._queue.empty()
    assert "are lost" in caplog.text
    assert "refused" in ends.lost.get(timeout=60)
    assert ends.lost.empty()


class Still:
    """A listener that stands still while it takes its first shard, until `go` is set; and its one sender, of host 1."""

    def __init__(self, folder: Path, keys: BulkKeys) -> None:
        self.first, self.go = threading.Event(), threading.Event()
        self.came: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.listener = Listener("tcp://127.0.0.1" if keys.certificate else f"ipc://{folder}/still", keys, PATIENCE)
        self.listener.start(self._take)
        self.sender = Sender(self.listener.address, keys, 1, PATIENCE, self.lost.put)

    def _take(self, tag: str, header: bytes, data: memoryview) -> None:
        self.came.put(tag)
        self.first.set()
        self.go.wait(60)

    def close(self) -> None:
        self.sender.close(0)
        self.listener.close()


def test_whatever_breaks_each_shard_comes_once(ends: Ends, tmp_path: Path) -> None:
    """The stream breaks while some shards are read, some are in the kernel, and some are yet to be sent."""
    still = Still(tmp_path, ends.keys)
    for number in range(10):
        still.sender.send(str(number), b"", bytes(300_000))
    assert still.first.wait(60)
    (stream,) = still.listener._streams
    bulk.wake(stream)
    still.go.set()
    still.sender.send("last", b"", b"")
    came = [still.came.get(timeout=60) for _ in range(11)]
    assert sorted(came) == sorted((*map(str, range(10)), "last"))
    still.sender.close(60)
    assert still.came.empty()
    assert still.lost.empty()
    still.close()


def test_a_listener_that_breaks_every_stream_is_given_up(tmp_path: Path) -> None:
    keys = BulkKeys.new(network=False)
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/breaks")
        listener.listen()
        sender = Sender(f"unix:{tmp_path}/breaks", keys, 1, PATIENCE, lost.put)
        sender.send("tag", b"", b"")
        for _ in range(sending._TRIES):
            stream, _ = listener.accept()
            stream.close()
        assert lost.get(timeout=60)
        sender.close(60)


def test_what_a_host_has_sent_is_read_before_it_counts_as_gone(ends: Ends, tmp_path: Path) -> None:
    still = Still(tmp_path, ends.keys)
    still.sender.send("first", b"", b"")
    still.sender.send("second", b"", b"")
    assert still.first.wait(60)
    still.listener.drain(2, lambda: still.came.put("another host is drained"))
    still.listener.drain(1, lambda: still.came.put("drained"))
    still.go.set()
    came = [still.came.get(timeout=60) for _ in range(4)]
    assert came[:2] == ["first", "another host is drained"]
    assert sorted(came[2:]) == ["drained", "second"]
    still.sender.send("third", b"", b"")  # It was not gone.
    assert still.came.get(timeout=60) == "third"
    still.close()


def test_closing_wakes_who_sends_to_somebody_that_stands_still(tmp_path: Path) -> None:
    ends = Ends(tmp_path, network=False)
    go = threading.Event()
    taken = threading.Event()
    still = Listener(f"ipc://{tmp_path}/still", ends.keys, PATIENCE)

    def stand(tag: str, header: bytes, data: memoryview) -> None:
        taken.set()
        go.wait(60)

    still.start(stand)
    sender = Sender(still.address, ends.keys, 1, PATIENCE, ends.lost.put)
    sender.send("tag", b"", b"")
    sender.send("tag", b"", bytes(64 << 20))
    assert taken.wait(60)
    sender.close(0)
    sender._thread.join(60)
    assert not sender._thread.is_alive()
    go.set()
    still.close()
    ends.close()


@pytest.mark.parametrize("head", [bulk.HEAD.pack(0, 1 << 25, 0), bulk.HEAD.pack(0, 0, 1 << 41), b"\1"])
def test_what_makes_no_sense_ends_its_stream_alone(tmp_path: Path, head: bytes) -> None:
    ends = Ends(tmp_path, network=False)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(ends.listener.address.removeprefix("unix:"))
        stream.sendall(ends.keys.secret.encode() + bulk.WHO.pack(1, bytes(16), 0) + head)
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
    ends.sender().send("ours", b"", b"data")
    assert ends.take()[0] == "ours"
    ends.close()


def test_a_machine_without_openssl_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_MAKE_CERTIFICATE", ("polypath-has-no-such-command",))
    with pytest.raises(ClusterError, match="install openssl"):
        BulkKeys.new(network=True)
    assert BulkKeys.new(network=False).certificate == ""


def test_each_cluster_has_keys_of_its_own() -> None:
    first, second = BulkKeys.new(network=True), BulkKeys.new(network=True)
    assert not {first.secret, first.certificate, first.private_key} & {
        second.secret,
        second.certificate,
        second.private_key,
    }
    assert ssl.PEM_cert_to_DER_cert(first.certificate)
