"""JAX's colocated Python on a cluster of 2 hosts with 4 devices each: where it runs, what it keeps, how it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cluster_tools import Remains, polypath, run_python, start_detached, status_of, unique_name

BEGIN = """
import os, threading
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import colocated_python as cp
from jax.sharding import NamedSharding, PartitionSpec as P, SingleDeviceSharding

devices = jax.devices()
assert len(devices) == 8
mesh = jax.make_mesh((8,), ("x",))
cut, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())

def on_shards(f, x):
    parts = [jax.device_put(f(shard.data), shard.device) for shard in x.addressable_shards]
    return jax.make_array_from_single_device_arrays(x.shape, x.sharding, parts)

def error_of(work):
    try:
        jax.block_until_ready(work())
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    raise AssertionError("it worked")
"""

WHERE = """
assert cp.colocated_cpu_devices(devices[3:6]) == devices[3:6]
x = jax.device_put(np.arange(16, dtype=np.float32), cut)

@cp.colocated_python
def twice(x):
    assert jax.process_count() == 2 and len(jax.devices()) == 8 and len(jax.local_devices()) == 4
    assert not x.is_fully_addressable and len(x.addressable_shards) == 4
    return {"out": on_shards(lambda part: jax.jit(lambda y: y * 2)(part), x), "same": x}

for _ in range(3):
    y = twice(x)
    assert y["out"].sharding == cut and y["same"].sharding == cut
    assert np.asarray(y["out"]).tolist() == [2.0 * i for i in range(16)]
    assert np.asarray(jax.jit(lambda y: y + 1)(y["same"])).tolist() == [i + 1.0 for i in range(16)]

@cp.colocated_python
def pids(x):
    return on_shards(lambda part: np.full(part.shape, os.getpid(), np.float32), x)

found = np.asarray(pids(x)).astype(int)
assert os.getpid() not in found
print(*sorted({*found[:8]}), *sorted({*found[8:]}))

# Results on some of the devices only, and a memory of another kind.
@cp.colocated_python
def first():
    return jnp.arange(3.0)

some = first.specialize(devices=devices[5:6])()
assert some.devices() == {devices[4]}, some.devices()  # its process' default device
pinned = NamedSharding(mesh, P("x"), memory_kind="pinned_host")
z = cp.colocated_python(lambda x: jax.device_put(x, pinned))(x)
assert z.sharding.memory_kind == "pinned_host" and np.asarray(z).tolist() == list(range(16))

# Types are as in the client's JAX, whatever the worker's own are.
@cp.colocated_python
def made():
    return jnp.arange(3), jnp.ones(2) / 3

ints, floats = made.specialize(devices=devices[:1])()
assert (ints.dtype, floats.dtype) == (np.int32, np.float32)
with jax.enable_x64(True):
    wide = jax.device_put(np.float64(1), devices[6])
    third = cp.colocated_python(lambda x: x / jnp.arange(4)[3])(wide)
    assert third.dtype == np.float64 and float(third) == 1 / 3
"""

STATE = """
@cp.colocated_python_class
class Counter:
    def __init__(self, start):
        self.value = start
        self.calls = 0

    def __del__(self):
        cp.ended = self.calls

    def add(self, x):
        self.value += 1
        self.calls += 1
        return on_shards(lambda part: np.asarray(part) + self.value, x)

x = jax.device_put(np.zeros(8, np.int32), cut)
counter = Counter(10)
for i in range(1, 4):
    assert np.asarray(counter.add(x)).tolist() == [10 + i] * 8

@cp.colocated_python
def ended(x):
    return on_shards(lambda part: np.asarray(part) + getattr(cp, "ended", -1), x)

assert np.asarray(ended(x)).tolist() == [-1] * 8
del counter
assert np.asarray(ended(x)).tolist() == [3] * 8

# Calls of one thread run in its order, those of several side by side.
@cp.colocated_python
def prepare(x):
    cp.barrier = threading.Barrier(3)
    return x

@cp.colocated_python
def meet(x):
    cp.barrier.wait(30)
    return x

one = jax.device_put(np.int32(1), devices[7])
jax.block_until_ready(prepare(one))
meet = meet.specialize(out_specs_fn=lambda x: x)
threads = [threading.Thread(target=lambda: jax.block_until_ready(meet(one))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

# What waits for a call waits with it: arguments that are deleted, and programs on its results.
@cp.colocated_python
def slow(x):
    cp.barrier.wait(30)
    return x + 1

slow = slow.specialize(out_specs_fn=lambda x: x)
two = slow(one)
one_more = jax.jit(lambda x: x * 10)(two)
one.delete()
other = jax.device_put(np.int32(5), devices[7])
for _ in range(2):
    threads.append(threading.Thread(target=lambda: jax.block_until_ready(meet(other))))
    threads[-1].start()
assert int(one_more) == 20
for thread in threads:
    thread.join()

words = np.array([["ab", "ä"], ["", "long" * 100]], np.dtypes.StringDType())
text = jax.device_put(words, NamedSharding(jax.sharding.Mesh(np.array(devices[3:5]), "y"), P("y")))
upper = np.vectorize(str.upper, otypes=[np.dtypes.StringDType()])
loud = cp.colocated_python(lambda x: on_shards(lambda part: upper(jax.device_get(part)), x))(text)
assert (jax.device_get(loud) == upper(words)).all()
"""

ERRORS = """
x = jax.device_put(np.zeros(8, np.float32), cut)
one = jax.device_put(np.float32(0), devices[5])

def deeper(x):
    raise KeyError("no such thing as " + str(x.shape))

@cp.colocated_python
def wrong(x):
    return deeper(x)

message = error_of(lambda: wrong(one))
assert message.startswith("INTERNAL: "), message
assert "KeyError on host 1." in message and "no such thing as ()" in message, message
assert ", in wrong" in message and ", in deeper" in message and "Traceback" in message, message
assert "colocated.py\\", line" not in message, message  # none of the worker's own frames

specified = wrong.specialize(out_specs_fn=lambda x: x)
lost = specified(one)
message = error_of(lambda: jax.jit(lambda x: x + 1)(lost))
assert "no such thing as ()" in message and ", in deeper" in message, message

@cp.colocated_python
def leave(x):
    raise SystemExit(3)

assert "SystemExit on host" in error_of(lambda: leave(x))

other = cp.colocated_python(lambda x: x[:4]).specialize(out_specs_fn=lambda x: x)
message = error_of(lambda: other(one * jnp.ones(8)))
assert message.startswith("INVALID_ARGUMENT: Result 0 of <lambda> is float32[4]"), message
assert "float32[8]" in message, message

two = cp.colocated_python(lambda x: (x, x)).specialize(out_specs_fn=lambda x: x)
assert "specification says" in error_of(lambda: two(one))

array = cp.colocated_python(lambda x: np.asarray(x)).specialize(out_specs_fn=lambda x: x)
assert "is of type ndarray" in error_of(lambda: array(one))

elsewhere = cp.colocated_python(lambda x: x)
elsewhere = elsewhere.specialize(
    out_specs_fn=lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=SingleDeviceSharding(devices[0]))
)
assert "is to be on device 0" in error_of(lambda: elsewhere(one))

import sys, types
module = types.ModuleType("only_the_clients")
exec("def f(x): return x", module.__dict__)
sys.modules[module.__name__] = module
message = error_of(lambda: cp.colocated_python(module.f)(one))
assert "No module named 'only_the_clients'" in message and "pickled by value" in message, message

assert float(cp.colocated_python(lambda x: x + 1)(one)) == 1
"""

DYING = """
import signal
x = jax.device_put(np.zeros(8, np.float32), cut)

@cp.colocated_python
def die(x):
    os.kill(os.getpid(), signal.SIGKILL)

kept = cp.colocated_python(lambda x: x + 1)
left = jax.device_put(np.float32(0), devices[0])
assert float(kept(left)) == 1
message = error_of(lambda: die(jax.device_put(np.float32(0), devices[7])))
assert message.startswith("DATA_LOSS: Host 1 of island 0 was lost (killed by SIGKILL)"), message
# On the other host the process is new too, and nobody is told otherwise.
message = error_of(lambda: kept(left))
assert message.startswith("DATA_LOSS: The colocated function <lambda> ended, with what it kept"), message
jax.clear_caches()
assert float(kept(left)) == 1
again = jax.device_put(np.float32(3), devices[7])
assert float(kept(again)) == 4
"""


@pytest.fixture(scope="module")
def eight(place: object) -> Iterator[tuple[str, dict[str, str]]]:
    """The name of a cluster of 2 hosts with 4 devices each, and with which variables it is found."""
    name = unique_name()
    start_detached(name, "--hosts", "2", "--devices-per-host", "4")
    try:
        remains = Remains(name)
        yield name, json.loads(polypath("env", "--json", "--name", name).stdout)
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


def test_runs_in_each_hosts_worker_on_its_shards(eight: tuple[str, dict[str, str]]) -> None:
    name, variables = eight
    pids = [int(pid) for pid in run_python(BEGIN + WHERE, variables).split()]
    assert pids == [host["pid"] for host in status_of(name)["controller"]["hosts"]]


def test_keeps_state_and_order(eight: tuple[str, dict[str, str]]) -> None:
    run_python(BEGIN + STATE, eight[1])


def test_errors_say_what_happened(eight: tuple[str, dict[str, str]]) -> None:
    run_python(BEGIN + ERRORS, eight[1])


def test_a_worker_that_dies_is_data_loss(eight: tuple[str, dict[str, str]]) -> None:
    run_python(BEGIN + DYING, eight[1])
