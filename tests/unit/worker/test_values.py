"""Values in and out, on real and simulated devices alike."""

from __future__ import annotations

from importlib import metadata

import ml_dtypes
import numpy as np
import pytest

from polypath import messages as m
from polypath.types import Code, Failure
from polypath.versions import parse
from polypath.worker import host
from polypath.worker.failures import WorkerFailure

DTYPES = """bool int2 uint2 int4 uint4 int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16
float32 float64 complex64 complex128 float4_e2m1fn float8_e3m4 float8_e4m3 float8_e4m3fn float8_e4m3b11fnuz
float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu""".split()  # noqa: SIM905
if parse(metadata.version("jaxlib")) >= (0, 12):
    DTYPES += ["float6_e2m3fn", "float6_e3m2fn"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(any_worker, ids, dtype):
    out = next(ids)
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    any_worker.put(out, array, devices=(1,))
    assert any_worker.fetch(out, 1, dtype, (2, 3)).tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_every_shape_comes_back(any_worker, ids, shape):
    out = next(ids)
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    any_worker.put(out, array)
    assert np.array_equal(any_worker.fetch(out, 0, shape=shape), array)


@pytest.mark.parametrize("strides", [(4, 8), (12, 4), (0, 4), (16, 4), (-12, 4)])
def test_strided_buffers(any_worker, ids, strides):
    out = next(ids)
    data = np.arange(16, dtype=np.float32).tobytes()
    offset = 12 if strides[0] < 0 else 0
    any_worker.tell(m.Put(out, "float32", (2, 3), "", None, (m.HostBuffer((2, 3), strides, (0,), data),)))
    expected = np.ndarray((2, 3), np.float32, data, offset, strides)
    assert np.array_equal(any_worker.fetch(out, 0, shape=(2, 3)), expected)
    assert np.array_equal(any_worker.fetch(out, 0, shape=(2, 3), strides=(4, 8)), expected)


def test_a_buffer_that_is_too_short_fails_its_value(any_worker, ids):
    out = next(ids)
    any_worker.tell(m.Put(out, "float32", (9,), "", None, (m.HostBuffer((9,), None, (0,), b"1234"),)))
    assert any_worker.report(m.Failed, values=(out,)).failure.code == Code.INVALID_ARGUMENT
    assert any_worker.fetch(out, 0).code == Code.INVALID_ARGUMENT


def test_one_buffer_for_several_devices_and_others_of_other_hosts(any_worker, ids):
    out = next(ids)
    buffer = m.HostBuffer((), None, (0, 3, 7), np.float32(5).tobytes())
    any_worker.tell(m.Put(out, "float32", (), "", None, (buffer,)))
    assert any_worker.fetch(out, 0) == any_worker.fetch(out, 3) == 5
    assert isinstance(any_worker.fetch(out, 7), Failure)


def test_strings(any_worker, ids):
    out, copy = next(ids), next(ids)
    any_worker.tell(
        m.Put(out, "string", (2,), "", None, (m.HostBuffer((2,), None, (0,), b"\x0a\x01a"),)),
        m.Copy(out, copy, ((0, 1),), "", False),
    )
    assert any_worker.fetch(copy, 1, "string") == b"\x0a\x01a"
    assert any_worker.wait(out, copy) is None


def test_a_large_array_comes_in_parts(any_worker, ids):
    out = next(ids)
    array = np.arange(300_000, dtype=np.float32)
    for device in (0, 2):
        buffer = m.HostBuffer(array.shape, None, (device,), (array + device).tobytes())
        any_worker.tell(m.Put(out, "float32", array.shape, "", None, (buffer,)))
    for device in (0, 2):
        assert np.array_equal(any_worker.fetch(out, device, shape=array.shape), array + device)


def test_a_value_of_which_a_part_failed_stays_a_failure(any_worker, ids):
    out = next(ids)
    for device, data in ((0, b"1234"), (1, bytes(16))):
        buffer = m.HostBuffer((4,), None, (device,), data)
        any_worker.tell(m.Put(out, "float32", (4,), "", None, (buffer,)))
    assert any_worker.fetch(out, 1, shape=(4,)).code == Code.INVALID_ARGUMENT


def test_a_shard_that_no_report_holds_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setattr(host, "MOST_INLINE", 100)
    assert host.packed(np.ones(25, np.float32)).data.nbytes == 100
    with pytest.raises(WorkerFailure, match="A shard of 104 bytes cannot go to the client in one piece") as refused:
        host.packed(np.ones(26, np.float32))
    assert refused.value.failure.code == Code.RESOURCE_EXHAUSTED


def test_layout_of_a_put(worker, ids):
    out = next(ids)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = m.HostBuffer((2, 3), None, (1,), array.tobytes())
    worker.tell(m.Put(out, "float32", (2, 3), "", b"\x0a\x02\x00\x01", (buffer,)))
    assert np.array_equal(worker.fetch(out, 1, shape=(2, 3)), array)


def test_memory_kinds(worker, ids):
    out, copy = next(ids), next(ids)
    worker.put(out, np.ones(3, np.float32), memory_kind="pinned_host")
    worker.tell(m.Copy(out, copy, ((0, 2),), "unpinned_host", False))
    assert worker.fetch(copy, 2, shape=(3,)).tolist() == [1, 1, 1]


def test_rebind_shares_and_delete_reaches_all(any_worker, ids):
    a, b, both, part = (next(ids) for _ in range(4))
    any_worker.put(a, np.full(2, 1, np.float32), devices=(0,))
    any_worker.put(b, np.full(2, 2, np.float32), devices=(1,))
    any_worker.tell(
        m.Rebind((m.Shards(both, ((a, 0), (b, 1))),)),
        m.Rebind((m.Shards(part, ((both, 1),)),)),
    )
    assert any_worker.fetch(both, 1, shape=(2,)).tolist() == [2, 2]
    assert any_worker.fetch(part, 1, shape=(2,)).tolist() == [2, 2]
    any_worker.tell(m.Delete((b,)))
    assert any_worker.fetch(part, 1).message == "Array has been deleted."
    assert any_worker.fetch(both, 0, shape=(2,)).tolist() == [1, 1]
    assert any_worker.wait(both).message == "Array has been deleted."
    any_worker.tell(m.Forget((a, both, part)))
    assert any_worker.fetch(a, 0).code == Code.NOT_FOUND
    any_worker.tell(m.Rebind((m.Shards(part, ((a, 0),)),)))
    assert any_worker.report(m.Failed, values=(part,)).failure.code == Code.NOT_FOUND


def test_fetch_is_not_overtaken_by_delete(worker, ids):
    out = next(ids)
    array = np.arange(1 << 20, dtype=np.float32)
    worker.put(out, array)
    request = worker.start_fetch(out, 0)
    worker.tell(m.Delete((out,)))
    assert worker.report(m.Fetched, request=request).result.data == array.tobytes()


def test_copy_and_donate(any_worker, ids):
    a, b = next(ids), next(ids)
    any_worker.put(a, np.ones(2, np.float32), np.zeros(2, np.float32), devices=(0, 1))
    any_worker.tell(m.Copy(a, b, ((0, 2), (1, 3)), "", True))
    assert any_worker.fetch(b, 2, shape=(2,)).tolist() == [1, 1]
    assert any_worker.fetch(a, 0).message == "Array has been deleted."


def test_reshard_and_bitcast(any_worker, ids):
    a, b, c = (next(ids) for _ in range(3))
    x = np.arange(8, dtype=np.float32)
    any_worker.put(a, x[:4], x[4:], devices=(0, 1))
    pieces = (m.Piece(0, (2,), (0,), (2,)), m.Piece(1, (0,), (2,), (3,)))
    any_worker.tell(
        m.Reshard(a, b, "float32", (m.Target(3, (5,), pieces), m.Target(2, (0,), ())), "", True),
        m.Bitcast(b, c, "int32", ((5,),), (3,), False),
    )
    assert any_worker.fetch(b, 3, shape=(5,)).tolist() == [2, 3, 4, 5, 6]
    assert any_worker.fetch(c, 3, "int32", (5,)).tobytes() == x[2:7].tobytes()
    assert any_worker.fetch(b, 2, shape=(0,)).shape == (0,)
    assert any_worker.wait(b, c) is None
    assert any_worker.fetch(a, 0).message == "Array has been deleted."
    any_worker.tell(m.Bitcast(c, a, "float64", ((2,),), (3,), False))
    assert any_worker.wait(a).code == Code.INVALID_ARGUMENT
