"""Shardings: the wire's messages to and from `types.Sharding`.

The same few shardings come again and again, so each session keeps what it has decoded.
"""

from __future__ import annotations

from typing import Final

from polypath.frontend.refused import invalid, parse, unimplemented
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Sharding

_PREFIX: Final = "xla::ifrt::"
_KEPT: Final = 4096
_RANK: Final = 127
"""Dimensions that an array may have: more than any framework's, few enough to work with."""


def shape(proto: pb.ShapeProto) -> tuple[int, ...]:
    """The dimensions.

    Raises:
        Refused: one is negative, or there are absurdly many.
    """
    if len(proto.dims) > _RANK:
        raise invalid(f"An array cannot have {len(proto.dims)} dimensions, only up to {_RANK}.")
    dims = tuple(proto.dims)
    if dims and min(dims) < 0:
        raise invalid(f"The shape {dims} has a negative dimension.")
    return dims


class Shardings:
    """Decodes the shardings of one session."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._decoded: dict[tuple[str, bytes], Sharding] = {}

    def decode(self, proto: pb.ShardingProto) -> Sharding:
        """The sharding in a request.

        Raises:
            Refused: it cannot be read, or names what the cluster does not have.
        """
        serialized = proto.serialized_sharding
        key = (serialized.type_name, serialized.data)
        known = self._decoded.get(key)
        if known is None:
            known = self._read(*key)
            if len(self._decoded) >= _KEPT:
                self._decoded.clear()
            self._decoded[key] = known
        return known

    def _read(self, type_name: str, data: bytes) -> Sharding:
        match type_name.removeprefix(_PREFIX):
            case "SingleDeviceSharding":
                single = parse(pb.SingleDeviceShardingProto, data, "a sharding")
                return Sharding(
                    self._view.check((single.device_id,), single.memory_kind),
                    single.memory_kind,
                    fully_replicated=True,
                )
            case "HloSharding":
                hlo = parse(pb.HloShardingProto, data, "a sharding")
                op = parse(pb.OpSharding, hlo.xla_op_sharding, "a sharding")
                return Sharding(
                    self._devices(hlo),
                    hlo.memory_kind,
                    op_sharding=hlo.xla_op_sharding,
                    fully_replicated=len(hlo.devices.device_ids) == 1 or _is_replicated(op),
                )
            case "ConcreteEvenSharding":
                even = parse(pb.ConcreteEvenShardingProto, data, "a sharding")
                return Sharding(
                    self._devices(even),
                    even.memory_kind,
                    shard_shapes=(shape(even.shard_shape),),
                    fully_replicated=even.is_fully_replicated,
                )
            case "ConcreteSharding":
                return self._concrete(parse(pb.ConcreteShardingProto, data, "a sharding"))
            case "OpaqueSharding":
                opaque = parse(pb.OpaqueShardingProto, data, "a sharding")
                return Sharding(
                    self._devices(opaque),
                    opaque.memory_kind,
                    fully_replicated=len(opaque.devices.device_ids) == 1,
                )
            case "ShardingParamSharding":
                raise unimplemented("ShardingParamSharding", "use a NamedSharding over a mesh")
            case _:
                raise invalid(f"Shardings of type {type_name!r} are unknown.")

    def _concrete(self, proto: pb.ConcreteShardingProto) -> Sharding:
        if proto.HasField("dynamic_shape"):
            raise unimplemented("arrays of dynamic shape", "pad to a static shape")
        devices = self._devices(proto)
        shapes = tuple(shape(s) for s in proto.shard_shapes)
        if len(shapes) != len(devices):
            raise invalid(f"A sharding has {len(shapes)} shards for {len(devices)} devices.")
        return Sharding(
            devices,
            proto.memory_kind,
            shard_shapes=shapes,
            fully_replicated=len(devices) == 1,
        )

    def _devices(
        self,
        proto: pb.HloShardingProto | pb.ConcreteEvenShardingProto | pb.ConcreteShardingProto | pb.OpaqueShardingProto,
    ) -> tuple[int, ...]:
        return self._view.check(proto.devices.device_ids, proto.memory_kind)


def encode(sharding: Sharding, global_shape: tuple[int, ...], out: pb.ShardingProto) -> None:
    """Write the sharding of an array of `global_shape` into `out`."""
    devices = pb.DeviceListProto(device_ids=sharding.devices)
    kind = sharding.memory_kind or None
    if sharding.op_sharding is not None:
        name = "HloSharding"
        proto = pb.HloShardingProto(devices=devices, memory_kind=kind, xla_op_sharding=sharding.op_sharding)
    elif len(sharding.devices) == 1:
        name = "SingleDeviceSharding"
        proto = pb.SingleDeviceShardingProto(device_id=sharding.devices[0], memory_kind=kind)
    elif sharding.fully_replicated or (sharding.shard_shapes and len(sharding.shard_shapes) == 1):
        shard = sharding.shard_shapes[0] if sharding.shard_shapes else global_shape
        name = "ConcreteEvenSharding"
        proto = pb.ConcreteEvenShardingProto(
            devices=devices,
            memory_kind=kind,
            shape=pb.ShapeProto(dims=global_shape),
            shard_shape=pb.ShapeProto(dims=shard),
            is_fully_replicated=sharding.fully_replicated,
        )
    elif sharding.shard_shapes:
        name = "ConcreteSharding"
        proto = pb.ConcreteShardingProto(
            devices=devices,
            memory_kind=kind,
            shape=pb.ShapeProto(dims=global_shape),
            shard_shapes=[pb.ShapeProto(dims=dims) for dims in sharding.shard_shapes],
        )
    else:
        name = "OpaqueSharding"
        proto = pb.OpaqueShardingProto(devices=devices, memory_kind=kind)
    out.serialized_sharding.type_name = _PREFIX + name
    out.serialized_sharding.data = proto.SerializeToString()


def _is_replicated(op: pb.OpSharding) -> bool:
    if op.type == pb.OpSharding.REPLICATED:
        return True
    if op.type != pb.OpSharding.OTHER:
        return False
    dims = list(op.tile_assignment_dimensions)
    if op.last_tile_dims:
        kinds = list(op.last_tile_dims)
        if any(kind != pb.OpSharding.REPLICATED for kind in kinds):
            return False
        dims = dims[: max(0, len(dims) - len(kinds))]
    elif op.replicate_on_last_tile_dim:
        dims = dims[:-1]
    return all(dim == 1 for dim in dims)
