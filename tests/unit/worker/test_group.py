"""Two workers that form an island."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from polypath import messages as m
from polypath.types import Failure, ProgramInfo


def compile_on_both(workers, executable, program, devices):
    for worker in workers:
        worker.start_compile(executable, program, devices)
    results = [worker.report(m.Compiled, executable=executable) for worker in workers]
    for each in results:
        assert isinstance(each.result, ProgramInfo), each.result
    return results


def tell(workers, *commands):
    for worker in workers:
        worker.tell(*commands)


def put(workers, out, shards, devices):
    buffers = tuple(
        m.HostBuffer(shard.shape, None, (device,), shard.tobytes())
        for device, shard in zip(devices, shards, strict=True)
    )
    tell(workers, m.Put(out, str(shards[0].dtype), shards[0].shape, "", None, buffers))


def values_of(worker):
    worker.tell(m.Holdings(99))
    held = worker.report(m.Answered, request=99).result
    return msgspec.msgpack.decode(held.data)["values"]


def entries(folder):
    """A program that is compiled anew is written anew."""
    return {(path.name, path.stat().st_ino) for path in Path(folder).iterdir()}


def test_collectives_copies_and_reshard(start, programs, cache_dir):
    workers = one, two = start(hosts=2)
    assert [d.id for d in two.joined.devices] == [4, 5, 6, 7]
    compile_on_both(workers, 1, programs["psum8"], range(8))
    before = entries(cache_dir)
    compile_on_both(workers, 2, programs["psum8"], range(8))
    assert entries(cache_dir) == before, "the cache was not used"
    put(workers, 10, [np.full(2, i, np.float32) for i in range(8)], range(8))
    value = 10
    for step in range(100):
        tell(workers, m.Execute(1 + step % 2, (value,), (100 + step,), (), step))
        value = 10 if step < 98 else 100 + step
    assert one.fetch(100, 1, shape=(2,)).tolist() == [29, 29]
    assert two.fetch(100, 7, shape=(2,)).tolist() == [35, 35]
    assert one.wait(199 - 1) is None

    # A subset across hosts.
    compile_on_both(workers, 3, programs["psum_across"], (2, 3, 4))
    put(workers, 11, [np.full(2, i, np.float32) for i in (2, 3, 4)], (2, 3, 4))
    tell(workers, m.Execute(3, (11,), (12,), (), 1))
    assert one.fetch(12, 3, shape=(2,)).tolist() == [12, 12]
    assert two.fetch(12, 4, shape=(2,)).tolist() == [13, 13]

    # Whole shards from host to host, and pieces.
    tell(workers, m.Copy(10, 20, tuple((i, (i + 3) % 8) for i in range(8)), "", False))
    tell(workers, m.Execute(1, (20,), (21,), (), 1))
    assert two.fetch(20, 4, shape=(2,)).tolist() == [1, 1]
    assert one.fetch(20, 0, shape=(2,)).tolist() == [5, 5]
    assert two.fetch(21, 4, shape=(2,)).tolist() == [29, 29]
    pieces = tuple(m.Piece(i, (1,), (i,), (1,)) for i in range(8))
    targets = (m.Target(1, (8,), pieces), m.Target(6, (8,), pieces))
    tell(workers, m.Reshard(10, 22, "float32", targets, "", False))
    assert one.fetch(22, 1, shape=(8,)).tolist() == list(range(8))
    assert two.fetch(22, 6, shape=(8,)).tolist() == list(range(8))

    # Only a worker with a shard of the result has it, as the others are not told to forget it.
    tell(workers, m.Copy(10, 24, ((1, 6),), "", False))
    tell(workers, m.Reshard(10, 25, "float32", (m.Target(6, (1,), (m.Piece(0, (1,), (0,), (1,)),)),), "", False))
    assert two.wait(24, 25) is None
    assert values_of(two) - values_of(one) == 2

    # A failure travels with the copy.
    tell(workers, m.Delete((11,)), m.Copy(11, 23, ((2, 5),), "", False))
    assert two.fetch(23, 5).message == "Array has been deleted."
    assert two.wait(23) is not None
    for worker in workers:
        assert worker.end() == 0


def test_a_host_that_cannot_start_its_part_is_stranded(start, programs):
    workers = one, _ = start(hosts=2)
    compile_on_both(workers, 1, programs["psum8"], range(8))
    put([one], 10, [np.ones(3, np.float32)] * 4, range(4))
    one.tell(m.Execute(1, (10,), (11,), (), 1))
    assert one.report(m.Failed, values=(11,)).stranded


@pytest.mark.parametrize("platform", ["cpu", "fast"])
def test_waits_end_when_cancelled_and_a_lost_peer_does_not_stop_a_snapshot(start, programs, tmp_path, platform):
    workers = one, two = start(hosts=2, platform=platform)
    compile_on_both(workers, 1, programs["psum8"], range(8))
    one.compile(2, programs["add"], (0,))
    put([one], 10, [np.ones(2, np.float32)] * 4, range(4))
    two.process.kill()
    two.process.wait()
    for step in range(40):
        one.tell(m.Execute(1, (10,), (100 + step,), (), step))
    one.tell(m.Copy(10, 50, ((4, 0),), "", False), m.Execute(2, (50,), (51,), (), 1))
    one.write(b"X", b"host 1 was lost")
    failed = one.report(m.Failed, values=(139,))
    assert failed.stranded
    assert failed.failure.message == "host 1 was lost"
    assert isinstance(one.report(m.Failed, values=(51,)).failure, Failure)
    one.tell(m.Snapshot(str(tmp_path / "s"), 0.2))
    left = one.report(m.Left)
    assert 10 in left.values
    assert one.finish() == 0


def test_the_first_node_can_die_too(start, programs):
    one, two = start(hosts=2)
    put([two], 10, [np.ones(2, np.float32)], (6,))
    one.process.kill()
    one.process.wait()
    assert two.fetch(10, 6, shape=(2,)).tolist() == [1, 1]
    assert two.end() == 0


def test_hosts_that_tune_together_compile_together(start, programs, tmp_path):
    """One that finds a program in its cache compiles it all the same where another has to."""
    for second, compiled in (("one", True), ("one", False), ("two", True)):
        caches = [str(tmp_path / name) for name in ("one", second)]
        workers = start(hosts=2, platform="fast", cache_dirs=caches)
        results = compile_on_both(workers, 1, programs["psum8"], range(8))
        assert [each.compiled for each in results] == [compiled, compiled]
        for worker in workers:
            assert worker.end() == 0
