"""What workers send clients over their links, and take from them: on real and simulated devices alike."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from clients import SESSION, Client

from polypath import messages as m
from polypath.link import protocol, streams
from polypath.link.connection import Incoming
from polypath.types import Code, Failure


@pytest.fixture
def client(any_worker) -> Iterator[Client]:
    made = Client(any_worker.keys, [any_worker.joined])
    yield made
    made.close()


def deliver(worker, client: Client, what: m.Delivery, place: np.ndarray | None = None) -> bytes | None:
    request = client.ask(0, place=place)
    worker.tell(m.Deliver(SESSION, request.number, 1, what))
    return client.links.wait(request)


def take(worker, client: Client, out: int, dtype: str, *shards: tuple[tuple[int, ...], tuple[int, ...]]):
    request = client.ask(0)
    worker.tell(m.Take(SESSION, request.number, 1, out, dtype, shards, ""))
    return request


def test_values_that_are_computed(any_worker, client, ids):
    out, gone = next(ids), next(ids)
    any_worker.put(out, np.ones(4, np.float32))
    assert deliver(any_worker, client, m.Computed((out,))) == b""
    assert deliver(any_worker, client, m.Computed((out, gone))) is None
    any_worker.tell(m.Delete((out,)))
    assert deliver(any_worker, client, m.Computed((out,))) is None


def test_a_result_that_takes_a_while(any_worker, client, ids, programs):
    executable, one, out = next(ids), next(ids), next(ids)
    any_worker.compile(executable, programs["step4"], range(4))
    any_worker.put(one, *np.split(np.arange(8, dtype=np.float32), 4), devices=range(4))
    any_worker.tell(m.Execute(executable, (one,), (out,), (), 1))
    waits = client.ask(0)
    any_worker.tell(m.Deliver(SESSION, waits.number, 1, m.Computed((out,))))
    assert client.links.wait(waits) == b""
    assert deliver(any_worker, client, m.SmallShard(out, 3)) == any_worker.fetch(out, 3, shape=(2,)).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "int4"])
def test_elements_of_a_small_array(any_worker, client, ids, dtype):
    out = next(ids)
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    any_worker.put(out, array, devices=(2,))
    assert deliver(any_worker, client, m.SmallShard(out, 2)) == array.tobytes()


def test_what_is_not_small_or_not_here_is_not_told(any_worker, client, ids):
    out, text = next(ids), next(ids)
    any_worker.put(out, np.ones(m.MOST_ELEMENTS + 1, np.int8))
    assert deliver(any_worker, client, m.SmallShard(out, 0)) is None
    assert deliver(any_worker, client, m.SmallShard(out, 1)) is None
    assert deliver(any_worker, client, m.SmallShard(next(ids), 0)) is None
    any_worker.tell(m.Put(text, "string", (1,), "", None, (m.HostBuffer((1,), None, (0,), b"words"),)))
    assert deliver(any_worker, client, m.SmallShard(text, 0)) == b"words"
    assert deliver(any_worker, client, m.ShardAddress(text, 0)) is None
    assert deliver(any_worker, client, m.WholeArray(text, ((0, (0,)),)), np.zeros(1, np.int8)) is None


def test_where_a_shard_is(worker, ids):
    client = Client(worker.keys, [worker.joined])
    out = next(ids)
    array = np.arange(1000, dtype=np.float32)
    worker.put(out, array)
    found = deliver(worker, client, m.ShardAddress(out, 0))
    assert found is not None
    assert len(found) == ctypes.sizeof(ctypes.c_void_p)
    with Path(f"/proc/{worker.process.pid}/mem").open("rb") as memory:
        memory.seek(int.from_bytes(found, "little"))
        assert memory.read(array.nbytes) == array.tobytes()
    client.close()


def test_shards_of_an_array(any_worker, client, ids):
    out = next(ids)
    array = np.arange(600_000, dtype=np.float32).reshape(600, 1000)
    any_worker.put(out, array[:, :500], array[:, 500:], devices=(1, 3))
    place = np.zeros_like(array)
    assert deliver(any_worker, client, m.WholeArray(out, ((3, (0, 500)), (1, (0, 0)), (7, (9, 9)))), place) == b""
    np.testing.assert_array_equal(place, array)
    any_worker.tell(m.Delete((out,)))
    assert deliver(any_worker, client, m.WholeArray(out, ((3, (0, 500)), (1, (0, 0)))), place) is None


def test_several_arrays_together(any_worker, client, ids):
    """As a host has them that has the second and the third of three parts."""
    one, two = next(ids), next(ids)
    any_worker.put(one, np.array([1, 2], np.int16), devices=(1,))
    any_worker.put(two, np.array([3], np.float32), devices=(2,))
    parts = (m.Part(1, one, 9, "int16", 3), m.Part(2, two, 2, "float32", 1), m.Part(0, one, 1, "int16", 2))
    place = np.zeros(3 * 4 + 6 + 4 + 4, np.uint8)
    assert deliver(any_worker, client, m.ArraysTogether(parts), place) == b""
    assert place[:12].view(np.uint32).tolist() == [0, 2, 0]
    assert place[12:18].tobytes() == bytes(6)
    assert place[18:].tobytes() == np.float32(3).tobytes() + np.array([1, 2], np.int16).tobytes()


def test_an_array_comes_whenever_it_is_sent(any_worker, client, ids):
    """Each group of devices gets one push, by any of its own devices; before the command, and after it."""
    early, late = next(ids), next(ids)
    halves = np.arange(200_000, dtype=np.float32).reshape(2, -1)
    shape = halves[0].shape
    groups = ((0, 1, 9), shape), ((2, 3), shape), ((8,), shape)
    request = client.ask(0)
    client.links.push(request, {1: halves[0], 2: halves[1]})
    any_worker.tell(m.Take(SESSION, request.number, 1, early, "float32", groups, ""))
    assert client.links.wait(request) == b""
    request = take(any_worker, client, late, "float32", *groups)
    assert request.open
    client.links.push(request, {0: halves[0], 3: halves[1]})
    assert client.links.wait(request) == b""
    for out in (early, late):
        for device in range(4):
            np.testing.assert_array_equal(any_worker.fetch(out, device, shape=shape), halves[device // 2])


def test_what_makes_no_array_fails_it(any_worker, client, ids):
    out, text = next(ids), next(ids)
    request = take(any_worker, client, out, "float32", ((0,), (3,)))
    client.links.push(request, {0: np.ones(4, np.float32)})
    assert client.links.wait(request) is None
    assert any_worker.report(m.Failed, values=(out,)).failure.code == Code.INVALID_ARGUMENT
    assert isinstance(any_worker.fetch(out, 0), Failure)
    request = take(any_worker, client, text, "string", ((0,), (3,)))
    client.links.push(request, {0: np.ones(3, np.int8)})
    assert client.links.wait(request) is None


def test_an_array_of_a_client_that_goes_fails_and_is_told_of(any_worker, ids):
    client = Client(any_worker.keys, [any_worker.joined])
    out, later = next(ids), next(ids)
    take(any_worker, client, out, "float32", ((0,), (2,)), ((1,), (2,)))
    any_worker.put(later, np.ones(1, np.float32))
    assert any_worker.wait(later) is None  # By now it has been told to take the other.
    client.close()
    told = any_worker.report(m.Failed, values=(out,))
    assert not told.stranded
    assert "put the array again" in told.failure.message
    assert any_worker.wait(out) == told.failure
    any_worker.tell(m.Take("nobody", 1, 1, next(ids), "float32", (((0,), (2,)),), ""))
    any_worker.tell(m.Deliver("nobody", 1, 1, m.Computed((later,))))
    assert any_worker.wait(later) is None


def test_a_client_that_reads_nothing_holds_up_nobody(any_worker, client, ids):
    out = next(ids)
    any_worker.put(out, np.ones((1000, 1000), np.float32))
    still = streams.connect(any_worker.joined.link, "")
    hello = protocol.Hello("still", 0, protocol.token(any_worker.keys.secret, "still"))
    still.sendall(protocol.pack(protocol.Kind.HELLO, note=protocol.encode(hello)))
    assert Incoming(still).head().kind is protocol.Kind.WELCOME
    whole = m.WholeArray(out, ((0, (0, 0)),))
    any_worker.tell(*(m.Deliver("still", number, 1, whole) for number in range(1, 100)))
    any_worker.tell(*(m.Deliver("still", number, 1, m.Computed((out,))) for number in range(100, 1000)))
    place = np.zeros((1000, 1000), np.float32)
    assert deliver(any_worker, client, whole, place) == b""
    assert place.all()
    assert any_worker.wait(out) is None
    still.close()
