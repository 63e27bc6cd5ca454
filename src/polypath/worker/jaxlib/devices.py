"""What a PJRT client and its devices say of themselves."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from jaxlib import xla_client as _xla

from polypath.protos import fields
from polypath.types import Attribute
from polypath.worker import protos
from polypath.worker.jaxlib.arrays import single
from polypath.worker.jaxlib.types import Client, JaxDevice

_PINNED: Final = "pinned_host"
_CLIENT_ATTRIBUTES: Final = (
    "serialize_with_sdy",
    "supports_executable_serialization",
    "xla_version",
    "pjrt_c_api_major_version",
    "pjrt_c_api_minor_version",
    "stablehlo_current_version",
    "stablehlo_minimum_version",
)
_DEVICE_ATTRIBUTES: Final = (
    "coords",
    "core_on_chip",
    "num_cores",
    "compute_capability",
    "core_count",
    "shared_memory_per_block_optin",
    "partition_index",
    "device_vendor",
    "physical_location",
)


def platform_name(client: Client) -> str:
    """The platform that the client was made for: `cpu`, `cuda`, `rocm`, `tpu`, or what its plugin is called.

    `client.platform` and `device.platform` say `gpu` of both `cuda` and `rocm`, which JAX knows only as an alias.
    """
    return client._raw_platform


def is_cpu(client: Client) -> bool:
    return platform_name(client) == "cpu"


def client_attributes(client: Client) -> dict[str, Attribute]:
    from polypath.worker.executors import stablehlo

    found = _attributes(client, _CLIENT_ATTRIBUTES)
    # The CPU client has none, but exporting needs to know that it takes Shardy, and clients which StableHLO it reads.
    found.setdefault("serialize_with_sdy", True)
    found.setdefault("stablehlo_current_version", tuple(map(int, stablehlo.version().split("."))))
    return found


def device_attributes(device: JaxDevice) -> dict[str, Attribute]:
    return _attributes(device, _DEVICE_ATTRIBUTES)


def _attributes(thing: Any, names: Sequence[str]) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for name in names:
        value = getattr(thing, name, None)
        if isinstance(value, list | tuple):
            found[name] = tuple(int(each) for each in value)
        elif isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def device_memory_stats(device: JaxDevice) -> dict[str, int] | None:
    """None where the platform counts nothing: on CPU."""
    found = device.memory_stats()
    return None if found is None else {name: int(value) for name, value in found.items()}


def memory_kinds(device: JaxDevice) -> tuple[str, ...]:
    """The device's memories, its default first."""
    default = device.default_memory().kind
    others = [memory.kind for memory in device.addressable_memories() if memory.kind != default]
    return (default, *others)


@functools.cache
def host_memory(device: JaxDevice) -> Any:
    """The sharding of an array in the host's memory, from where the device reads and writes; its own if it has none."""
    kinds = memory_kinds(device)
    return single(device, _PINNED if _PINNED in kinds else kinds[0])


def default_layout(dtype: npt.DTypeLike, shape: tuple[int, ...], device: JaxDevice) -> bytes:
    return layout_proto(device.client.get_default_layout(np.dtype(dtype), shape, device), dtype, shape)


def layout_proto(layout: Any, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> bytes:
    """A PJRT layout as a serialized `LayoutProto`: taken out of a shape that has it."""
    try:
        text = f"{_primitive(dtype)}[{','.join(map(str, shape))}]{layout}"
        shape_proto = _xla.Shape(text).to_serialized_proto()
    except Exception:
        order = tuple(layout._xla_layout().minor_to_major())
        return protos.layout(order)
    for field, value in fields(shape_proto):
        if field == 5 and not isinstance(value, int):
            return bytes(value)
    return protos.layout(tuple(reversed(range(len(shape)))))


def _primitive(dtype: npt.DTypeLike) -> str:
    return str(_xla.Shape.array_shape(np.dtype(dtype), ())).removesuffix("[]")
