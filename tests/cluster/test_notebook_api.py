"""`polypath.start`, `connect`, `status` and `close`, each in a process of its own."""

from __future__ import annotations

from cluster_tools import run_python

START = """
import polypath
import numpy as np

with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec as P

    assert jax.devices()[0].client.runtime_type == "proxy/polypath"
    mesh = jax.make_mesh((4,), ("x",))
    x = jax.device_put(np.arange(8.0), NamedSharding(mesh, P("x")))
    assert jax.jit(jnp.sum)(x) == 28
    status = cluster.status()
    assert [host.devices for host in status.controller.hosts] == [2, 2]
    (session,) = status.controller.sessions
    assert session.arrays >= 1, session
    try:
        polypath.start()
    except polypath.ClusterError as error:
        assert str(error).startswith(f"This process uses the cluster {cluster.name!r} already"), error
    else:
        raise AssertionError("two clusters at once")

assert jax.devices()[0].client.runtime_type != "proxy/polypath"
assert jnp.arange(3.0).sum() == 3
try:
    cluster.status()
except polypath.NotRunning:
    pass
cluster.close()

with polypath.start(platform="cpu") as again:
    assert len(jax.devices()) == 1 and again.name != cluster.name
    assert jnp.arange(4.0).sum() == 6
    big = np.arange(1 << 20, dtype=np.int32)
    assert (np.asarray(jax.device_put(big)) == big).all()
print("done")
"""

CONNECT = """
import polypath

with polypath.connect(NAME) as cluster:
    import jax

    assert cluster.name == NAME
    assert len(jax.devices()) == 4
    assert float(jax.numpy.ones((8,)).sum()) == 8

with polypath.connect(cluster.address) as cluster:
    assert cluster.name == NAME
    assert float(jax.numpy.ones((8,)).sum()) == 8
    assert "pid" in cluster.status().controller.sessions[-1].client

assert jax.devices()[0].client.runtime_type != "proxy/polypath"
assert cluster.status().controller.hosts, "closing a connection ended the cluster"
try:
    polypath.connect("nobody-here")
except polypath.NotRunning as error:
    assert str(error) == "No cluster named 'nobody-here' runs here: start one with `polypath up`."
else:
    raise AssertionError("connected to nobody")
print("done")
"""

ISLANDS = """
import numpy as np
import polypath

with polypath.start(hosts=2, devices_per_host=2, islands=2, platform="cpu"):
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

    islands = [[d for d in jax.devices() if d.slice_index == index] for index in (0, 1)]
    assert [[d.id for d in island] for island in islands] == [[0, 1], [2, 3]]
    here, there = (NamedSharding(Mesh(island, ("x",)), P("x")) for island in islands)
    a = np.arange(8.0, dtype=np.float32)
    x = jax.jit(lambda x: x + 1)(jax.device_put(a, here))
    y = jax.jit(lambda y: y * 2)(jax.device_put(x, there))
    assert y.devices() == set(islands[1])
    assert (np.asarray(y) == (a + 1) * 2).all()
    assert (np.asarray(jax.device_put(y, islands[0][1])) == (a + 1) * 2).all()

    everywhere = NamedSharding(Mesh(jax.devices(), ("x",)), P("x"))
    try:
        jax.jit(lambda z: z + 1)(jax.device_put(a, everywhere))
    except jax.errors.JaxRuntimeError as error:
        assert "A program cannot span islands [0, 1]" in str(error), error
        assert "slice_index" in str(error)
    else:
        raise AssertionError("a program spans islands")
    assert float(jax.jit(lambda y: y.sum())(y)) == 72
print("done")
"""


def test_start_and_start_again() -> None:
    assert run_python(START) == "done\n"


def test_connect_by_name_and_by_address(cluster: str) -> None:
    assert run_python(f"NAME = {cluster!r}\n{CONNECT}") == "done\n"


def test_islands_share_data_but_no_program() -> None:
    assert run_python(ISLANDS) == "done\n"
