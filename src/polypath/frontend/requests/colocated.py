"""Requests that compile JAX's colocated Python: a pickled function, and the types around it.

Owns the decoding of the wire's `CustomCallProgram`. Nothing is unpickled here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from polypath.controller import events
from polypath.frontend.refused import invalid, parse, unimplemented
from polypath.frontend.requests.base import Scope, spec
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import PythonProgram
from polypath.types import ArraySpec, DeviceId

PROGRAM: Final = "xla::ifrt::CustomCallProgram"
_OPTIONS: Final = "xla::ifrt::CustomCallCompileOptions"
_TYPE: Final = "jax_colocated_python_v0.0.1"


def compile_request(scope: Scope, op: int, body: pb.CompileRequest) -> events.Compile:
    """The event for a custom call, which must be a function of JAX's colocated Python.

    Raises:
        Refused: it is another custom call, or runs where its results are not to be.
    """
    program = parse(pb.CustomCallProgramProto, body.program.data, "a custom call")
    if program.type != _TYPE:
        raise unimplemented(f"custom calls of type {program.type!r}", f"use JAX's own, {_TYPE!r}")
    workers = scope.view.platform.python
    if scope.python and workers and scope.python != workers:
        raise invalid(
            f"A function of Python {scope.python} cannot run in this cluster's workers, which have Python {workers}, "
            "because functions travel as bytecode: use the same version on both sides."
        )
    if body.compile_options.type_name != _OPTIONS:
        raise invalid(f"Compile options of type {body.compile_options.type_name!r} are unknown.")
    devices = scope.view.check(program.devices.device_ids)
    outputs = _specs(scope, program.output_specs)
    _check_reachable(scope, program.name, devices, outputs)
    return events.Compile(
        session=scope.session,
        op=op,
        program=msgspec.msgpack.encode(
            PythonProgram(program.name, program.serialized_program_text, _specs(scope, program.input_specs), outputs)
        ),
        options=b"",
        devices=devices,
        kind="python",
    )


def _specs(scope: Scope, specs: Iterable[pb.ArraySpecProto]) -> tuple[ArraySpec, ...]:
    return tuple(spec(scope, each) for each in specs)


def _check_reachable(scope: Scope, name: str, devices: tuple[DeviceId, ...], outputs: tuple[ArraySpec, ...]) -> None:
    """A worker makes results on its own devices only, so nobody would make those elsewhere."""
    host = {device.id: device.host for device in scope.view.devices}
    hosts = {host[device] for device in devices}
    for index, output in enumerate(outputs):
        for device in output.sharding.devices:
            if host[device] not in hosts:
                raise invalid(
                    f"Result {index} of {name} is to be on device {device}, on a host where the function does not "
                    "run; specialize the function with devices of every host that its results are on."
                )
