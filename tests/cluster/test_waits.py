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

EARLY = """
import _thread, itertools, operator, os, signal, threading, weakref
from collections import deque
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from polypath.client.hooks import early, waiting

taken, take, ask = [], early.Early.take, waiting._Waiter._ask
def counted(self, *args, **more):
    question = take(self, *args, **more)
    taken.append(question is not None)
    return question
early.Early.take = counted
asked = []
def told(self, *args, **more):
    asked.append(args)
    return ask(self, *args, **more)
waiting._Waiter._ask = told

def used(*early):
    assert taken == list(early), (taken, early)
    # What was not asked early is asked about now.
    assert len(asked) == early.count(False), (asked, early)
    taken.clear(), asked.clear()

def anew():
    # As a thread that has not waited in vain.
    early._early.withdraw()
    early._early._pause = early._early._skip = 0
    (one + 0).block_until_ready()
    taken.clear(), asked.clear()

mesh = jax.make_mesh((4,), ("x",))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("x"))
add, pair = jax.jit(lambda x, n: x + n), jax.jit(lambda x: {"sum": x.sum(), "all": [x + k for k in range(39)]})
one, many, wide = jnp.int32(1), jax.device_put(np.arange(8.0, dtype=np.float32), cut), jnp.zeros(5000)
add(one, 1), add(many, 1), add(wide, 1), pair(many), add(one, 1.5)  # From here on C++ starts them.

# Nobody who waits is preempted by gRPC's threads.
def scheduled(thread):
    with open(f"/proc/self/task/{thread}/comm") as name:
        return name.read().strip(), os.sched_getscheduler(int(thread))
found = set(map(scheduled, os.listdir("/proc/self/task")))
assert ("event_engine", os.SCHED_BATCH) in found and ("event_engine", os.SCHED_OTHER) not in found, found
assert os.sched_getscheduler(0) == os.SCHED_OTHER, found

# A thread that waits for each.
anew()
waited = [add(one, n).block_until_ready() for n in range(5)] + [jax.block_until_ready(add(many, n)) for n in range(5)]
used(*[True] * 10)
assert all(y.is_ready() for y in waited) and [int(y) for y in waited[:5]] == [1, 2, 3, 4, 5]
anew()
for n in range(5):
    assert int(add(one, n)) == n + 1
used(False, True, True, True, True)
anew()
for _ in range(3):
    found = pair(many)
    jax.block_until_ready(found)
    used(True)
np.testing.assert_array_equal(found["all"][38], np.arange(8.0) + 38)
assert float(found["sum"]) == 28

# Elements of one of several results: known from the second time on. x is handed on as it is.
state = jax.jit(lambda x, n: (x, [x + n, x * n], x.sum() + n))
gone = state(many, 1), state(many, 1)
anew()
found = [(float(given[2]), given) for n in range(5) for given in [state(many, n)]]
used(False, True, True, True, True)
for n, (loss, given) in enumerate(found):
    assert loss == 28 + n
    np.testing.assert_array_equal(given[0], np.arange(8))
    np.testing.assert_array_equal(given[1][0], np.arange(8) + n)
taken.clear(), asked.clear()

# Elements where the next program gives none, or none that are small; where they are on several devices.
for n in range(3):
    anew(), int(add(one, n)), int(add(one, n))
    large = add(jnp.zeros(5000), 1)
    large.block_until_ready()
    assert np.asarray(large)[4999] == 1
    anew(), int(add(one, n)), int(add(one, n))
    jax.block_until_ready(pair(many))
    anew(), int(add(one, n)), int(add(one, n))
    np.testing.assert_array_equal(np.asarray(add(many, 1).block_until_ready()), np.arange(8.0) + 1)
    anew(), float(state(many, n)[2]), float(state(many, n)[2])
    assert int(add(one, n)) == n + 1

# What was guessed wrong: one that nobody waits for, or not at once.
anew()
first, second = add(one, 10), add(one, 20)
second.block_until_ready(), first.block_until_ready()
used(False, False)
assert (int(first), int(second)) == (11, 21)
anew()
older = add(many, 1)
anew()
newer = add(many, 2)
older.block_until_ready(), newer.block_until_ready()
used(False, False)
np.testing.assert_array_equal(np.asarray(newer) - np.asarray(older), np.ones(8))
for _ in range(200):
    add(one, 1)
    assert int(add(one, 2)) == 3 and int(add(one, 2)) == 3

# The number goes with no other program: not with what Python starts, nor with one whose record an interrupt prevented.
anew()
new = jax.jit(lambda x: x * 3)(one)
assert not early._early._question
add(one, 5).block_until_ready(), new.block_until_ready()
used(False, False)
anew()
record = early._Record()
hook = early._Hook([record], itertools.repeat(print))
try:
    deque(map(operator.call, (_thread.interrupt_main, partial(hook, 1, 2, 3, 4))), 0)
    raise AssertionError("nobody was interrupted")
except KeyboardInterrupt:
    assert record.args == (1, 2, 3, 4)

def raises(kind, work, *words):
    try:
        work()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("nothing was raised")

# Small arrays that were waited for end together, or when somebody asks what lives; large ones at once.
anew()
before = len(jax.live_arrays())
small = [weakref.ref(add(one, n).block_until_ready()) for n in range(100)]
assert 0 < sum(each() is not None for each in small) <= 32
assert len(jax.live_arrays()) == before and not any(each() for each in small)
anew()
large = [weakref.ref(add(wide, n).block_until_ready()) for n in range(5)]
assert not any(each() for each in large)

# What fails, or is gone.
anew()
y = add(one, 1)
y.delete()
raises(RuntimeError, y.block_until_ready, "deleted")
raises(RuntimeError, lambda: int(y), "deleted")
def fail(x):
    raise ValueError("what went wrong")
failing = jax.jit(lambda x: jax.pure_callback(fail, jax.ShapeDtypeStruct((), np.int32), x))
raises(RuntimeError, lambda: failing(one).block_until_ready(), "what went wrong")
for look in (lambda a: a.block_until_ready(), int):
    anew()
    raises(RuntimeError, lambda: look(failing(one)), "what went wrong")
    assert int(add(one, 1)) == 2
anew()
gone = add(one, 1)
raises(RuntimeError, lambda: add(gone.delete() or gone, 1), "deleted")
assert int(add(one, 3)) == 4

# What takes long is waited for.
def stay(x):
    held.wait()
    return x
staying = jax.jit(lambda x: jax.pure_callback(stay, jax.ShapeDtypeStruct((), np.int32), x) + 1)
held = threading.Event()
held.set()
assert int(staying(one)) == 2
for look in (lambda a: a.block_until_ready(), int):
    held.clear()
    anew()
    y = staying(one)
    assert not y.is_ready()
    releases = threading.Timer(0, lambda: (released.append(1), held.set()))
    released = []
    releases.start()
    look(y)
    assert released and int(y) == 2

# JAX's own hook sees every program.
def nan(x):
    return jnp.log(x)
log = jax.jit(nan)
minus = jnp.float32(-1)
log(minus), log(minus)
anew()
jax.config.update("jax_debug_nans", True)
raises(FloatingPointError, lambda: log(minus))
jax.config.update("jax_debug_nans", False)
anew()
log(minus).block_until_ready()
anew()
with jax.debug_nans(True):
    raises(FloatingPointError, lambda: log(minus))
anew()
add(one, 1).block_until_ready()
used(True)

# Nothing is kept longer than until the thread's next program.
anew()
import weakref
y = add(one, 1)
kept = weakref.ref(y)
del y
add(one, 2)
assert kept() is None
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


def test_programs_that_are_waited_for_one_by_one(variables: dict[str, str]) -> None:
    assert run_python(EARLY, variables).endswith("done\n")


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
