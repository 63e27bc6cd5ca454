"""What JAX makes of simulated devices that say they are GPUs or TPUs. Run as `python platform_client.py PLATFORM`.

Nothing runs there, and results are zeros: this is about the names by which JAX finds a backend and lowers for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import polypath

PROGRAMS: dict[str, Callable[[], object]] = {
    "jit": lambda: jax.jit(lambda x: x * 2 + 1)(jnp.arange(4.0)),
    "eager": lambda: jnp.arange(4.0) @ jnp.ones((4, 2)),
    "random": lambda: jax.random.normal(jax.random.key(0), (8,)),
    "permutation": lambda: jax.random.permutation(jax.random.key(0), 8),
    "cholesky": lambda: jnp.linalg.cholesky(jnp.eye(4)),
    "eigh": lambda: jnp.linalg.eigh(jnp.eye(4)),
    "solve": lambda: jnp.linalg.solve(jnp.eye(4), jnp.ones(4)),
    "qr": lambda: jnp.linalg.qr(jnp.eye(4)),
    "svd": lambda: jnp.linalg.svd(jnp.eye(4)),
    "fft": lambda: jnp.fft.fft(jnp.ones(8)),
    "grad": lambda: jax.grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.ones(4)),
    "pure_callback": lambda: jax.jit(
        lambda x: jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct((4,), jnp.float32), x)
    )(jnp.ones(4)),
    "debug.print": lambda: jax.jit(lambda x: jax.debug.print("{}", x))(jnp.ones(4)),
    "collective": lambda: spread(lambda x: jax.lax.psum(x, "x")),
}


def spread(function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    mesh = jax.make_mesh((len(jax.devices()),), ("x",))
    x = jax.device_put(np.ones(len(jax.devices()), np.float32), jax.NamedSharding(mesh, jax.P("x")))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=jax.P("x"), out_specs=jax.P()))(x)


def main(platform: str) -> None:
    alias = "gpu" if platform in ("cuda", "rocm") else platform
    with polypath.start(2, 2, f"simulated-{platform}") as cluster:
        assert cluster.status().platform == platform
        device = jax.devices()[0]
        assert device.platform == jax.default_backend() == alias
        assert device.client._raw_platform == platform
        assert jax.devices(platform) == jax.devices(alias) == jax.devices()
        for name, program in PROGRAMS.items():
            try:
                jax.block_until_ready(program())
            except Exception as error:
                error.add_note(f"the program is {name}")
                raise
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
