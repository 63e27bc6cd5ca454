"""Checks before there is a cluster, and checks that start clusters of their own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from gpu_checks.base import AFTERWARDS, BEFORE, Machine, check, command
from gpu_checks.programs import PROGRAMS

import polypath

_CHECK_GPU = str(Path(__file__).parents[1] / "check-gpu")


@check(BEFORE, gpu=True)
def driver(machine: Machine) -> str:
    return command("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


@check(BEFORE)
def doctor(machine: Machine) -> str:
    found = command(sys.executable, "-m", "polypath.cli", "doctor")
    return "; ".join(line.split("  ", 1)[-1].strip() for line in found.splitlines() if "gpu" in line or "jax" in line)


@check(BEFORE, 120)
def stock_jax(machine: Machine) -> str:
    return command(
        sys.executable, _CHECK_GPU, "--stock", str(machine.reference), JAX_PLATFORMS=machine.platform
    ).splitlines()[-1]


@check(AFTERWARDS, 90, speed=True)
def second_start(machine: Machine) -> str:
    began = time.monotonic()
    with machine.start() as cluster:
        up = time.monotonic() - began
        began = time.monotonic()
        jax.block_until_ready(jax.jit(PROGRAMS["eigh"])())
        first = time.monotonic() - began
        found = cluster.status().controller.found_compiled
    return f"up in {up:.1f} s, first program in {first:.1f} s, {found} found compiled"


@check(AFTERWARDS, 90)
def two_islands(machine: Machine) -> str:
    """On a machine with one GPU they share it."""
    with machine.start(2, 1, islands=2):
        devices = jax.devices()
        x = jax.device_put(np.arange(8.0), devices[0])
        assert [float(jnp.sum(jax.device_put(x, one))) for one in devices] == [28.0, 28.0]
        return f"{devices}"


@check(AFTERWARDS, 90)
def two_hosts_of_one_island(machine: Machine) -> str:
    """On a machine with one GPU they are refused."""
    try:
        with machine.start(2, 1):
            mesh = jax.make_mesh((2,), ("x",))
            x = jax.device_put(np.arange(8.0), jax.NamedSharding(mesh, jax.P("x")))
            assert float(jax.jit(jnp.sum)(x)) == 28
            return f"a sum over {jax.devices()}"
    except polypath.ClusterError as error:
        assert machine.is_gpu, error
        assert "An island of 2 hosts with 1 each needs 2" in str(error), error
        return f"refused: {error}"
