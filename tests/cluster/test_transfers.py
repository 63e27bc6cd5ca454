"""Arrays between a client and its workers: right whatever they are, and past the head's process.

Stock JAX programs; nothing of Polypath in them but where they say so.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tools import (
    Client,
    Remains,
    polypath,
    run_python,
    shared_folder,
    start_detached,
    status_of,
    unique_name,
    wait_no_sessions,
)

REUSED = str(Path(__file__).with_name("reused_client.py"))

KINDS = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((2, 2), ("x", "y"))
random = np.random.default_rng(0)
bits = random.integers(0, 255, (64, 32, 24), np.uint8)

def there_and_back(a, *places):
    for place in places or jax.devices():
        x = jax.device_put(a, place)
        b = np.asarray(x)
        assert type(b) is np.ndarray and b.dtype == x.dtype and b.shape == a.shape, (b.dtype, b.shape)
        assert b.tobytes() == np.ascontiguousarray(a.astype(x.dtype)).tobytes(), (a.dtype, place)
        assert not b.flags.writeable and np.asarray(x) is b

jax.config.update("jax_enable_x64", True)
names = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 complex64 complex128"
for name in (names + " float8_e4m3fn float8_e5m2 int4 uint4").split():
    there_and_back((bits % 7).astype(jnp.dtype(name)), jax.devices()[0])
cuts = [P(), P("x"), P("y"), P("x", "y"), P(None, "y"), P(None, None, "x"), P(("x", "y")), P(None, "x", "y")]
shardings = [NamedSharding(mesh, cut) for cut in cuts]
there_and_back(bits.astype(np.float32))
there_and_back(bits.astype(np.float32), *shardings)
there_and_back(bits.astype(jnp.bfloat16), *shardings)
for a in (bits[::2, ::-1], bits.T, bits[:, 3], np.broadcast_to(bits[:1], bits.shape), np.asfortranarray(bits)):
    there_and_back(a.astype(np.float32, order="K"))
    there_and_back(a, jax.devices()[-1])
for shape in ((), (0,), (5, 0, 3), (1,), (1, 70_000), (70_000, 1), (3, 1_500_001), (1,) * 9 + (50_000,)):
    there_and_back(np.arange(np.prod(shape), dtype=np.float64).reshape(shape), jax.devices()[1])
there_and_back(random.random((3, 5_000_000)), jax.devices()[2])  # rows of more than a slot

key = jax.random.split(jax.random.key(0), 20_000)
assert np.asarray(jax.random.key_data(key)).shape == (20_000, 2)

tree = {name: jnp.full((300, 200), n, jnp.float32) for n, name in enumerate("abcdefgh")}
assert all((a == n).all() for n, a in enumerate(jax.device_get(tree).values()))

@jax.jit
def long(x):
    return jax.lax.fori_loop(0, 40, lambda i, x: jnp.sin(x) + x.sum() / 1e6, x)

x = jax.device_put(np.ones((400, 400), np.float32), shardings[3])
y = long(x)
y.copy_to_host_async()
y.copy_to_host_async()
z = jax.jit(lambda y: y * 0, donate_argnums=0)(y + 0)
expected = np.asarray(jnp.copy(y))
assert np.array_equal(np.asarray(y), expected)
w = long(x)
w.copy_to_host_async()
w.delete()
w = long(x + 1)
w.copy_to_host_async()
del w
gone = long(x)
gone.delete()
try:
    np.asarray(gone)
except RuntimeError as error:
    assert "deleted" in str(error)
else:
    raise AssertionError("a deleted array was read")
def fail(x):
    raise ValueError("what went wrong")
failed = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct((500, 500), np.float32), x))(1.0)
try:
    np.asarray(failed)
except jax.errors.JaxRuntimeError as error:
    assert "what went wrong" in str(error), error
else:
    raise AssertionError("a failed array was read")
there_and_back(bits.astype(np.float32), *shardings)
print("done")
"""

THREADS = """
import threading
import jax, jax.numpy as jnp, numpy as np

arrays = [jnp.full((n + 1, 40_000), n, jnp.int32) for n in range(24)]
wrong = []
def read(part):
    for n in part:
        if not (np.asarray(arrays[n]) == n).all():
            wrong.append(n)
threads = [threading.Thread(target=read, args=(range(i, 24, 4),)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong, wrong
print("done")
"""

BIG = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

a = np.random.default_rng(0).integers(0, 1 << 31, 16 << 20, np.int32)
for place in (jax.devices()[3], NamedSharding(jax.make_mesh((4,), ("x",)), P("x"))):
    x = jax.device_put(a, place)
    assert (np.asarray(x + 1) == a + 1).all()
print("done", flush=True)
input()
"""

DIES = """
import os, signal
import jax, jax.numpy as jnp, numpy as np
from polypath.client import landing

def die(*args):
    print("now", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
np.asarray(jax.device_put(np.ones(1 << 20)))  # links are there
setattr(*WHERE, die)
np.asarray(jax.device_put(np.ones(16 << 20)))
"""

STREAMS = (
    """
import jax
from polypath.client.hooks import sending

jax.devices()
sending._importer._threshold = 0
put, streamed = sending._Importer.put, []
def counted(*args):
    made = put(*args)
    streamed.append(made is not None)
    return made
sending._Importer.put = counted
"""
    + KINDS
    + """
assert len(streamed) > 80 and all(streamed), streamed
"""
)

COPIES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from polypath.client.hooks import sending

mesh = jax.make_mesh((2, 2), ("x", "y"))
a = np.random.default_rng(0).random((1024, 4096))
kept = a.astype(np.float32)
places = [NamedSharding(mesh, P("y", "x")), NamedSharding(mesh, P(None, "y")), NamedSharding(mesh, P())]
for place in (*places, jax.devices()[3]):
    b = kept.copy()
    x = jax.device_put(b, place)
    if sending._importer is not None:
        b[...] = 0  # the caller's again; jaxlib may read it still
    c = np.array(x)
    assert c.flags.writeable and np.array_equal(c, kept)
    c[...] = 0
    assert np.array_equal(np.array(x), kept) and np.array_equal(np.asarray(x), kept)
    d = np.array(x)
    assert d.flags.writeable and not np.shares_memory(d, np.asarray(x)) and np.array_equal(d, kept)
    assert np.array_equal(np.array(x, dtype=np.float64), kept.astype(np.float64))
    assert np.asarray(x, dtype=np.float32) is np.asarray(x)
    x.copy_to_host_async()
    assert np.array_equal(np.array(x), kept)

# Each shard by itself, in memory of its own.
x = jax.make_array_from_callback(kept.shape, places[1], lambda index: kept[index].copy())
assert np.array_equal(np.asarray(x), kept)
z = jax.device_put({"a": kept, "b": [kept * 2, kept[:, ::3]]}, places[2])
assert np.array_equal(np.asarray(z["b"][1]), kept[:, ::3]) and np.array_equal(np.asarray(z["b"][0]), kept * 2)
gone = jax.device_put(kept)
gone.delete()
try:
    np.array(gone)
except RuntimeError as error:
    assert "deleted" in str(error)
else:
    raise AssertionError("a deleted array was read")
if sending._importer is not None:
    kinds = sending._PROGRAMS + 8
    for n in range(kinds):  # more than are kept
        assert float(jax.device_put(kept[: 512 + n])[-1, -1]) == kept[511 + n, -1]
    # What workers cannot take goes the other way.
    sending._importer._landing.offer = lambda number, shards: None
    assert np.array_equal(np.asarray(jax.device_put(kept, places[0])), kept)
print("done", flush=True)
"""

OVER_GRPC = {"IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_THRESHOLD_BYTES": str(1 << 40)}

ISLANDS = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

first, second = (
    NamedSharding(jax.make_mesh((2,), ("x",), devices=[d for d in jax.devices() if d.slice_index == i]), P("x"))
    for i in range(2)
)
x = jax.jit(lambda: jnp.arange(8 << 20, dtype=jnp.float32), out_shardings=first)()
total = float(x.sum())
input()
y = jax.device_put(x, second)
for _ in range(3):
    y = jax.device_put(jax.device_put(y, first), second)
print(float(y.sum()) == total, flush=True)
input()
"""


def moved(name: str) -> int:
    """Bytes that passed through the head's process."""
    status: dict[str, Any] = status_of(name)
    transport, frontend = status["transport"], status["frontend"]
    return sum((transport["command_bytes"], transport["report_bytes"], frontend["bytes_up"], frontend["bytes_down"]))


@pytest.fixture(scope="module")
def islands() -> Iterator[str]:
    """The name of a cluster of 2 islands, each of one host with 2 devices."""
    name = unique_name()
    start_detached(name, "--hosts", "2", "--islands", "2", "--devices-per-host", "2")
    try:
        remains = Remains(name)
        yield name
    finally:
        polypath("down", "--name", name)
    remains.check_nothing_left()


def shared(cluster: str) -> list[Path]:
    folder = shared_folder(cluster)
    return list(folder.iterdir())


def test_whatever_is_put_comes_back(cluster: str, variables: dict[str, str]) -> None:
    assert run_python(KINDS, variables) == "done\n"
    wait_no_sessions(cluster)
    assert shared(cluster) == []


def test_from_several_threads(variables: dict[str, str]) -> None:
    assert run_python(THREADS, variables) == "done\n"


def test_no_byte_of_an_array_passes_through_the_head(cluster: str, variables: dict[str, str]) -> None:
    before = moved(cluster)
    with Client.python(BIG, variables) as client:
        assert client.hear() == "done"
        assert moved(cluster) - before < 1 << 20
        client.say("")
        assert client.end()[0] == 0


@pytest.mark.parametrize(("setting", "most"), [({}, 4 << 20), (OVER_GRPC, 1 << 16)], ids=["streams", "gRPC"])
def test_a_numpy_array_is_the_callers_again_after_the_call(
    variables: dict[str, str], setting: dict[str, str], most: int
) -> None:
    with Client([sys.executable, REUSED, "20", str(most)], variables | setting) as client:
        out, err = client.process.communicate(timeout=240)
    assert client.process.returncode == 0, err
    assert out
    assert [line for line in out.splitlines() if not line.startswith("0 of ")] == []


@pytest.mark.parametrize("where", ['landing.elements, "receive"', 'landing.elements, "send"'], ids=["down", "up"])
def test_a_client_that_dies_while_an_array_is_on_its_way(cluster: str, variables: dict[str, str], where: str) -> None:
    with Client.python(DIES.replace("*WHERE", where), variables) as client:
        assert client.hear() == "now"
        assert client.process.wait() == -signal.SIGKILL
    totals = wait_no_sessions(cluster)["controller"]
    assert (totals["values"], totals["executables"], totals["pending"]) == (0, 0, 0)
    assert shared(cluster) == []
    assert run_python(THREADS, variables) == "done\n"


def test_a_client_that_leaves_all_to_jaxlib(cluster: str, variables: dict[str, str]) -> None:
    variables = variables | OVER_GRPC
    with Client.python(BIG, variables) as client:
        assert client.hear() == "done"
        client.say("")
        assert client.end()[0] == 0
    assert run_python(KINDS, variables) == "done\n"
    wait_no_sessions(cluster)
    assert shared(cluster) == []


def test_arrays_of_every_size_on_streams(cluster: str, variables: dict[str, str]) -> None:
    assert run_python(STREAMS, variables) == "done\n"
    wait_no_sessions(cluster)
    assert shared(cluster) == []


def test_copies_are_the_callers(variables: dict[str, str]) -> None:
    assert run_python(COPIES, variables) == "done\n"


def test_islands_copy_past_the_head(islands: str) -> None:

    variables = json.loads(polypath("env", "--json", "--name", islands).stdout)
    with Client.python(ISLANDS, variables) as client:
        client.say("")
        assert client.hear() == "True"
        before = moved(islands)
        assert before < 1 << 20
        client.say("")
        assert client.end()[0] == 0
