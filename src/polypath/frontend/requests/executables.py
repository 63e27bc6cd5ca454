"""Requests that compile, describe, run and end programs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from polypath.controller import events
from polypath.controller.events import Executed, Loaded, Result
from polypath.frontend import attributes, dtypes, shardings
from polypath.frontend.refused import invalid, parse, unimplemented
from polypath.frontend.requests import colocated, plugins
from polypath.frontend.requests.base import (
    Answer,
    Handler,
    Scope,
    expect,
    known_handles,
    new_handles,
    status,
)
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import CALLBACKS_OPTION, PROGRAM_OPTION, Callbacks
from polypath.types import Code, DeviceId, Failure, ProgramInfo

_PROGRAMS: Final = ("xla::ifrt::XlaProgram", "xla::ifrt::HloProgram")
_OPTIONS: Final = "xla::ifrt::XlaCompileOptions"
_LATER: Final = {
    "xla::ifrt::IfrtIRProgram": ("IFRT IR programs", "compile one SPMD program"),
}

# --- Compile ------------------------------------------------------------------------------------


def _compile(
    scope: Scope, op: int, body: pb.CompileRequest
) -> events.Compile | events.CompileReshard | events.CompileAttach:
    kind = body.program.type_name
    if kind == colocated.PROGRAM:
        return colocated.compile_request(scope, op, body)
    if kind == plugins.PROGRAM:
        return plugins.compile_plugin(scope, op, body)
    if kind in _LATER:
        raise unimplemented(*_LATER[kind])
    if kind not in _PROGRAMS:
        raise invalid(f"Programs of type {kind!r} are unknown.")
    if body.compile_options.type_name != _OPTIONS:
        raise invalid(f"Compile options of type {body.compile_options.type_name!r} are unknown.")
    if body.host_callbacks:
        raise unimplemented("host callbacks", "compute on the devices, or fetch and compute in the client")
    data = parse(pb.XlaCompileOptionsProto, body.compile_options.data, "compile options").compile_options
    options = parse(pb.CompileOptionsProto, data, "compile options")
    callbacks, program = _callbacks(options), _program(options)
    return events.Compile(
        session=scope.session,
        op=op,
        program=body.program.data if program is None else program,
        options=data if callbacks is None and program is None else options.SerializeToString(),
        devices=_assigned_devices(scope, options.executable_build_options),
        callbacks=callbacks,
    )


def _callbacks(options: pb.CompileOptionsProto) -> Callbacks | None:
    """What our client says of a program's host callbacks; taken out of the options, which are the compiler's."""
    if CALLBACKS_OPTION not in options.env_option_overrides:
        return None
    told = options.env_option_overrides.pop(CALLBACKS_OPTION).string_field
    try:
        return msgspec.json.decode(told, type=Callbacks)
    except msgspec.DecodeError as error:
        raise invalid(f"The option {CALLBACKS_OPTION} cannot be read ({error}).") from error


def _program(options: pb.CompileOptionsProto) -> bytes | None:
    """The program that our client sends beside the request's own, in a newer StableHLO than jaxlib's client writes."""
    if PROGRAM_OPTION not in options.env_option_overrides:
        return None
    try:
        return base64.b64decode(options.env_option_overrides.pop(PROGRAM_OPTION).string_field, validate=True)
    except ValueError as error:
        raise invalid(f"The option {PROGRAM_OPTION} cannot be read ({error}).") from error


def _assigned_devices(scope: Scope, build: pb.ExecutableBuildOptionsProto) -> tuple[DeviceId, ...]:
    if not build.HasField("device_assignment"):
        return scope.view.default_devices(max(build.num_replicas, 1) * max(build.num_partitions, 1))
    assignment = build.device_assignment
    columns = [list(c.replica_device_ids) for c in assignment.computation_devices]
    if len(columns) != assignment.computation_count or any(
        len(column) != assignment.replica_count for column in columns
    ):
        raise invalid("The device assignment is not a table of replicas by partitions.")
    return scope.view.check(device for row in zip(*columns, strict=True) for device in row)


def _compile_response(scope: Scope, body: pb.CompileRequest, result: Result, out: pb.IfrtResponse) -> None:
    loaded = expect(result, Loaded)
    info, response = loaded.info, out.compile_response
    response.loaded_executable_handle = loaded.executable
    response.name = info.name
    response.num_devices = len(info.devices)
    response.device_ids.extend(info.devices)
    response.addressable_device_ids.extend(info.devices)
    if info.fingerprint:
        response.fingerprint_value = info.fingerprint
    response.ready_future_handle = loaded.ready


# --- What a program is --------------------------------------------------------------------------


def _metadata(scope: Scope, op: int, body: pb.LoadedExecutableMetadataRequest) -> events.Metadata:
    return events.Metadata(session=scope.session, op=op, executable=_executable(body))


def _metadata_response(
    scope: Scope, body: pb.LoadedExecutableMetadataRequest, result: Result, out: pb.IfrtResponse
) -> None:
    info = expect(result, ProgramInfo)
    response = out.loaded_executable_metadata_response
    response.SetInParent()
    if info.parameter_shardings is not None:
        _fill(response.parameter_shardings, response.parameter_shardings.shardings, info.parameter_shardings)
    if info.output_shardings is not None:
        _fill(response.output_shardings, response.output_shardings.shardings, info.output_shardings)
    if info.parameter_layouts is not None:
        _fill(response.parameter_layouts_list, response.parameter_layouts_list.layouts, info.parameter_layouts)
    else:
        response.parameter_layouts_error.CopyFrom(_untold("parameter layouts"))
    if info.output_layouts is not None:
        _fill(response.output_layouts_list, response.output_layouts_list.layouts, info.output_layouts)
    else:
        response.output_layouts_error.CopyFrom(_untold("output layouts"))
    response.output_memory_kinds.memory_kind_lists.add(memory_kinds=info.output_memory_kinds)
    _fill(response.donated_input_indices, response.donated_input_indices.donated_input_indices, info.donated)
    if info.memory_stats is not None:
        response.compiled_memory_stats = info.memory_stats
    else:
        response.compiled_memory_stats_error.CopyFrom(_untold("memory statistics"))
    response.size_of_generated_code_in_bytes = info.code_size


def _fill(parent: Any, field: Any, values: Iterable[Any]) -> None:
    """Set a repeated field in a message that must be there even if it has no values."""
    parent.SetInParent()
    field.extend(values)


def _untold(what: str) -> pb.StatusProto:
    return status(Failure(Code.UNIMPLEMENTED, f"The compiler of this platform does not tell {what}."))


def _cost_analysis(scope: Scope, op: int, body: pb.LoadedExecutableCostAnalysisRequest) -> events.CostAnalysis:
    return events.CostAnalysis(session=scope.session, op=op, executable=_executable(body))


def _cost_analysis_response(
    scope: Scope, body: pb.LoadedExecutableCostAnalysisRequest, result: Result, out: pb.IfrtResponse
) -> None:
    response = out.loaded_executable_cost_analysis_response
    if isinstance(result, Failure):
        response.status.CopyFrom(status(result))
        return
    response.attributes.SetInParent()
    costs = msgspec.msgpack.decode(expect(result, bytes), type=dict[str, float])
    attributes.encode(costs, response.attributes)


def _program_text(
    scope: Scope, op: int, body: pb.LoadedExecutableHumanReadableProgramTextRequest
) -> events.ProgramText:
    return events.ProgramText(session=scope.session, op=op, executable=_executable(body))


def _program_text_response(
    scope: Scope,
    body: pb.LoadedExecutableHumanReadableProgramTextRequest,
    result: Result,
    out: pb.IfrtResponse,
) -> None:
    response = out.loaded_executable_human_readable_program_text_response
    if isinstance(result, Failure):
        response.status.CopyFrom(status(result))
    else:
        response.human_readable_program_text = expect(result, bytes).decode()


# --- Run ----------------------------------------------------------------------------------------


def _execute(scope: Scope, op: int, body: pb.LoadedExecutableExecuteRequest) -> events.Execute:
    options = body.execute_options
    args = tuple(body.args_handles)
    if 0 in args:
        raise invalid("The request refers to handle 0, which names nothing.")
    status_handle = body.result_status_handle
    if status_handle and not options.fill_status:
        raise invalid("The request names a status that it does not ask for.")
    if body.device_ids:
        scope.view.check(body.device_ids)  # A program runs where it was compiled for, also if others are named.
    return events.Execute(
        session=scope.session,
        op=op,
        executable=body.loaded_executable_handle,
        args=args,
        results=new_handles(body.result_array_handle),
        status=new_handles((status_handle,))[0] if status_handle else 0,
        fill_status=options.fill_status,
        kept=tuple(options.non_donatable_input_indices),
        launch=options.launch_id,
        stream=options.execution_stream_id,
    )


def _execute_response(
    scope: Scope, body: pb.LoadedExecutableExecuteRequest, result: Result, out: pb.IfrtResponse
) -> None:
    executed = expect(result, Executed)
    response = out.loaded_executable_execute_response
    response.SetInParent()
    # A status that was not asked for aborts the client's process.
    if body.execute_options.fill_status:
        response.status_handle = executed.status
    for output in executed.outputs:
        added = response.outputs.add(array_handle=output.handle, dtype=dtypes.encode(output.spec.dtype))
        added.shape.dims.extend(output.spec.shape)
        added.shape.SetInParent()
        shardings.encode(output.spec.sharding, output.spec.shape, added.sharding)


def _execute_status(scope: Scope, op: int, body: pb.LoadedExecutableFetchExecuteResultRequest) -> events.ExecuteStatus:
    return events.ExecuteStatus(session=scope.session, op=op, status=body.result_status_handle)


# --- End ----------------------------------------------------------------------------------------


def _unload(scope: Scope, op: int, body: pb.LoadedExecutableDestructRequest) -> events.Unload:
    return events.Unload(session=scope.session, op=op, executable=_executable(body))


def _is_deleted(scope: Scope, op: int, body: pb.LoadedExecutableIsDeletedRequest) -> Answer:
    return Answer(False)  # executables end only by being destructed, and then cannot be asked


def _executable(
    body: pb.LoadedExecutableMetadataRequest
    | pb.LoadedExecutableCostAnalysisRequest
    | pb.LoadedExecutableHumanReadableProgramTextRequest
    | pb.LoadedExecutableDestructRequest,
) -> int:
    return known_handles((body.loaded_executable_handle,))[0]


def _not_served(what: str, instead: str) -> Handler:
    def decode(_scope: Scope, _op: int, _body: Any) -> Answer:
        raise unimplemented(what, instead)

    return Handler(decode)


_CALLBACKS: Final = ("host callbacks", "compute on the devices, or fetch and compute in the client")
_MPMD: Final = ("programs of several meshes", "compile one SPMD program for each mesh")

HANDLERS: Final = {
    "compile_request": Handler(_compile, _compile_response),
    "loaded_executable_metadata_request": Handler(_metadata, _metadata_response),
    "loaded_executable_cost_analysis_request": Handler(_cost_analysis, _cost_analysis_response, tells_failure=True),
    "loaded_executable_human_readable_program_text_request": Handler(
        _program_text, _program_text_response, tells_failure=True
    ),
    "loaded_executable_execute_request": Handler(_execute, _execute_response, makes="result_array_handle"),
    "loaded_executable_fetch_execute_result_request": Handler(_execute_status),
    "loaded_executable_destruct_request": Handler(_unload),
    "loaded_executable_is_deleted_request": Handler(_is_deleted),
    "loaded_executable_delete_request": _not_served(
        "LoadedExecutable.delete", "drop the last reference to the executable"
    ),
    "loaded_executable_mpmd_metadata_request": _not_served(*_MPMD),
    "loaded_executable_mpmd_cost_analysis_request": _not_served(*_MPMD),
    "loaded_host_callback_poll_request": _not_served(*_CALLBACKS),
    "loaded_host_callback_return_request": _not_served(*_CALLBACKS),
}
