"""Requests that make, move, read and end arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polypath.controller import events
from polypath.controller.events import HostArray, Interval, Mapping, Result
from polypath.frontend import dtypes, layouts, shardings
from polypath.frontend.refused import invalid
from polypath.frontend.requests.base import (
    Handler,
    Scope,
    donates,
    expect,
    failure_of,
    known_handles,
    new_handles,
    spec,
)
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import HostBuffer
from polypath.types import ArraySpec, DeviceId

# --- From host memory ---------------------------------------------------------------------------


def _host_buffer(
    scope: Scope,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    *,
    devices: tuple[DeviceId, ...],
    handle: int,
) -> HostBuffer:
    if strides is not None and len(strides) != len(shape):
        raise invalid(f"A host buffer has {len(strides)} strides for {len(shape)} dimensions.")
    if strides is not None and (0 in shape or strides == dtypes.dense_strides(dtype, shape)):
        strides = None
    expected = dtypes.host_size(dtype, shape, strides)
    data = scope.buffers.get(handle)
    if expected is not None and len(data) != expected:
        raise invalid(
            f"Host buffer {handle} has {len(data)} bytes where {dtype}{list(shape)}"
            f"{f' with strides {list(strides)}' if strides else ''} has {expected}."
        )
    return HostBuffer(shape, strides, devices, data)


def _strides(
    body: pb.MakeArrayFromHostBufferRequest
    | pb.MakeArraysFromHostBufferShardsRequest.HostBuffer
    | pb.CopyToHostBufferRequest,
) -> tuple[int, ...] | None:
    return tuple(body.byte_strides.strides) if body.HasField("byte_strides") else None


def _put(scope: Scope, op: int, body: pb.MakeArrayFromHostBufferRequest) -> events.Put:
    (handle,) = new_handles((body.array_handle,))
    array = ArraySpec(dtypes.decode(body.dtype), shardings.shape(body.shape), scope.shardings.decode(body.sharding))
    if not array.sharding.fully_replicated:
        raise invalid("One host buffer cannot fill an array of several shards: send one for each.")
    layout = layouts.decode(body.layout) if body.HasField("layout") else None
    buffer = _host_buffer(
        scope,
        array.dtype,
        array.shape,
        _strides(body),
        devices=array.sharding.devices,
        handle=body.host_buffer_handle,
    )
    return events.Put(session=scope.session, op=op, arrays=(HostArray(handle, array, layout, (buffer,)),))


def _put_buffers(body: pb.MakeArrayFromHostBufferRequest) -> Sequence[int]:
    return (body.host_buffer_handle,)


_ShardsSpec = pb.MakeArraysFromHostBufferShardsRequest.MakeArraysFromHostBufferShardsSpec


def _put_shards(scope: Scope, op: int, body: pb.MakeArraysFromHostBufferShardsRequest) -> events.Put:
    handles = new_handles(body.array_handles, len(body.specs))
    named = _put_shards_buffers(body)
    if len(set(named)) < len(named):
        raise invalid("The request names a host buffer twice.")
    arrays = tuple(_sharded(scope, handle, proto) for handle, proto in zip(handles, body.specs, strict=True))
    return events.Put(session=scope.session, op=op, arrays=arrays)


def _sharded(scope: Scope, handle: int, proto: _ShardsSpec) -> HostArray:
    array = spec(scope, proto.array_spec)
    layout = layouts.from_text(proto.array_spec.layout) if proto.array_spec.HasField("layout") else None
    devices = array.sharding.devices
    if len(proto.addressable_shard_indices) != len(proto.host_buffers):
        raise invalid("The request does not say which shards each host buffer is for.")
    filled: list[DeviceId] = []
    buffers: list[HostBuffer] = []
    for shards, buffer in zip(proto.addressable_shard_indices, proto.host_buffers, strict=True):
        places = tuple(shards.indices)
        if not places or not 0 <= min(places) <= max(places) < len(devices):
            raise invalid(f"A host buffer is for shards {places} of an array of {len(devices)}.")
        if dtypes.decode(buffer.dtype) != array.dtype:
            raise invalid(f"A host buffer holds {dtypes.decode(buffer.dtype)} for an array of {array.dtype}.")
        targets = tuple(devices[place] for place in places)
        filled.extend(targets)
        buffers.append(
            _host_buffer(
                scope,
                array.dtype,
                shardings.shape(buffer.shape),
                _strides(buffer),
                devices=targets,
                handle=buffer.host_buffer_handle,
            )
        )
    if sorted(filled) != sorted(devices):
        raise invalid(f"The host buffers fill {len(filled)} shards of an array of {len(devices)}.")
    return HostArray(handle, array, layout, tuple(buffers))


def _put_shards_buffers(body: pb.MakeArraysFromHostBufferShardsRequest) -> Sequence[int]:
    return [buffer.host_buffer_handle for proto in body.specs for buffer in proto.host_buffers]


def _make_errors(scope: Scope, op: int, body: pb.MakeErrorArraysRequest) -> events.MakeErrors:
    return events.MakeErrors(
        session=scope.session,
        op=op,
        failure=failure_of(body.error),
        specs=tuple(spec(scope, proto) for proto in body.array_specs),
        results=new_handles(body.array_handles, len(body.array_specs)),
    )


# --- From other arrays --------------------------------------------------------------------------


def _assemble(scope: Scope, op: int, body: pb.AssembleArrayFromSingleDeviceArraysRequest) -> events.Assemble:
    sharding = scope.shardings.decode(body.sharding)
    parts = known_handles(body.single_device_array_handles)
    if len(parts) != len(sharding.devices):
        raise invalid(f"{len(parts)} arrays cannot be the shards of one on {len(sharding.devices)} devices.")
    return events.Assemble(
        session=scope.session,
        op=op,
        spec=ArraySpec(dtypes.decode(body.dtype), shardings.shape(body.shape), sharding),
        parts=parts,
        result=new_handles((body.result_handle,))[0],
    )


def _disassemble(scope: Scope, op: int, body: pb.DisassembleIntoSingleDeviceArraysRequest) -> events.Disassemble:
    return events.Disassemble(
        session=scope.session,
        op=op,
        array=known_handles((body.array_handle,))[0],
        results=new_handles(body.result_handles),
    )


def _replicated_shard(scope: Scope, op: int, body: pb.FullyReplicatedShardRequest) -> events.FullyReplicatedShard:
    return events.FullyReplicatedShard(
        session=scope.session,
        op=op,
        array=known_handles((body.array_handle,))[0],
        result=new_handles((body.result_handle,))[0],
    )


def _remap(scope: Scope, op: int, body: pb.RemapArraysRequest) -> events.Remap:
    arrays = known_handles(body.array_handles)
    specs = tuple(spec(scope, proto) for proto in body.plan.output_specs)
    return events.Remap(
        session=scope.session,
        op=op,
        arrays=arrays,
        specs=specs,
        mappings=tuple(_mapping(proto, len(arrays), len(specs)) for proto in body.plan.mappings),
        results=new_handles(body.result_handles, len(specs)),
        donate=donates(body.copy_semantics),
    )


def _mapping(proto: pb.RemapPlanProto.MappingProto, inputs: int, outputs: int) -> Mapping:
    if not (0 <= proto.in_array < inputs and 0 <= proto.out_array < outputs):
        raise invalid(f"A plan maps array {proto.in_array} of {inputs} to {proto.out_array} of {outputs}.")
    return Mapping(
        source=proto.in_array,
        target=proto.out_array,
        from_=_intervals(proto.from_start, proto.from_end, proto.from_step),
        to=_intervals(proto.to_start, proto.to_end, proto.to_step),
    )


def _intervals(starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> tuple[Interval, ...]:
    if not len(starts) == len(ends) == len(steps):
        raise invalid("A plan's intervals lack a start, an end or a step.")
    if any(start < 0 or step < 1 for start, step in zip(starts, steps, strict=True)):
        raise invalid("A plan's intervals must start at 0 or later and step forward.")
    return tuple(Interval(*bounds) for bounds in zip(starts, ends, steps, strict=True))


def _copy(scope: Scope, op: int, body: pb.CopyArraysRequest) -> events.Copy:
    arrays = known_handles(body.array_handles)
    kind = body.memory_kind if body.HasField("memory_kind") else None
    return events.Copy(
        session=scope.session,
        op=op,
        arrays=arrays,
        results=new_handles(body.result_handles, len(arrays)),
        devices=scope.view.check(body.device_ids, kind or "") if body.device_ids else None,
        memory_kind=kind,
        always=body.copy_semantics == pb.ARRAY_COPY_SEMANTICS_ALWAYS_COPY,
        donate=donates(body.copy_semantics),
    )


def _reshard(scope: Scope, op: int, body: pb.ReshardArraysRequest) -> events.Reshard:
    arrays, specs = _pairs(scope, body)
    return events.Reshard(
        session=scope.session,
        op=op,
        arrays=arrays,
        specs=specs,
        results=new_handles(body.result_handles, len(arrays)),
        donate=donates(body.copy_semantics),
    )


def _bitcast(scope: Scope, op: int, body: pb.BitcastArraysRequest) -> events.Bitcast:
    arrays, specs = _pairs(scope, body)
    return events.Bitcast(
        session=scope.session,
        op=op,
        arrays=arrays,
        specs=specs,
        results=new_handles(body.result_handles, len(arrays)),
        donate=donates(body.copy_semantics),
    )


def _pairs(
    scope: Scope, body: pb.ReshardArraysRequest | pb.BitcastArraysRequest
) -> tuple[tuple[int, ...], tuple[ArraySpec, ...]]:
    arrays = known_handles(body.array_handles)
    specs = tuple(spec(scope, proto) for proto in body.array_specs)
    if len(arrays) != len(specs):
        raise invalid(f"The request turns {len(arrays)} arrays into {len(specs)}.")
    return arrays, specs


# --- To the client, and away --------------------------------------------------------------------


def _fetch(scope: Scope, op: int, body: pb.CopyToHostBufferRequest) -> events.Fetch:
    scope.buffers.check_new(body.host_buffer_handle)
    return events.Fetch(
        session=scope.session,
        op=op,
        array=known_handles((body.array_handle,))[0],
        strides=_strides(body),
    )


def _fetch_response(scope: Scope, body: pb.CopyToHostBufferRequest, result: Result, out: pb.IfrtResponse) -> None:
    scope.buffers.store(body.host_buffer_handle, expect(result, memoryview))
    out.copy_to_host_buffer_response.SetInParent()


def _check_ready(scope: Scope, op: int, body: pb.CheckValueReadyRequest) -> events.CheckReady:
    return events.CheckReady(session=scope.session, op=op, arrays=known_handles(body.value_handles))


def _delete(scope: Scope, op: int, body: pb.DeleteArrayRequest) -> events.Delete:
    return events.Delete(session=scope.session, op=op, arrays=known_handles(body.array_handle))


def _delete_response(scope: Scope, body: pb.DeleteArrayRequest, result: Result, out: pb.IfrtResponse) -> None:
    future = expect(result, int)
    scope.deletions.add(future)
    out.delete_array_response.deletion_future_handle = future


def _is_deleted(scope: Scope, op: int, body: pb.IsArrayDeletedRequest) -> events.IsDeleted:
    return events.IsDeleted(session=scope.session, op=op, array=known_handles((body.array_handle,))[0])


def _is_deleted_response(scope: Scope, body: pb.IsArrayDeletedRequest, result: Result, out: pb.IfrtResponse) -> None:
    response = out.is_array_deleted_response
    response.SetInParent()
    response.deleted = expect(result, bool)


def _destruct(scope: Scope, op: int, body: pb.DestructArrayRequest) -> events.Destruct:
    return events.Destruct(session=scope.session, op=op, arrays=known_handles(body.array_handle))


HANDLERS: Final = {
    "make_array_from_host_buffer_request": Handler(_put, makes="array_handle", buffers=_put_buffers),
    "make_arrays_from_host_buffer_shards_request": Handler(
        _put_shards, makes="array_handles", buffers=_put_shards_buffers
    ),
    "make_error_arrays_request": Handler(_make_errors, makes="array_handles"),
    "assemble_array_from_single_device_arrays_request": Handler(_assemble, makes="result_handle"),
    "disassemble_into_single_device_arrays_request": Handler(_disassemble, makes="result_handles"),
    "fully_replicated_shard_request": Handler(_replicated_shard, makes="result_handle"),
    "remap_arrays_request": Handler(_remap, makes="result_handles"),
    "copy_arrays_request": Handler(_copy, makes="result_handles"),
    "reshard_arrays_request": Handler(_reshard, makes="result_handles"),
    "bitcast_arrays_request": Handler(_bitcast, makes="result_handles"),
    "copy_to_host_buffer_request": Handler(_fetch, _fetch_response),
    "check_value_ready_request": Handler(_check_ready),
    "delete_array_request": Handler(_delete, _delete_response, batched=True),
    "is_array_deleted_request": Handler(_is_deleted, _is_deleted_response),
    "destruct_array_request": Handler(_destruct, batched=True),
}
