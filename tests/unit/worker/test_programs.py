"""Compiling and running programs on one host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polypath import messages as m
from polypath.types import Code, Failure, ProgramInfo


def run(worker, ids, program, args, outs, devices=(0,), kept=()):
    """Compile and execute on values of one shard per device; the info and the results' ids."""
    executable = next(ids)
    compiled = worker.compile(executable, program, devices)
    assert isinstance(compiled.result, ProgramInfo), compiled.result
    names = [next(ids) for _ in args]
    for name, shards in zip(names, args, strict=True):
        worker.put(name, *shards, devices=sorted(devices) if len(shards) > 1 else devices)
    results = tuple(next(ids) for _ in range(outs))
    worker.tell(m.Execute(executable, tuple(names), results, kept, 1))
    return compiled.result, names, results


def test_scalar(worker, ids, programs):
    info, _, (out,) = run(worker, ids, programs["add"], [[np.float32(2)]], 1)
    assert worker.fetch(out, 0) == 3
    assert info.devices == (0,)
    assert info.outputs[0].shape == ()
    assert info.outputs[0].dtype == "float32"
    assert info.outputs[0].sharding.op_sharding is None
    assert info.output_memory_kinds == ("device",)
    assert info.parameter_shardings is None
    assert info.fingerprint
    assert info.memory_stats is not None


def test_another_device(worker, ids, programs):
    _, _, (out,) = run(worker, ids, programs["add_on_2"], [[np.float32(2)]], 1, (2,))
    assert worker.fetch(out, 2) == 3
    assert isinstance(worker.fetch(out, 0), Failure)


@pytest.mark.parametrize("kept", [(), (0,)])
def test_donation(any_worker, ids, programs, kept):
    array = np.ones(4, np.float32)
    info, (a, b), outs = run(any_worker, ids, programs["donate"], [[array], [array]], 2, kept=kept)
    assert info.donated == (0,)
    assert any_worker.wait(*outs) is None
    assert isinstance(any_worker.fetch(a, 0, shape=(4,)), Failure) == (not kept)
    assert any_worker.fetch(b, 0, shape=(4,)).tolist() == [1] * 4


def test_no_outputs_and_empty_arrays(any_worker, ids, programs):
    run(any_worker, ids, programs["nothing"], [], 0)
    _, _, (out,) = run(any_worker, ids, programs["empty"], [[np.zeros((0, 3), np.float32)]], 1)
    assert any_worker.fetch(out, 0, shape=(0, 3)).shape == (0, 3)


def test_linear_algebra_does_not_kill_the_worker(worker, ids, programs):
    array = np.diag([4.0, 9.0, 16.0]).astype(np.float32)
    _, _, (out,) = run(worker, ids, programs["cholesky"], [[array]], 1)
    assert np.allclose(worker.fetch(out, 0, shape=(3, 3)), np.sqrt(array))
    _, _, (values, _) = run(worker, ids, programs["eigh"], [[array]], 2)
    assert np.allclose(worker.fetch(values, 0, shape=(3,)), [4, 9, 16])


def test_int4(worker, ids, programs):
    import ml_dtypes

    _, _, (out,) = run(worker, ids, programs["int4"], [[np.array([1, 2, 3], ml_dtypes.int4)]], 1)
    assert worker.fetch(out, 0, "int4", (3,)).astype(int).tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("name", "devices"),
    [("psum4", (0, 1, 2, 3)), ("psum_permuted", (2, 0, 3, 1)), ("psum_subset", (1, 3))],
)
def test_spmd(worker, ids, programs, name, devices):
    count = len(devices)
    shards = [np.full(2, device, np.float32) for device in sorted(devices)]
    info, _, (out,) = run(worker, ids, programs[name], [shards], 1, devices)
    assert info.devices == devices
    assert info.outputs[0].shape == (2 * count,)
    assert info.outputs[0].sharding.devices == devices
    assert info.outputs[0].sharding.op_sharding == info.output_shardings[0] != b""
    for device in devices:
        assert worker.fetch(out, device, shape=(2,)).tolist() == [device + sum(devices)] * 2


def test_replicated_and_output_shapes(any_worker, ids, programs):
    executable, a, b, c, d = (next(ids) for _ in range(5))
    info = any_worker.compile(executable, programs["replicated"], range(4)).result
    assert [each.shape for each in info.outputs] == [(8,), ()]
    assert info.output_shardings[1] == b""
    shards = np.arange(8, dtype=np.float32).reshape(4, 2)
    any_worker.put(a, *shards, devices=range(4))
    any_worker.put(b, *[np.ones(8, np.float32)] * 4, devices=range(4))
    any_worker.tell(m.Execute(executable, (a, b), (c, d), (), 1))
    assert any_worker.wait(c, d) is None
    assert any_worker.fetch(c, 3, shape=(2,)).shape == (2,)
    if any_worker.config.platform != "null":
        assert any_worker.fetch(c, 3, shape=(2,)).tolist() == [7, 8]
        assert any_worker.fetch(d, 2) == 8


def test_many_collectives_in_flight(worker, ids, programs):
    executable, first = next(ids), next(ids)
    worker.compile(executable, programs["psum4_donate"], range(4))
    worker.put(first, *[np.zeros(2, np.float32)] * 4, devices=range(4))
    value = first
    for _ in range(300):
        out = next(ids)
        worker.tell(m.Execute(executable, (value,), (out,), (), 1))
        value = out
    assert worker.wait(value) is None
    assert worker.fetch(value, 1, shape=(2,)).tolist() == [0, 0]


def test_results_pass_between_device_orders(worker, ids, programs):
    one, two, a, b, c = (next(ids) for _ in range(5))
    worker.compile(one, programs["psum4"], range(4))
    worker.compile(two, programs["psum_permuted"], (2, 0, 3, 1))
    worker.put(a, *[np.full(2, i, np.float32) for i in range(4)], devices=range(4))
    worker.tell(m.Execute(one, (a,), (b,), (), 1), m.Execute(two, (b,), (c,), (), 2))
    assert worker.fetch(c, 3, shape=(2,)).tolist() == [9 + 30] * 2


def test_failures_flow(any_worker, ids, programs):
    executable, bad, out, then = (next(ids) for _ in range(4))
    any_worker.compile(executable, programs["add"], (0,))
    any_worker.put(bad, np.ones(3, np.float32))
    any_worker.tell(
        m.Execute(executable, (bad,), (out,), (), 1),
        m.Execute(executable, (out,), (then,), (), 2),
        m.Execute(executable, (next(ids),), (next(ids),), (), 3),
    )
    failed = any_worker.report(m.Failed, values=(out,))
    assert failed.failure.code == Code.INVALID_ARGUMENT
    assert "float32[3]" in failed.failure.message
    assert not failed.stranded
    assert any_worker.report(m.Failed, values=(then,)).failure == failed.failure
    assert any_worker.fetch(then, 0) == failed.failure
    assert any_worker.report(m.Failed).failure.code == Code.NOT_FOUND
    any_worker.tell(m.Execute(next(ids), (), (next(ids),), (), 4))
    assert any_worker.report(m.Failed).failure.code == Code.NOT_FOUND


def test_deleted_inputs_do_not_start_a_collective(worker, ids, programs):
    executable, a, alias, out = (next(ids) for _ in range(4))
    worker.compile(executable, programs["psum4"], range(4))
    worker.put(a, *[np.ones(2, np.float32)] * 4, devices=range(4))
    worker.tell(m.Rebind((m.Shards(alias, ((a, 0), (a, 1), (a, 2), (a, 3))),)), m.Delete((a,)))
    worker.tell(m.Execute(executable, (alias,), (out,), (), 1))
    assert worker.report(m.Failed, values=(out,)).failure.message == "Array has been deleted."


def test_await_answers_before_slow_work_ends_and_after_donation(worker, ids, programs):
    executable, a, b = next(ids), next(ids), next(ids)
    worker.compile(executable, programs["slow"], (0,))
    worker.put(a, np.zeros((300, 300), np.float32))
    worker.tell(m.Execute(executable, (a,), (b,), (), 1))
    request = worker.start_fetch(b, 0)
    worker.tell(m.Delete((b,)))
    assert len(worker.report(m.Fetched, request=request).result.data) == 360_000


def test_a_program_that_is_none(any_worker, ids, programs):
    result = any_worker.compile(next(ids), (b"no", programs["add"][1]), (0,)).result
    assert isinstance(result, Failure)
    assert result.code == Code.INVALID_ARGUMENT


def test_questions(worker, ids, programs):
    import msgspec

    executable = next(ids)
    info = worker.compile(executable, programs["pair"], (0,)).result
    worker.tell(m.CostAnalysis(1, executable), m.ProgramText(2, executable), m.ProgramText(3, next(ids)))
    assert msgspec.msgpack.decode(worker.report(m.Answered, request=1).result.data)["flops"] > 0
    assert worker.report(m.Answered, request=2).result.data.startswith(b"HloModule")
    assert worker.report(m.Answered, request=3).result.code == Code.NOT_FOUND
    worker.tell(m.DefaultLayout(4, "float32", (2, 3), 0, "device"))
    assert worker.report(m.Answered, request=4).result.data == info.parameter_layouts[0]
    worker.tell(m.DefaultLayout(5, "string", (2, 3), 0, "device"))
    assert worker.report(m.Answered, request=5).result.data == info.parameter_layouts[0]
    worker.tell(m.Unload(executable), m.CostAnalysis(6, executable))
    assert worker.report(m.Answered, request=6).result.code == Code.NOT_FOUND


def test_the_cache_is_used_and_survives_damage(start, tmp_path, programs):
    folder = tmp_path / "cache"
    devices = range(4)
    for damage in (False, False, True):
        if damage:
            for entry in filter(Path.is_file, folder.iterdir()):
                entry.write_bytes(entry.read_bytes()[:-9])
        (worker,) = start(cache_dir=str(folder))
        compiled = worker.compile(1, programs["psum4"], devices)
        assert isinstance(compiled.result, ProgramInfo)
        worker.put(2, *[np.ones(2, np.float32)] * 4, devices=devices)
        worker.tell(m.Execute(1, (2,), (3,), (), 1))
        assert worker.fetch(3, 2, shape=(2,)).tolist() == [5, 5]
        assert worker.end() == 0
    assert len(list(filter(Path.is_file, folder.iterdir()))) == 1


@pytest.mark.parametrize("platform", ["cpu", "null"])
def test_snapshot(start, tmp_path, programs, platform):
    (worker,) = start(platform=platform)
    worker.compile(1, programs["donate"], (0,))
    worker.put(2, np.arange(4, dtype=np.float32), np.zeros(4, np.float32), devices=(0, 3))
    worker.put(3, np.ones(4, np.float32))
    worker.tell(m.Put(4, "string", (1,), "", None, (m.HostBuffer((1,), None, (0,), b"abc"),)))
    worker.tell(m.Delete((3,)), m.Snapshot(str(tmp_path / "s"), 10.0))
    left = worker.report(m.Left)
    assert set(left.values) == {2, 3, 4}
    assert worker.finish() == 0
    (again,) = start(platform=platform, snapshot=str(tmp_path / "s"))
    assert set(again.joined.values) == {2, 3, 4}
    assert again.fetch(2, 0, shape=(4,)).tolist() == [0, 1, 2, 3]
    assert again.fetch(4, 0, "string") == b"abc"
    assert again.fetch(3, 0).message == "Array has been deleted."
    again.put(5, np.ones(4, np.float32))
    # As after a loss: a program is compiled and run one behind the other, and the second waits for the first.
    again.tell(m.Compile(1, *programs["donate"], (0,)), m.Execute(1, (2, 5), (6, 7), (), 1), m.ProgramText(9, 1))
    assert again.wait(6, 7) is None
    assert again.end() == 0


@pytest.mark.parametrize("platform", ["cpu", "null"])
def test_a_program_that_cannot_be_loaded_again(start, platform):
    (worker,) = start(platform=platform)
    worker.tell(m.Compile(1, b"no program", b"", (0,)), m.Execute(1, (), (2,), (), 1))
    failed, compiled = worker.report(m.Failed), worker.report(m.Compiled)
    assert failed.values == (2,)
    assert failed.failure == compiled.result
    worker.tell(m.Execute(5, (), (3,), (), 1))
    assert worker.report(m.Failed).failure.message == "Executable 5 is not on this worker."
    assert worker.end() == 0
