"""Nothing is compiled twice: by a second run, on a cluster of its own, nor by the hosts of one program."""

from __future__ import annotations

import json
from pathlib import Path

from cluster_tools import run_python

PROGRAM = """
import json
import polypath

with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
    cut = jax.device_put(np.arange(64.0, dtype=np.float32).reshape(8, 8), NamedSharding(mesh, P("x")))
    step = jax.jit(lambda w, x: (w - 0.1 * (x.T @ (x @ w)), jnp.sum(w)))
    w, total = step(jnp.zeros((8, 8)), cut)
    assert float(step(w, cut)[1]) == 0 == float(total)
    # Its custom call needs LAPACK in the worker also where it was not compiled there.
    assert np.allclose(jnp.linalg.cholesky(4 * jnp.eye(3)), 2 * np.eye(3))
    assert jax.random.normal(jax.random.key(1), (3,)).shape == (3,)
    found = cluster.status().controller
print(json.dumps([found.compiled, found.found_compiled]))
"""


def test_a_second_run_compiles_nothing(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    compiled, found = json.loads(run_python(PROGRAM, cache))
    assert compiled >= 10
    again, all_found = json.loads(run_python(PROGRAM, cache))
    assert (again, all_found) == (0, compiled + found)


SHARED = """
import json
import polypath

with polypath.start(hosts=3, devices_per_host=1, platform="cpu") as cluster:
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P

    over = NamedSharding(jax.make_mesh((3,), ("x",)), P("x"))
    cut = jax.device_put(np.arange(6.0, dtype=np.float32), over).block_until_ready()
    before = cluster.status().controller
    assert float(jax.jit(lambda x: (x * x).sum())(cut)) == 55
    after = cluster.status().controller
print(json.dumps([after.compiled - before.compiled, after.found_compiled - before.found_compiled]))
"""


def test_of_the_hosts_of_a_program_one_compiles_it(tmp_path: Path) -> None:
    assert json.loads(run_python(SHARED, {"XDG_CACHE_HOME": str(tmp_path)})) == [1, 2]
