"""What the programs share: meshes, small inputs, and errors as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

P = PartitionSpec


def mesh_2x4() -> Mesh:
    """All devices; with two hosts of four each, "x" runs over hosts and "y" within one."""
    return Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("x", "y"))


def line(*indices: int) -> Mesh:
    """A mesh of the devices at these places, with the one axis "i"."""
    return Mesh(np.array([jax.devices()[i] for i in indices]), ("i",))


def put(x: Any, *spec: Any, mesh: Mesh | None = None) -> jax.Array:
    """`x` on a mesh, split by the partition spec."""
    return jax.device_put(x, NamedSharding(mesh or mesh_2x4(), P(*spec)))


def ramp(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Distinct values that a float32 holds exactly, small enough to add up exactly."""
    return (np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 251).astype(dtype)


def noise(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Normal values."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def shards(x: jax.Array) -> list[np.ndarray]:
    """Each device's part, in the order of the devices' ids."""
    return [np.asarray(s.data) for s in sorted(x.addressable_shards, key=lambda s: s.device.id)]


def place(x: jax.Array) -> dict[str, Any]:
    """Where an array is, without the devices' ids."""
    order = {d: i for i, d in enumerate(jax.devices())}
    return {
        "shape": x.shape,
        "dtype": str(x.dtype),
        "replicated": x.is_fully_replicated,
        "addressable": x.is_fully_addressable,
        "devices": sorted(order[d] for d in x.devices()),
        "shards": sorted((order[s.device], str(s.index), s.replica_id, s.data.shape) for s in x.addressable_shards),
        "memory": str(x.sharding.memory_kind),
        "committed": x.committed,
        "weak": x.weak_type,
    }


def error_of(function: Callable[..., Any], *args: Any) -> str:
    """The type and first line of what the call raises, without addresses in memory."""
    try:
        jax.block_until_ready(function(*args))
    except Exception as error:
        return re.sub(r"0x[0-9a-f]+", "0x", f"{type(error).__name__}: {error}".splitlines()[0])
    return "nothing was raised"
