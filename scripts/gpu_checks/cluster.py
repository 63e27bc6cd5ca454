"""Checks that share a cluster; the last takes its worker down."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gpu_checks.base import ON_A_CLUSTER, Machine, check
from gpu_checks.programs import results

import polypath

_TOLERANCE = 1e-4


@check(ON_A_CLUSTER)
def names(machine: Machine) -> str:
    device = jax.devices()[0]
    assert device.client._raw_platform == machine.platform, device.client._raw_platform
    if machine.is_gpu:
        assert jax.default_backend() == "gpu"
        assert jax.devices("gpu") == jax.devices(machine.platform) == jax.devices()
    attributes = ("compute_capability", "core_count", "device_vendor", "shared_memory_per_block_optin")
    told = {name: getattr(device, name) for name in attributes if hasattr(device, name)}
    assert not machine.is_gpu or "compute_capability" in told
    return f"{device.device_kind}, {told}, {[memory.kind for memory in device.addressable_memories()]}"


@check(ON_A_CLUSTER, 120)
def programs_equal_stock_jax(machine: Machine) -> str:
    expected, found = np.load(machine.reference), results()
    differs: dict[str, float] = {}
    for name in expected:
        if expected[name].dtype == np.uint32:
            differs[name] = float((expected[name] != found[name]).sum())
        else:
            differs[name] = float(np.max(np.abs(expected[name] - found[name])))
    differs = {name: error for name, error in differs.items() if error}
    assert all(error < _TOLERANCE for error in differs.values()), differs
    return f"{len(found)} programs bitwise, but for {differs}" if differs else f"{len(found)} programs bitwise"


@check(ON_A_CLUSTER)
def callbacks(machine: Machine) -> str:
    seen: list[Any] = []

    @jax.jit
    def program(x: jax.Array) -> jax.Array:
        jax.debug.callback(seen.append, x)
        return jax.pure_callback(lambda a: np.asarray(a) * 2, jax.ShapeDtypeStruct((4,), jnp.float32), x)

    assert np.array_equal(program(jnp.arange(4.0)), np.arange(4.0) * 2)
    jax.effects_barrier()
    assert len(seen) == 1
    return "debug.callback and pure_callback"


@check(ON_A_CLUSTER)
def buffer_callback(machine: Machine) -> str:
    from jax.experimental.buffer_callback import buffer_callback

    def double(context: Any, out: Any, x: Any) -> None:
        np.asarray(out)[...] = np.asarray(x) * 2

    x = jnp.arange(4.0)
    found = jax.jit(buffer_callback(double, jax.ShapeDtypeStruct(x.shape, x.dtype)))(x)
    assert np.array_equal(found, np.arange(4.0) * 2), found
    return "in place"


def double_in_pallas(**parameters: Any) -> float:
    from jax.experimental import pallas

    def kernel(x: Any, out: Any) -> None:
        out[...] = x[...] * 2

    shape = jax.ShapeDtypeStruct((128,), jnp.float32)
    total = float(pallas.pallas_call(kernel, out_shape=shape, **parameters)(jnp.arange(128.0)).sum())
    assert total == 128 * 127
    return total


@check(ON_A_CLUSTER, gpu=True)
def pallas_triton(machine: Machine) -> str:
    from jax.experimental.pallas import triton

    return str(double_in_pallas(compiler_params=triton.CompilerParams()))


@check(ON_A_CLUSTER, gpu=True)
def pallas_mosaic_gpu(machine: Machine) -> str:
    return str(double_in_pallas())


@check(ON_A_CLUSTER, gpu=True)
def cudnn_attention(machine: Machine) -> str:
    attention = jax.jit(lambda q: jax.nn.dot_product_attention(q, q, q, implementation="cudnn"))
    return str(attention(jnp.ones((1, 128, 2, 64), jnp.bfloat16)).sum())


@check(ON_A_CLUSTER, gpu=True)
def colocated_python(machine: Machine) -> str:
    from jax.experimental import colocated_python

    beside = colocated_python.colocated_cpu_devices(jax.devices())
    assert len(beside) == len(jax.devices())
    return str(beside)


@check(ON_A_CLUSTER)
def memory_kinds(machine: Machine) -> str:
    device = jax.devices()[0]
    x = jax.device_put(np.arange(8.0), jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host"))
    y = jax.device_put(x, jax.sharding.SingleDeviceSharding(device))
    assert (x.sharding.memory_kind, float(jnp.sum(y))) == ("pinned_host", 28.0)
    return f"pinned_host and {y.sharding.memory_kind}"


@check(ON_A_CLUSTER)
def donation_while_it_is_read(machine: Machine) -> str:
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jax.device_put(np.zeros(machine.big // 16, np.float32), jax.devices()[0])
    shown: list[float] = []
    for _ in range(20):
        x.copy_to_host_async()
        y = step(x)
        shown.append(float(y[0]))
        x = y
    assert shown == [i + 1.0 for i in range(20)], shown
    return "in order"


@check(ON_A_CLUSTER, 100, gpu=True)
def reading_60_percent_of_the_memory(machine: Machine) -> str:
    device = jax.devices()[0]
    count = int((device.memory_stats() or {})["bytes_limit"] * 0.6) // 4
    x = jax.jit(lambda: jnp.ones(count, jnp.float32))()
    began = time.monotonic()
    found = np.asarray(x)
    assert found[-1] == 1
    return f"{4 * count / 2**30:.0f} GiB in {time.monotonic() - began:.0f} s"


@check(ON_A_CLUSTER, gpu=True)
def out_of_memory_is_an_error(machine: Machine) -> str:
    try:
        jax.jit(lambda: jnp.ones(1 << 38, jnp.float32))().block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        assert float(jnp.sum(jnp.ones(9))) == 9, "what comes next fails"
        return str(error)[:200]
    raise AssertionError("a TiB was allocated")


@check(ON_A_CLUSTER, speed=True)
def bandwidth(machine: Machine) -> str:
    data = np.ones(machine.big // 4, np.float32)
    began = time.monotonic()
    x = jax.device_put(data, jax.devices()[0]).block_until_ready()
    up = time.monotonic() - began
    x = jax.jit(lambda x: x + 1)(x).block_until_ready()
    began = time.monotonic()
    np.asarray(x)
    down = time.monotonic() - began
    return f"up {machine.big / up / 1e9:.2f} GB/s, down {machine.big / down / 1e9:.2f} GB/s"


@check(ON_A_CLUSTER, speed=True)
def small_steps(machine: Machine) -> str:
    step = jax.jit(lambda x: x * 1.0001)
    x = step(jnp.ones(128)).block_until_ready()
    began = time.monotonic()
    for _ in range(500):
        x = step(x)
    x.block_until_ready()
    queued = time.monotonic() - began
    began = time.monotonic()
    for _ in range(100):
        step(x).block_until_ready()
    waited = time.monotonic() - began
    return f"{queued / 500 * 1e6:.0f} us queued, {waited / 100 * 1e6:.0f} us waited for"


@check(ON_A_CLUSTER, speed=True)
def matmul(machine: Machine) -> str:
    size = 8192 if machine.is_gpu else 512
    a = jnp.ones((size, size), jnp.bfloat16)
    multiply = jax.jit(lambda a: a @ a)
    y = multiply(a).block_until_ready()
    began = time.monotonic()
    for _ in range(20):
        y = multiply(a)
    y.block_until_ready()
    return f"{40 * size**3 / (time.monotonic() - began) / 1e12:.1f} TFLOP/s"


@check(ON_A_CLUSTER, 90)
def recovery(machine: Machine) -> str:
    """The last on its cluster: a worker that is killed comes back, and the error says so meanwhile."""
    status = polypath.client.cluster._Used.cluster.status()
    x = jax.device_put(np.ones(8, np.float32), jax.devices()[0]).block_until_ready()
    os.kill(status.controller.hosts[0].pid, signal.SIGKILL)
    try:
        np.asarray(x + 1)
        raise AssertionError("nothing was lost")
    except jax.errors.JaxRuntimeError as error:
        assert "was lost" in str(error), error
    again = jax.device_put(np.ones(8, np.float32), jax.devices()[0])
    assert float(jax.jit(lambda x: x.sum())(again)) == 8
    return "lost, and back"
