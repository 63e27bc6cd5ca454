"""Stock JAX on a proxy, as a script: `python jax_client.py grpc://unix:/... SCENARIO`."""

from __future__ import annotations

import os
import sys

import jax
import ml_dtypes
import numpy as np
from jax.extend.backend import ifrt_proxy, register_backend_factory


def connect(address: str, **data: str) -> None:
    options = ifrt_proxy.ClientConnectionOptions()
    options.connection_timeout_in_seconds = int(os.environ.get("CONNECT_SECONDS", "20"))
    if data:
        options.initialization_data = {name: value.encode() for name, value in data.items()}
    register_backend_factory("proxy", lambda: ifrt_proxy.get_client(address, options), priority=0)


def devices() -> None:
    for device in jax.devices():
        kinds = [memory.kind for memory in device.addressable_memories()]
        print(repr(device), device, device.id, device.platform, device.device_kind, device.process_index, kinds)
        print(device.default_memory().kind, device.slice_index, device.weights, device.fast, device.speed)
    client = jax.devices()[0].client
    print(client.runtime_type, client.platform_version, jax.default_backend(), jax.local_device_count())


def arrays() -> None:
    jax.config.update("jax_enable_x64", True)
    names = (
        "bool int4 uint4 int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
        "complex128 bfloat16 float8_e3m4 float8_e4m3 float8_e4m3fn float8_e4m3b11fnuz float8_e4m3fnuz "
        "float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn int2 uint2"
    )
    for name in names.split() + ["float6_e2m3fn", "float6_e3m2fn"] * (jax.__version_info__ >= (0, 12)):
        dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
        for shape in ((), (0, 3), (2, 3)):
            value = np.ones(shape, dtype)
            assert (np.asarray(jax.device_put(value)) == value).all(), (name, shape)
    strided = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.asarray(jax.device_put(strided, jax.devices()[1])).tolist() == strided.tolist()
    big = np.arange(3_000_000, dtype=np.float32)
    assert (np.asarray(jax.device_put(big)) == big).all()
    moved = jax.device_put(jax.device_put(np.ones(4, np.float32)), jax.devices()[1])
    print(moved.devices(), np.asarray(moved).tolist())
    moved.delete()
    print("done", moved.is_deleted())


def run() -> None:
    add = jax.jit(lambda a, b: a + b)
    a, b = jax.device_put(np.arange(4, dtype=np.float32)), jax.device_put(np.ones(4, np.float32))
    for _ in range(100):
        c = add(a, b)
    jax.block_until_ready(c)
    print(np.asarray(c).tolist())
    compiled = add.lower(a, b).compile()
    print(compiled.cost_analysis(), compiled.as_text(), compiled.output_shardings)
    del a, b, c


def errors() -> None:
    try:
        jax.jit(lambda a: a * 2)(np.ones(4, np.float32))
    except jax.errors.JaxRuntimeError as error:
        print("compile:", error)
    try:
        np.asarray(jax.device_put(np.ones(4, np.float32)))
    except jax.errors.JaxRuntimeError as error:
        print("value:", error)
    print(jax.device_put(np.float32(1)).dtype)  # the process lives


def refused() -> None:
    """An array that the server does not take is an error where it is looked at, and the session goes on."""
    try:
        np.asarray(jax.device_put(np.ones(3_000_000, np.float32)))
    except jax.errors.JaxRuntimeError as error:
        print("value:", error)
    print(np.asarray(jax.device_put(np.ones(4, np.float32))))


def wait() -> None:
    jax.device_put(np.ones(4, np.float32)).block_until_ready()
    print("connected", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    connect(sys.argv[1])
    scenarios = (devices, arrays, run, errors, refused, wait)
    {scenario.__name__: scenario for scenario in scenarios}[sys.argv[2]]()
