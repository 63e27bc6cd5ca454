"""Requests about the cluster as a whole: what there is, and where things go by default."""

from __future__ import annotations

import hashlib
from typing import Final

from polypath.controller.events import CheckFuture, DefaultLayout, Result
from polypath.frontend import attributes, dtypes, layouts, shardings
from polypath.frontend.refused import Refused
from polypath.frontend.requests.base import Answer, Handler, Scope, expect
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Code, Device, Failure

RUNTIME_TYPE: Final = "polypath"
"""JAX shows it as `proxy/polypath`."""

_PLATFORM_IDS: Final = {
    "cpu": 0xF88DA91C978C8500,
    "cuda": 0x3AB2A1E53D4A80A1,
    "rocm": 0x344F7353D6EA420D,
    "sycl": 0x90A1C5488A204575,
    "tpu": 0x83D71ADBA77968AA,
}
"""The platforms that XLA's code compares with: FarmHash's 64-bit fingerprints of their names (tsl::Fingerprint64)."""


def platform_id(name: str) -> int:
    """The number by which XLA's clients know a platform. One that XLA has no name for needs only one of its own."""
    return _PLATFORM_IDS.get(name) or int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def _init(scope: Scope, op: int, body: pb.InitRequest) -> Answer:
    if not scope.view.devices:
        raise Refused(
            Code.UNAVAILABLE,
            f"Cluster {scope.view.name} has no devices yet: see `polypath status` and `polypath logs`.",
        )
    return Answer(None)


def _init_response(scope: Scope, body: pb.InitRequest, result: Result, out: pb.IfrtResponse) -> None:
    view, init = scope.view, out.init_response
    init.session_id = scope.session
    init.platform_name = view.platform.name
    init.platform_version = view.platform.version
    init.platform_id = platform_id(view.platform.name)
    init.process_index = 0
    init.runtime_type = RUNTIME_TYPE
    told = {"serialize_with_sdy": True, **view.platform.attributes}  # Without it `jax.export` cannot serialize.
    # jaxlib's proxy client refuses to serialize executables, so JAX is not to try it for its compilation cache.
    attributes.encode({**told, "supports_executable_serialization": False}, init.client_attributes)
    init.primary_device_ids.extend(device.id for device in view.primary)
    memories = 0
    for device in view.devices:
        ids = range(memories, memories + len(device.memory_kinds))
        memories = ids.stop
        _add_device(device, ids, init)
        for id_, kind in zip(ids, device.memory_kinds, strict=True):
            init.memories.add(
                id=id_,
                memory_space_kind=kind,
                kind_id=view.memory_kinds.index(kind),
                device_ids=[device.id],
                debug_string=f"{_memory_class(device, kind)}(id={id_}, process_index=0, client={device.platform})",
                to_string=f"{_memory_name(device, kind)}_{id_}",
            )


def _add_device(device: Device, memories: range, init: pb.InitResponse) -> None:
    added = init.all_devices.add(
        id=device.id,
        local_device_id=device.id,  # all devices are local to the one process that JAX sees
        local_hardware_id=device.local_index,
        platform_name=device.platform,
        device_kind=device.kind,
        memory_ids=memories,
        debug_string=_short_name(device),
        to_string=_long_name(device),
    )
    if memories:
        added.default_memory_id = memories.start
    attributes.encode(device.attributes, added.attributes)
    init.addressable_device_ids.append(device.id)


# `str` and `repr` of devices and memories, as jaxlib's own clients word them.


def _short_name(device: Device) -> str:
    if device.platform != "tpu":
        return f"{device.platform}:{device.id}"
    coords, core = device.attributes.get("coords", ()), device.attributes.get("core_on_chip", 0)
    place = ",".join(map(str, (*coords, core))) if isinstance(coords, tuple) else ""
    return f"TPU_{device.id}(process=0,({place}))"


def _memory_class(device: Device, kind: str) -> str:
    """`CpuDeviceMemory`, `PinnedHostMemory`, `UnpinnedHostMemorySpace`, ..."""
    if kind == "device":
        return f"{_family(device)}DeviceMemory"
    return "".join(map(str.capitalize, kind.split("_"))) + ("MemorySpace" if kind == "unpinned_host" else "Memory")


def _memory_name(device: Device, kind: str) -> str:
    return f"{device.platform}_{kind}".upper() if kind == "device" else kind.upper()


def _family(device: Device) -> str:
    return device.platform.upper() if device.platform == "tpu" else device.platform.capitalize()


def _long_name(device: Device) -> str:
    place = device.attributes.get("coords")
    more = f", process_index=0, coords={place}" if isinstance(place, tuple) else ""
    return f"{_family(device)}Device(id={device.id}{more})"


def _device_assignment(scope: Scope, op: int, body: pb.GetDefaultDeviceAssignmentRequest) -> Answer:
    scope.view.default_devices(body.num_replicas * body.num_partitions)
    return Answer(None)


def _device_assignment_response(
    scope: Scope, body: pb.GetDefaultDeviceAssignmentRequest, result: Result, out: pb.IfrtResponse
) -> None:
    replicas, partitions = body.num_replicas, body.num_partitions
    devices = scope.view.default_devices(replicas * partitions)
    assignment = out.get_default_device_assignment_response.device_assignment
    assignment.replica_count = replicas
    assignment.computation_count = partitions
    for partition in range(partitions):
        assignment.computation_devices.add(replica_device_ids=devices[partition::partitions])


def _default_layout(scope: Scope, op: int, body: pb.GetDefaultLayoutRequest) -> DefaultLayout | Answer:
    try:
        dtype = dtypes.decode(body.dtype)
        (device,) = scope.view.check((body.device_id,), body.memory_kind)
        shape = shardings.shape(pb.ShapeProto(dims=body.dims))
    except Refused as refused:
        return Answer(refused.failure)
    return DefaultLayout(
        session=scope.session,
        op=op,
        dtype=dtype,
        shape=shape,
        device=device,
        memory_kind=body.memory_kind,
    )


def _default_layout_response(
    scope: Scope, body: pb.GetDefaultLayoutRequest, result: Result, out: pb.IfrtResponse
) -> None:
    # An error would abort the client's process, so a failure becomes the layout that every
    # platform can have; what failed surfaces with the array or the program.
    text = (
        layouts.row_major_text(len(body.dims))
        if isinstance(result, Failure)
        else layouts.to_text(expect(result, bytes))
    )
    out.get_default_layout_response.serialized_pjrt_layout = text


def _check_future(scope: Scope, op: int, body: pb.CheckFutureRequest) -> CheckFuture:
    return CheckFuture(session=scope.session, op=op, future=body.future_handle)


HANDLERS: Final = {
    "init_request": Handler(_init, _init_response, kept=True),
    "get_default_device_assignment_request": Handler(_device_assignment, _device_assignment_response),
    "get_default_layout_request": Handler(_default_layout, _default_layout_response, tells_failure=True),
    "check_future_request": Handler(_check_future),
}
