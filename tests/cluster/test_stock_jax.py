"""Environments without Polypath: jax and pathwaysutils from the package index, and the variables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_tools import environment, status_of, wait_no_sessions
from environments import PATHWAYSUTILS, find_python, make_environment

PYTHON_313 = find_python("3.13")

SCRIPT = """
import importlib.util
import os

import jax
import numpy as np
import pathwaysutils

pathwaysutils.initialize()
assert importlib.util.find_spec("polypath") is None
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

assert jax.__version__ == os.environ["EXPECTED_JAX"], jax.__version__
devices = jax.devices()
assert len(devices) == 4 and {d.slice_index for d in devices} == {0}, devices
assert devices[0].client.runtime_type == "proxy/polypath"

mesh = Mesh(np.array(devices).reshape(2, 2), ("a", "b"))
a = np.arange(64.0, dtype=np.float32).reshape(8, 8)
x = jax.device_put(a, NamedSharding(mesh, P("a", "b")))
np.testing.assert_array_equal(jax.device_get(x), a)

# Outputs stay sharded as XLA chose, and are fetched whole and by shard.
y = jax.jit(lambda x: x * 2 + 1)(x)
np.testing.assert_array_equal(jax.device_get(y), a * 2 + 1)
for shard in y.addressable_shards:
    np.testing.assert_array_equal(np.asarray(shard.data), (a * 2 + 1)[shard.index])
np.testing.assert_allclose(jax.device_get(jax.jit(lambda x: x @ x.T)(x)), a @ a.T)
np.testing.assert_array_equal(jax.device_get(jax.jit(jax.grad(lambda x: (x**2).sum()))(x)), 2 * a)

for spec in (P("b", "a"), P(None, ("a", "b")), P("a"), P()):
    z = jax.device_put(y, NamedSharding(mesh, spec))
    np.testing.assert_array_equal(jax.device_get(z), a * 2 + 1)
    z = jax.jit(lambda z: z - 1, out_shardings=NamedSharding(mesh, P("b")))(z)
    np.testing.assert_array_equal(jax.device_get(z), a * 2)
psum = jax.shard_map(lambda x: jax.lax.psum(x, "a"), mesh=mesh, in_specs=P("a", "b"), out_specs=P(None, "b"))
np.testing.assert_array_equal(jax.device_get(jax.jit(psum)(x)), a[:4] + a[4:])

# Without a folder in shared memory, over gRPC.
big = np.arange(16 << 20, dtype=np.int32)
np.testing.assert_array_equal(jax.device_get(jax.device_put(big)), big)
print("done")
"""


@pytest.mark.parametrize(
    ("python", "jax"),
    [
        pytest.param(sys.executable, "0.10.2", id="jax-0.10"),
        pytest.param(
            PYTHON_313,
            "0.12.0",
            id="jax-0.12-python-3.13",
            marks=pytest.mark.skipif(
                PYTHON_313 is None, reason="no python3.13 here; name one in POLYPATH_TEST_PYTHON313"
            ),
        ),
    ],
)
@pytest.mark.timeout(300)
def test_jax_and_pathwaysutils_are_enough(
    tmp_path: Path, cluster: str, variables: dict[str, str], python: str, jax: str
) -> None:
    interpreter = make_environment(tmp_path / "stock", python, f"jax=={jax}", PATHWAYSUTILS)
    done = subprocess.run(
        [str(interpreter), "-c", SCRIPT],
        env=environment(variables | {"EXPECTED_JAX": jax}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-4000:]
    assert wait_no_sessions(cluster)["controller"]["values"] == 0
    assert {host["state"] for host in status_of(cluster)["controller"]["hosts"]} == {"up"}
