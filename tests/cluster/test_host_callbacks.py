"""Functions of a client that programs call: while others work, when the client goes, and without Polypath."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
from cluster_tools import Client, run_python, status_of, wait_no_sessions

# Says "called" from inside the function, and stays there until a line comes.
WAITING = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
x = jax.device_put(np.arange(4, dtype=np.float32), NamedSharding(mesh, P("x")))

def wait(v):
    print("called", flush=True)
    input()
    return np.asarray(v) * 2

def each(v):
    first = jax.lax.axis_index("x") == 0
    spec = jax.ShapeDtypeStruct(v.shape, v.dtype)
    return jax.lax.cond(first, lambda u: jax.pure_callback(wait, spec, u + 1), lambda u: u, v)

late = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))(x)
after = late + 1  # needs it
moved = jax.device_put(after.addressable_shards[0].data, jax.devices()[3])  # to another host
beside = jax.device_put(np.float32(3), jax.devices()[0]) * 3  # does not
taken = jax.jit(lambda v: v * 5, donate_argnums=0)(x)  # gives away what the first may still have to read
print(float(beside), flush=True)
print(np.asarray(late).tolist(), np.asarray(moved).tolist(), np.asarray(taken).tolist(), x.is_deleted())
"""

BESIDE = "import jax, numpy as np; print(float(jax.device_put(np.float32(2), jax.devices()[0]) + 2))"

# Every device's host has to take part, so a host that hangs shows.
EVERYWHERE = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
x = jax.device_put(np.arange(4, dtype=np.float32), NamedSharding(jax.make_mesh((4,), ("x",)), P("x")))
print(float(jax.jit(lambda v: v.sum())(x)))
"""

MANY = """
import jax, jax.numpy as jnp, numpy as np
from polypath.client.hooks.cluster import current
jax.jit(lambda v: jax.debug.callback(lambda _: None, v))(0)
server = current().callback_server()
for i in range(200):
    jax.jit(lambda v: jax.pure_callback(lambda u: np.asarray(u) + i, jax.ShapeDtypeStruct((), jnp.int32), v))(1)
    jax.effects_barrier()
    jax.clear_caches()
for _ in range(20):
    jnp.zeros(()).block_until_ready()
print(len(server._functions))
"""

DONATES = """
import sys, jax, jax.numpy as jnp, psutil
workers = [psutil.Process(int(pid)) for pid in sys.argv[1:]]
def used():
    return sum(worker.memory_info().rss for worker in workers)
step = jax.jit(lambda x: x + 1, donate_argnums=0)
x = jnp.zeros((64, 1 << 20), jnp.float32)
for _ in range(2):
    x = step(x).block_until_ready()
before = used()
for _ in range(20):
    x = step(x)
    x.block_until_ready()
kept = [jax.jit(lambda x: x + 1)(x).block_until_ready() for _ in range(2)]
print((used() - before) / x.nbytes)
"""


def test_a_function_that_waits_stops_only_what_needs_it(cluster: str, variables: dict[str, str]) -> None:
    with Client.python(WAITING, variables) as client:
        assert client.hear() == "called"
        assert client.hear() == "9.0"
        assert run_python(BESIDE, variables) == "4.0\n"
        client.say("go on")
        status, out, err = client.end()
    assert status == 0, err
    assert out == "[2.0, 1.0, 2.0, 3.0] [3.0] [0.0, 5.0, 10.0, 15.0] True\n"


def test_a_client_that_dies_in_its_function_hangs_nobody(cluster: str, variables: dict[str, str]) -> None:
    pids = [host["pid"] for host in status_of(cluster)["controller"]["hosts"]]
    with Client.python(WAITING, variables) as client:
        assert client.hear() == "called"
        client.signal(signal.SIGKILL)
        client.end()
    assert run_python(EVERYWHERE, variables) == "6.0\n"
    controller = wait_no_sessions(cluster)["controller"]
    assert controller["values"] == controller["executables"] == 0
    assert [host["pid"] for host in controller["hosts"]] == pids


def test_functions_go_with_their_programs(cluster: str, variables: dict[str, str]) -> None:
    assert int(run_python(MANY, variables)) < 20


def test_stock_jax_refuses_in_its_own_words(cluster: str, variables: dict[str, str]) -> None:
    # The entry point by which JAX finds us is all that makes the difference.
    code = """
import jax._src.xla_bridge as bridge
bridge.discover_pjrt_plugins = lambda: None
import pathwaysutils
pathwaysutils.initialize()
import jax
try:
    jax.jit(lambda x: jax.debug.print("{}", x))(1)
except jax.errors.JaxRuntimeError as error:
    print(error)
"""
    assert "Unsupported host callback type" in run_python(code, variables)


def test_donation_frees_memory(cluster: str, variables: dict[str, str]) -> None:
    pids = [str(host["pid"]) for host in status_of(cluster)["controller"]["hosts"]]
    assert all(psutil.pid_exists(int(pid)) for pid in pids)
    grown = float(run_python(DONATES.replace("sys.argv[1:]", repr(pids)), variables))
    # Two results more than before; had donation freed nothing, it were 22.
    assert 1.5 < grown < 3.5


def test_a_cluster_is_left_once_functions_have_ended(cluster: str, variables: dict[str, str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("closing_client.py")), cluster]
    with Client(command) as client:
        status, out, err = client.end()
    assert (status, out.splitlines()) == (0, ["late 1.0", "late 2.0", "left", "left"]), err
    assert "A program was still running when the cluster was left, and failed: ValueError: mine" in err
