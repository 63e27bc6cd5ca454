"""Functions of clients in a worker: what they get, what becomes of what they give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from polypath import messages as m
from polypath.types import Code, Failure
from polypath.worker import protos

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def functions() -> dict[str, bytes]:
    """Pickled functions by name; see `pickled.py`."""
    done = subprocess.run([sys.executable, str(HERE / "pickled.py")], stdout=subprocess.PIPE, check=True, timeout=90)
    return msgspec.msgpack.decode(done.stdout, type=dict[str, bytes])


@pytest.fixture
def run(worker, functions, ids):
    """Loads a function on devices, runs it once on a value, and gives the result's id."""

    def runner(name: str, value: int, devices=(2,)) -> int:
        executable, out, status = next(ids), next(ids), next(ids)
        worker.tell(m.Compile(executable, functions[name], b"", tuple(devices), "python"))
        info = worker.report(m.Compiled, executable=executable).result
        assert (info.name, info.devices) == (name.removesuffix("_as_another_type"), tuple(devices))
        worker.tell(m.Execute(executable, (value,), (out,), (), 0, status), m.Unload(executable))
        worker.wait(status)
        return out

    return runner


def scalar(worker, ids, dtype="float32") -> int:
    value = next(ids)
    worker.put(value, np.array(3, dtype), devices=(2,))
    return value


def test_a_function_sees_its_shards_as_one_array(worker, run, ids) -> None:
    value, data = next(ids), np.arange(8, dtype=np.float32).reshape(4, 2)
    worker.put(value, *data, devices=(0, 1, 2, 3))
    out = run("half", value, (0, 1, 2, 3))
    for device in range(4):
        np.testing.assert_array_equal(worker.fetch(out, device, shape=(2,)), data[device] / 2)


def test_64_bit_types_where_an_array_has_them(worker, run, ids) -> None:
    out = run("wide", scalar(worker, ids, "float64"))
    np.testing.assert_array_equal(worker.fetch(out, 2, "float64"), 3 / 3)


def test_strings(worker, run, ids) -> None:
    value = next(ids)
    contents = protos.string_contents([b"ab", "c\u00e9".encode()])
    worker.tell(m.Put(value, "string", (2,), "", None, (m.HostBuffer((2,), None, (2,), contents),)))
    out = worker.fetch(run("shout", value), 2, "string")
    assert protos.strings(out) == [b"AB", "C\u00c9".encode()]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("fail", Code.INTERNAL, ("fail raised LookupError on host 0", "Traceback", ", in fail", "nothing here")),
        ("to_other", Code.INVALID_ARGUMENT, ("Result 0 of to_other is float32[]", "specification says")),
        ("names", Code.INVALID_ARGUMENT, ("Result 0 of names is of type set", "jax.device_put")),
        ("half_as_another_type", Code.INVALID_ARGUMENT, ("Result 0 of half is float32[]", "int32[]")),
    ],
)
def test_what_goes_wrong_is_the_result(worker, run, ids, name, code, words) -> None:
    failure = worker.fetch(run(name, scalar(worker, ids)), 2)
    assert isinstance(failure, Failure)
    assert failure.code is code
    assert all(word in failure.message for word in words), failure.message
    assert set(worker.report(m.Failed, failure=failure).values)


def test_what_cannot_be_unpickled_is_refused(worker, functions, ids) -> None:
    executable = next(ids)
    program = msgspec.msgpack.decode(functions["half"], type=m.PythonProgram)
    broken = msgspec.structs.replace(program, function=program.function[:-10])
    worker.tell(m.Compile(executable, msgspec.msgpack.encode(broken), b"", (0,), "python"))
    failure = worker.report(m.Compiled, executable=executable).result
    assert failure.code is Code.INVALID_ARGUMENT
    assert failure.message.startswith("The colocated function half cannot be unpickled on host 0")


def test_simulated_devices_run_none(start, functions, ids) -> None:
    (worker,) = start(platform="null")
    worker.tell(m.Compile(1, functions["half"], b"", (0, 1, 2, 3), "python"))
    assert worker.report(m.Compiled, executable=1).result.code is Code.UNIMPLEMENTED
