"""Run as a process: writes functions as JAX's colocated Python pickles them, for devices 0 to 3."""

from __future__ import annotations

import sys

import jax
import msgspec
import numpy as np
from jax.experimental.colocated_python import serialization
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from polypath.messages import PythonProgram
from polypath.types import ArraySpec, Sharding

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_platforms", "cpu")
CUT = NamedSharding(Mesh(np.array(jax.devices()), ("x",)), P("x"))
ONE = SingleDeviceSharding(jax.devices()[2])


def half(x):
    return jax.numpy.asarray(x) * 0.5


def names(x):
    return x.devices()


def fail(x):
    raise LookupError("nothing here")


def to_other(x):
    return jax.device_put(x, jax.devices()[1])


def wide(x):
    return jax.device_put(x, jax.devices()[2]) / 3


def shout(x):
    upper = np.vectorize(str.upper, otypes=[np.dtypes.StringDType()])
    return jax.device_put(upper(jax.device_get(x)), jax.devices()[2])


def spec(dtype: str, shape: tuple[int, ...], sharding) -> tuple[jax.ShapeDtypeStruct, ArraySpec]:
    kind = np.dtypes.StringDType() if dtype == "string" else np.dtype(dtype)
    ids = tuple(device.id for device in sharding._device_assignment)
    with jax.enable_x64(True):
        return jax.ShapeDtypeStruct(shape, kind, sharding=sharding), ArraySpec(dtype, shape, Sharding(ids, "device"))


def program(function, takes, gives) -> bytes:
    (in_spec, our_input), (out_spec, our_output) = takes, gives
    in_tree = jax.tree.structure(((in_spec,), {}))
    pickled = serialization._serialize(
        (
            function,
            in_tree,
            (in_spec,),
            jax.tree.structure(out_spec),
            (out_spec,),
            in_spec.sharding._internal_device_list,
        )
    )
    return msgspec.msgpack.encode(PythonProgram(function.__name__, pickled, (our_input,), (our_output,)))


F32, CUT8 = spec("float32", (), ONE), spec("float32", (8,), CUT)
PROGRAMS = {
    "half": program(half, CUT8, CUT8),
    "half_as_another_type": program(half, F32, spec("int32", (), ONE)),
    "fail": program(fail, F32, F32),
    "to_other": program(to_other, F32, F32),
    "names": program(names, F32, F32),
    "wide": program(wide, spec("float64", (), ONE), spec("float64", (), ONE)),
    "shout": program(shout, spec("string", (2,), ONE), spec("string", (2,), ONE)),
}

if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.msgpack.encode(PROGRAMS))
