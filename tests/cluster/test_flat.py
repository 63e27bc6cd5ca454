"""Many steps and transfers leave nothing behind, and a client that is gone leaves nothing at all.

Counts, not bytes: `benchmarks/soak.py` looks at memory.
"""

from __future__ import annotations

from cluster_tools import run_python, shared_folder, wait_no_sessions

from polypath.frontend import control_client
from polypath.launch import runtime_dir

CLIENT = """
import gc
import sys
import polypath
import numpy as np

with polypath.connect(NAME) as cluster:
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    from polypath.frontend import control_client

    devices = jax.devices()
    cut = NamedSharding(Mesh(np.array(devices), ("x",)), P("x"))
    add = jax.jit(lambda x: x + 1)
    donating = jax.jit(lambda x: x * 2, donate_argnums=0)
    total = jax.jit(lambda x: x - x.sum(), in_shardings=cut, out_shardings=cut)

    def work(dispatches, transfers):
        one, over_all = jnp.zeros((), jnp.int32), jax.device_put(np.zeros(8, np.float32), cut)
        for number in range(dispatches):
            if number % 5 == 4:
                over_all = total(over_all)
            else:
                one = donating(one) if number % 2 else add(one)
            if number % 20 == 19:
                over_all.block_until_ready()
        for number in range(transfers):
            # Inline, and by way of shared memory.
            up = np.arange(4 if number % 2 else 40_000, dtype=np.float32)
            assert (np.asarray(jax.device_put(up, devices[number % len(devices)])) == up).all()

    def counts():
        gc.collect()
        for _ in range(200):  # Freed arrays are told of in batches; each look takes its time.
            status = cluster.status()
            of = status.controller
            (session,) = [each for each in of.sessions if each.arrays or each.executables]
            workers = [control_client.holdings(cluster.address.removeprefix("grpc://"), h.host) for h in of.hosts]
            found = {
                "values": of.values, "executables": of.executables, "pending": of.pending,
                "arrays": session.arrays, "futures": session.futures, "buffers": status.frontend.host_buffers,
                "held": [(each["values"], each["programs"], each["questions"]) for each in workers],
            }
            if found["values"] == 1 and not found["pending"] + found["buffers"]:
                break
        return found

    kept = jax.device_put(np.float32(1), devices[0])  # So that the session is told from those of others.
    work(300, 30)
    before = counts()
    work(3_000, 300)
    # jaxlib's client keeps a traceback for each request until the cluster says that it needs it no more.
    assert sys.getrefcount(work.__code__) < 300, sys.getrefcount(work.__code__)
    assert counts() == before, (before, counts())
    assert before["values"] == before["arrays"] == 1 and before["futures"] == 0, before
    assert sum(values for values, _, _ in before["held"]) == 1, before
    assert float(kept) == 1
print("done")
"""


def test_many_steps_leave_nothing_behind(cluster: str) -> None:
    assert "done" in run_python(CLIENT.replace("NAME", repr(cluster)))
    of = wait_no_sessions(cluster)["controller"]
    assert (of["values"], of["executables"], of["pending"]) == (0, 0, 0)
    record = runtime_dir.read(cluster)
    assert record is not None
    for host in of["hosts"]:
        held = control_client.holdings(record.address.removeprefix("grpc://"), host["host"])
        assert (held["values"], held["programs"], held["questions"]) == (0, 0, 0)
    assert not [path for path in shared_folder(cluster).rglob("*") if path.is_file()]
