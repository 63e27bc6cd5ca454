"""Clients of one cluster: side by side, in trouble, and refused. Stock JAX programs; nothing of Polypath in them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import Client, environment, polypath, run_python, shared_folder, status_of, wait_no_sessions

from polypath.versions import CLIENTS

STEPS = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((4,), ("x",))
x = jax.device_put(np.full(8, START, np.float32), NamedSharding(mesh, P("x")))
step = jax.jit(lambda x: x + jnp.sum(x) / 8)
while True:
    x = step(x)
    print(float(jax.device_get(x)[0]), flush=True)
    input()
"""

TROUBLE = """
import jax, jax.numpy as jnp, numpy as np

kept = jnp.arange(4.0)

def error_of(work):
    try:
        jax.block_until_ready(work())
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    raise AssertionError("it worked")

def unknown(x):
    return jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

message = error_of(lambda: jax.jit(unknown)(kept))
assert "no_such_target" in message and len(message.splitlines()) == 1, message

enormous = jax.jit(lambda: jnp.zeros((1 << 21, 1 << 21)))
message = error_of(enormous)
assert message.startswith("RESOURCE_EXHAUSTED: Out of memory allocating"), message
message = error_of(lambda: jax.jit(lambda z: z.sum() + 1)(enormous()))
assert message.startswith("RESOURCE_EXHAUSTED: Out of memory allocating"), message

assert np.asarray(kept + 1).tolist() == [1, 2, 3, 4]
print("done")
"""

DONATION = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

sharding = NamedSharding(jax.make_mesh((4,), ("x",)), P("x"))
x = jax.device_put(np.arange(8.0, dtype=np.float32), sharding)
y = jax.jit(lambda x: x * 2, donate_argnums=0)(x)
assert x.is_deleted() and not y.is_deleted()
try:
    np.asarray(x + 1)
except (RuntimeError, ValueError) as error:
    assert "deleted" in str(error), error
else:
    raise AssertionError("a donated array is there")
assert np.asarray(y).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
print("done")
"""

BIG = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

sharding = NamedSharding(jax.make_mesh((4,), ("x",)), P("x"))
devices = jax.devices()
a = np.random.default_rng(0).integers(0, 1 << 31, 16 << 20, np.int32)
assert (np.asarray(jax.device_put(a)) == a).all()
x = jax.device_put(a, sharding)
assert (np.asarray(x) == a).all()
assert (np.asarray(jax.jit(lambda x: x + 1)(x)) == a + 1).all()
print("done")
"""

THRESHOLD = "IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_THRESHOLD_BYTES"

VERSION = """
import sys, grpc
from polypath.frontend.wire import ifrt_pb2 as pb

def version(number):
    return pb.IfrtProxyVersion(protocol_version=number, ifrt_serdes_version_number=3)

path, oldest, newest = sys.argv[1:]
with grpc.insecure_channel("unix:" + path) as channel:
    ask = channel.unary_unary("/xla.ifrt.proxy.GrpcIfrtService/GetVersion")
    request = pb.GrpcGetVersionRequest(min_version=version(int(oldest)), max_version=version(int(newest)))
    try:
        ask(request.SerializeToString(), timeout=10)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


def test_one_client_vanishes_and_the_other_goes_on(cluster: str, variables: dict[str, str]) -> None:
    def steps(start: int) -> Client:
        return Client.python(STEPS.replace("START", str(start)), variables)

    with steps(1) as first, steps(3) as second:
        assert (first.hear(), second.hear()) == ("2.0", "6.0")
        sessions = status_of(cluster)["controller"]["sessions"]
        assert sorted(s["client"].split()[1] for s in sessions) == sorted(
            str(client.process.pid) for client in (first, second)
        )
        assert all(session["arrays"] and session["executables"] for session in sessions)
        first.say("")
        assert first.hear() == "4.0"
        second.signal(signal.SIGKILL)
        second.process.wait()
        for _ in range(20):
            first.say("")
            assert float(first.hear()) > 4
            if len(left := status_of(cluster)["controller"]["sessions"]) == 1:
                break
        assert [session["client"].split()[1] for session in left] == [str(first.process.pid)]
    totals = wait_no_sessions(cluster)["controller"]
    assert (totals["values"], totals["executables"], totals["pending"]) == (0, 0, 0)


def test_what_fails_is_one_clear_error_and_the_session_goes_on(variables: dict[str, str]) -> None:
    assert run_python(TROUBLE, variables) == "done\n"


def test_donation(variables: dict[str, str]) -> None:
    assert run_python(DONATION, variables) == "done\n"


@pytest.mark.parametrize("given", [{}, {THRESHOLD: str(1 << 40)}], ids=["ours", "grpc"])
def test_64_mib_there_and_back(cluster: str, variables: dict[str, str], given: dict[str, str]) -> None:
    assert run_python(BIG, variables | given) == "done\n"
    wait_no_sessions(cluster)
    folder = shared_folder(cluster)
    assert list(folder.iterdir()) == []


def test_an_address_with_nobody_there(place: Path, variables: dict[str, str]) -> None:
    stale = variables | {"JAX_BACKEND_TARGET": f"grpc://unix:{place}/gone/ifrt.sock"}
    with Client.python("import jax; jax.devices()", stale) as client:
        status, _, err = client.end()
    assert status == 1
    assert (
        f"RuntimeError: Unable to initialize backend 'proxy': No cluster answers at grpc://unix:{place}/gone/ifrt.sock"
        " (No such file or directory): start one with `polypath up`" in err
    )


@pytest.mark.parametrize(
    ("oldest", "newest", "advice"),
    [
        (1, 15, f"install {CLIENTS} where the client runs."),
        (15, 22, f"install {CLIENTS} where the client runs."),  # what jax 0.8 speaks
        (26, 30, f"install {CLIENTS} where the client runs, or a newer polypath where the cluster runs."),
    ],
)
def test_an_unsupported_protocol(variables: dict[str, str], oldest: int, newest: int, advice: str) -> None:
    path = variables["JAX_BACKEND_TARGET"].removeprefix("grpc://unix:")
    done = subprocess.run(
        [sys.executable, "-c", VERSION, path, str(oldest), str(newest)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith(f"FAILED_PRECONDITION This client speaks IFRT proxy protocol {oldest} to {newest}")
    assert done.stdout.rstrip().endswith(advice)


def test_doctor_names_the_cluster(cluster: str) -> None:
    findings = json.loads(polypath("doctor", "--json").stdout)
    assert {"level": "ok", "subject": "clusters"}.items() <= next(
        finding for finding in findings if cluster in finding["text"]
    ).items()
