"""Plugin programs: what they ask for, which devices they need, and which are the controller's alone."""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from polypath import notices, plugins
from polypath.controller import events
from polypath.errors import ProtocolError
from polypath.frontend.refused import invalid
from polypath.frontend.requests.base import Scope
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import LANDING
from polypath.types import ArraySpec, DeviceId, Sharding

PROGRAM: Final = "xla::ifrt::PluginProgram"
_OPTIONS: Final = "xla::ifrt::PluginCompileOptions"
_PREFIX: Final = b"__serialized_plugin_program "


def compile_plugin(
    scope: Scope, op: int, body: pb.CompileRequest
) -> events.Compile | events.CompileReshard | events.CompileExport | events.CompileImport | events.CompileNotify:
    """The event for a program of that type.

    Raises:
        Refused: it asks for something that is not served, or for devices that do not exist.
    """
    if body.compile_options.type_name != _OPTIONS:
        raise invalid(f"A plugin program cannot have compile options of type {body.compile_options.type_name!r}.")
    if not body.program.data.startswith(_PREFIX):
        raise invalid("A plugin program's bytes do not begin as the client library writes them.")
    try:
        asked = plugins.parse(body.program.data.removeprefix(_PREFIX))
    except ProtocolError as error:
        # pathwaysutils looks for these words.
        raise invalid(f"Bad PluginProgram: {error}") from error
    match asked:
        case plugins.Reshard():
            return events.CompileReshard(
                session=scope.session,
                op=op,
                devices=scope.view.check(asked.sources[0].devices),
                targets=tuple(_known(scope, each) for each in asked.targets),
                donate=asked.donate,
            )
        case plugins.Export():
            return events.CompileExport(
                session=scope.session,
                op=op,
                devices=scope.view.default_devices(asked.devices),
                address=str(scope.buffers.folder.path() / LANDING),
            )
        case plugins.Import():
            return events.CompileImport(
                session=scope.session,
                op=op,
                spec=ArraySpec(asked.dtype, asked.shape, _known(scope, asked.sharding)),
                address=str(scope.buffers.folder.path() / LANDING),
            )
        case plugins.Notify():
            return events.CompileNotify(
                session=scope.session,
                op=op,
                devices=scope.view.default_devices(asked.devices),
                address=str(scope.buffers.folder.path() / notices.NAME),
                elements=asked.elements,
                pointer=asked.pointer,
            )
        case plugins.Read() | plugins.Write():
            devices = scope.view.check(asked.arrays[0].sharding.devices)
        case plugins.Profile():
            devices = _of_hosts(scope.view, asked.hosts)
            if not asked.session:
                # All workers must name the run alike, and none of them knows the others' time.
                now = datetime.datetime.now().strftime("%Y_%m_%d_%H_%M_%S")
                asked = msgspec.structs.replace(asked, session=now)
    return events.Compile(
        session=scope.session, op=op, program=plugins.encode(asked), options=b"", devices=devices, kind="plugin"
    )


def _of_hosts(view: ClusterView, most: int) -> tuple[DeviceId, ...]:
    """The devices of the first hosts; of all where `most` is 0."""
    chosen = list(dict.fromkeys(device.host for device in view.devices))[: most or None]
    return view.check(device.id for device in view.devices if device.host in chosen)


def _known(scope: Scope, sharding: Sharding) -> Sharding:
    """The same, as if it had come with an array."""
    proto = pb.HloShardingProto(
        devices=pb.DeviceListProto(device_ids=sharding.devices),
        memory_kind=sharding.memory_kind or None,
        xla_op_sharding=sharding.op_sharding,
    )
    wire = pb.ShardingProto()
    wire.serialized_sharding.type_name = "xla::ifrt::HloSharding"
    wire.serialized_sharding.data = proto.SerializeToString()
    return scope.shardings.decode(wire)
