"""Who waits for an array, or reads a small one, hears from its workers; whatever goes wrong is told as by JAX.

Stock JAX programs; nothing of Polypath in them but where they look at what was used.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from cluster_tools import Client, Remains, polypath, run_python, start_detached, unique_name, wait_no_sessions

from polypath.frontend import control_client

SMALL = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from polypath.client.hooks import waiting

answered, ask = [], waiting._Waiter._ask
def counted(self, arrays, devices, **more):
    found = ask(self, arrays, devices, **more)
    answered.append(found is not None)
    return found
waiting._Waiter._ask = counted

def used(times):
    assert answered == [True] * times, (answered, times)
    answered.clear()

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("x",))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("x"))
bits = np.random.default_rng(0).integers(0, 255, 4 * 3 * 2, np.uint8)
names = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 complex64 complex128"
for name in (names + " float8_e4m3fn float8_e5m2 int4 uint4").split():
    a = (bits % 7).astype(jnp.dtype(name)).reshape(4, 3, 2)
    for place in (jax.devices()[0], jax.devices()[3], everywhere):
        x = jax.device_put(a, place)
        b = np.asarray(x)
        assert type(b) is np.ndarray and b.dtype == a.dtype and b.shape == a.shape and b.tobytes() == a.tobytes(), name
        assert not b.flags.writeable and np.asarray(x) is b
        used(1)
for shape in ((), (0,), (3, 0), (1, 1), (500,)):
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert np.array_equal(np.asarray(jax.device_put(a, everywhere)), a)
    used(1)
x = jax.jit(lambda a: jnp.asarray(a).T, out_shardings=everywhere)(np.arange(6).reshape(2, 3))
assert np.array_equal(np.asarray(x), np.arange(6).reshape(2, 3).T)
used(1)
assert float(jnp.float32(2) * 3) == 6 and int(jnp.sum(jnp.arange(5))) == 10 and bool(jnp.any(jnp.ones(3)))
assert f"{jnp.float32(0.5)}" == "0.5" and jnp.int32(7).item() == 7 and [1, 2, 3][jnp.int32(1)] == 2
answered.clear()

step = jax.jit(lambda x: (x + 1).sum() + x, out_shardings=cut)
y = step(jax.device_put(np.arange(8.0), cut))
assert y.block_until_ready() is y and jax.block_until_ready(y) is y and y.is_ready()
used(1)
assert float(z := jnp.float32(3) + 1) == 4 and z.is_ready()
answered.clear()
y, z = step(y), step(y + 1)
jax.block_until_ready({"y": y, "z": [z, 3]})
jax.block_until_ready((y, z))
used(1)
jax.block_until_ready([jnp.ones(3) for _ in range(40)])
jax.block_until_ready((y, step(y), jnp.ones(3) + 1))  # on other devices each
answered.clear()
np.testing.assert_array_equal(np.asarray(y), np.arange(8.0) + 36 + sum(np.arange(8.0) + 36) + 8)

def raises(work, *words):
    try:
        work()
    except (RuntimeError, ValueError) as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("nothing was raised")

x = jnp.arange(8.0)
x.block_until_ready()
jax.jit(lambda x: x * 2, donate_argnums=0)(x)
gone = jnp.arange(8.0)
gone.delete()
for each in (x, gone):
    raises(each.block_until_ready, "deleted")
    raises(lambda: np.asarray(each), "deleted")
    raises(lambda: jax.block_until_ready((each, y)), "deleted")
def fail(x):
    raise ValueError("what went wrong")
for shape in ((), (3,)):
    for look in (np.asarray, jax.block_until_ready, lambda a: jax.block_until_ready((a, a + 1))):
        failed = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct(shape, np.float32), x))(1.0)
        raises(lambda: look(failed), "what went wrong")
print("done")
"""

THREADS = """
import threading
import jax, jax.numpy as jnp, numpy as np
from polypath.client.hooks import waiting

compiled, compile_request = [], waiting.compile_request
def counted(client, name, asked):
    compiled.append(tuple(asked.values()))
    return compile_request(client, name, asked)
waiting.compile_request = counted
add = jax.jit(lambda x, n: x + n)
def work(number):
    x = jax.device_put(np.int32(number), jax.devices()[number % 4])
    for _ in range(100):
        x = add(x, 3)
        x.block_until_ready()
        found = int(add(x, number))
        assert found == int(x) + number
    if int(x) != number + 300:
        wrong.append(number)
wrong = []
threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong, wrong
assert sorted(compiled) == [(1, False), (1, True)], compiled
print("done")
"""

WAITS = """
import signal, threading
import jax, jax.numpy as jnp, numpy as np

signal.signal(signal.SIGINT, signal.default_int_handler)  # Who is started in the background ignores it.

def stay(x):
    print("waiting", flush=True)
    held.wait()
    return x
held = threading.Event()
x = jax.jit(lambda x: jax.pure_callback(stay, jax.ShapeDtypeStruct((), np.float32), x) + 1)(1.0)
try:
    HOW
except BaseException as error:
    print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
INPUT
held.set()
print("done", flush=True)
"""


def test_what_small_arrays_hold_and_what_is_waited_for(variables: dict[str, str]) -> None:
    assert run_python(SMALL, variables) == "done\n"


def test_threads_that_wait_at_the_same_time(variables: dict[str, str]) -> None:
    assert run_python(THREADS, variables) == "done\n"


@pytest.mark.parametrize("how", ["x.block_until_ready()", "float(x)"])
def test_an_interrupted_wait(variables: dict[str, str], how: str) -> None:
    code = WAITS.replace("HOW", how).replace("INPUT", "held.set(); assert float(x + 1) == 3")
    with Client.python(code, variables) as client:
        assert client.hear() == "waiting"
        client.signal(signal.SIGINT)
        assert client.hear().startswith("KeyboardInterrupt")
        assert client.hear() == "done"


@pytest.mark.parametrize("how", ["x.block_until_ready()", "float(x)"])
def test_the_head_dies_while_somebody_waits(how: str) -> None:
    name = unique_name()
    start_detached(name, "--hosts", "1", "--devices-per-host", "1")
    remains = Remains(name)
    found = json.loads(polypath("env", "--json", "--name", name).stdout)
    with Client.python(WAITS.replace("HOW", how).replace("INPUT", ""), found) as client:
        assert client.hear() == "waiting"
        remains.kill_head()
        assert client.hear().startswith("JaxRuntimeError")
        assert client.hear() == "done"
    remains.wait_processes()
    polypath("down", "--name", name)


def test_clients_leave_nothing(cluster: str, variables: dict[str, str]) -> None:
    socket = json.loads((Path(os.environ["POLYPATH_RUNTIME_DIR"]) / cluster / "cluster.json").read_bytes())["address"]

    def files() -> list[int]:
        run_python("import jax; assert float(jax.numpy.ones(()).block_until_ready()) == 1", variables)
        hosts = wait_no_sessions(cluster)["controller"]["hosts"]
        return [control_client.holdings(socket.removeprefix("grpc://"), host["host"])["files"] for host in hosts]

    before = files()
    assert files() == before
