"""Programs of the worker's own, on one host: checkpoints and traces."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from jax.profiler import ProfileData

from polypath import messages as m
from polypath import plugins
from polypath.types import Code, Failure, ProgramInfo, Sharding
from polypath.worker.failures import WorkerFailure
from polypath.worker.lanes import Lanes
from polypath.worker.plugins import storage

_ROWS = bytes((8, 3, 26, 2, 4, 1, 34, 4, 0, 1, 2, 3))
"""An `OpSharding`: four tiles of rows."""
WHOLE = np.arange(14, dtype=np.float32).reshape(7, 2)
"""Four devices hold 2, 2, 2 and 1 of its rows."""


def stored(folder: Path, name="a", dtype="", shape=(7, 2), devices=(3, 2, 1, 0)):
    sharding = Sharding(devices, op_sharding=_ROWS if len(devices) > 1 else b"")
    return plugins.StoredArray(str(folder), name, dtype, shape, sharding, 30.0)


def compile_(worker, ids, asked, devices=(3, 2, 1, 0)) -> tuple[int, ProgramInfo | Failure]:
    executable = next(ids)
    worker.tell(m.Compile(executable, plugins.encode(asked), b"", devices, "plugin"))
    return executable, worker.report(m.Compiled, executable=executable).result


def execute(worker, ids, executable, args=(), outs=0) -> tuple[tuple[int, ...], int]:
    """The results' ids, and that of the end."""
    results, end = tuple(next(ids) for _ in range(outs)), next(ids)
    worker.tell(m.Execute(executable, tuple(args), results, (), 1, end))
    return results, end


def put(worker, ids) -> int:
    name = next(ids)
    buffers = tuple(
        m.HostBuffer(rows.shape, None, (device,), rows.tobytes())
        for rows, device in zip((WHOLE[:2], WHOLE[2:4], WHOLE[4:6], WHOLE[6:]), (3, 2, 1, 0), strict=True)
    )
    worker.tell(m.Put(name, "float32", (7, 2), "", None, buffers))
    return name


def spec(path: Path, driver="zarr") -> dict:
    return {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}


def test_written_shard_by_shard(worker, ids, tmp_path):
    write, info = compile_(worker, ids, plugins.Write((stored(tmp_path),)))
    assert isinstance(info, ProgramInfo)
    assert info.outputs == ()
    _, end = execute(worker, ids, write, [put(worker, ids)])
    assert worker.wait(end) is None
    np.testing.assert_array_equal(ts.open(spec(tmp_path / "a")).result().read().result(), WHOLE)
    assert json.loads((tmp_path / "a" / ".zarray").read_bytes())["chunks"] == [2, 2]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".zarray", "0.0", "1.0", "2.0", "3.0"]


@pytest.mark.parametrize("driver", ["zarr", "zarr3", "ocdbt"])
def test_read_whatever_the_format(worker, ids, tmp_path, driver):
    where = spec(tmp_path / "a", "zarr" if driver == "ocdbt" else driver)
    if driver == "ocdbt":
        where["kvstore"] = {"driver": "ocdbt", "base": f"file://{tmp_path}/", "path": "a/"}
    ts.open(where, create=True, dtype=ts.float32, shape=(7, 2)).result().write(WHOLE).result()
    asked = plugins.Read((stored(tmp_path, dtype="float32"), stored(tmp_path, dtype="int32")))
    read, info = compile_(worker, ids, asked)
    assert [(out.dtype, out.shape, out.sharding.devices) for out in info.outputs] == [
        ("float32", (7, 2), (3, 2, 1, 0)),
        ("int32", (7, 2), (3, 2, 1, 0)),
    ]
    (out, cast), end = execute(worker, ids, read, outs=2)
    assert worker.wait(end, out, cast) is None
    for device, rows in ((3, WHOLE[:2]), (2, WHOLE[2:4]), (1, WHOLE[4:6]), (0, WHOLE[6:])):
        np.testing.assert_array_equal(worker.fetch(out, device, shape=rows.shape), rows)
        np.testing.assert_array_equal(worker.fetch(cast, device, "int32", rows.shape), rows)


def test_what_is_donated_afterwards_was_written_before(worker, ids, programs, tmp_path):
    array = np.ones(4, np.float32)
    donate = next(ids)
    worker.compile(donate, programs["donate"], (0,))
    asked = plugins.Write((stored(tmp_path, shape=(4,), devices=(0,)),))
    write, _ = compile_(worker, ids, asked, (0,))
    a, b, *outs = (next(ids) for _ in range(4))
    worker.put(a, array)
    worker.put(b, array)
    _, end = execute(worker, ids, write, [a])
    worker.tell(m.Execute(donate, (a, b), tuple(outs), (), 1))
    assert worker.wait(end) is None
    assert worker.wait(*outs) is None
    np.testing.assert_array_equal(ts.open(spec(tmp_path / "a")).result().read().result(), array)


def test_a_lane_waits_for_the_others():
    lanes, go, order = Lanes(), threading.Event(), []
    done = threading.Event()
    lanes["plugin"].submit(go.wait)
    lanes["plugin"].submit(lambda: order.append("plugin"))
    wait = lanes.others(lanes["xla"])
    lanes["plugin"].submit(lambda: order.append("later"))
    lanes["xla"].submit(lambda: (wait(), order.append("xla"), done.set()))
    go.set()
    assert done.wait(30)
    assert order.index("plugin") < order.index("xla")


def test_what_is_not_there_is_no_fault_of_the_device(worker, ids, tmp_path):
    """Elastic training takes NOT_FOUND and INTERNAL for a lost slice, and would try for ever."""
    read, _ = compile_(worker, ids, plugins.Read((stored(tmp_path, "b", "float32"),)))
    (out,), end = execute(worker, ids, read, outs=1)
    failure = worker.wait(end)
    assert failure == worker.fetch(out, 0)
    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.message.startswith(f"There is no array 'b' in {tmp_path}")
    (tmp_path / "a").write_bytes(b"")  # where the array's folder should be
    write, _ = compile_(worker, ids, plugins.Write((stored(tmp_path),)))
    _, end = execute(worker, ids, write, [put(worker, ids)])
    failure = worker.wait(end)
    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.message.startswith(f"Host 0: creating a in {tmp_path} failed: ")
    assert not [name for name in ("NOT_FOUND", "INTERNAL") if name in failure.message]


def test_another_shape_is_refused(worker, ids, tmp_path):
    ts.open(spec(tmp_path / "a"), create=True, dtype=ts.float32, shape=(6, 2)).result()
    read, _ = compile_(worker, ids, plugins.Read((stored(tmp_path, dtype="float32"),)))
    _, end = execute(worker, ids, read, outs=1)
    assert "has shape (6, 2), not (7, 2)" in worker.wait(end).message
    write, _ = compile_(worker, ids, plugins.Write((stored(tmp_path, shape=(8, 2)),)))
    _, end = execute(worker, ids, write, [put(worker, ids)])
    assert "has a shard of shape (1, 2) on device 0" in worker.wait(end).message


def test_where_storage_can_be(worker, ids):
    for location in ("checkpoints/1", "ftp://somewhere/1"):
        _, failure = compile_(worker, ids, plugins.Write((stored(Path(), shape=(7, 2)),)))
        assert "A checkpoint cannot be in '.'" in failure.message
        with pytest.raises(WorkerFailure, match=f"A trace cannot be in '{location}'"):
            storage.check(location, "A trace")
    for location in ("/a/b", "file:///a/b"):
        assert storage.kvstore(location) == {"driver": "file", "path": "/a/b/"}
    assert storage.kvstore("gs://bucket/a") == {"driver": "gcs", "bucket": "bucket", "path": "a/"}


def test_without_tensorstore_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(WorkerFailure, match=r"run `pip install 'polypath\[checkpoint\]'` in their environment"):
        storage.tensorstore()


def events_of(path: Path) -> set[str]:
    found = ProfileData.from_file(str(path))
    return {event.name for plane in found.planes for line in plane.lines for event in line.events}


def test_a_trace_is_written_by_the_second_run(worker, ids, programs, tmp_path):
    asked = plugins.Profile(str(tmp_path), "run", 0, 0.0, None, False, {}, 1)
    profile, info = compile_(worker, ids, asked)
    assert [(out.dtype, out.shape) for out in info.outputs] == [("string", (1,))]
    (started,), end = execute(worker, ids, profile, outs=1)
    assert worker.wait(end, started) is None
    # Only one at a time.
    other, _ = compile_(worker, ids, plugins.Profile(str(tmp_path), "other", 0, 0.0, None, False, {}, 0))
    _, end = execute(worker, ids, other)
    assert "takes a trace for" in worker.wait(end).message
    add, a, out = next(ids), next(ids), next(ids)
    worker.compile(add, programs["add"], (0,))
    worker.put(a, np.float32(1))
    worker.tell(m.Execute(add, (a,), (out,), (), 1))
    assert worker.fetch(out, 0) == 2
    assert not list(tmp_path.iterdir())
    (ended,), end = execute(worker, ids, profile, outs=1)
    assert worker.wait(end, ended) is None
    (file,) = (tmp_path / "plugins" / "profile" / "run").iterdir()
    assert file.name.endswith("-worker0.xplane.pb")
    assert any("Execute" in name for name in events_of(file)), events_of(file)
    # One that is let go of makes room for the next.
    _, end = execute(worker, ids, other)
    assert worker.wait(end) is None
    worker.tell(m.Unload(other))
    _, end = execute(worker, ids, profile, outs=1)
    assert worker.wait(end) is None
    _, end = execute(worker, ids, profile, outs=1)
    assert worker.wait(end) is None
