"""Colocated Python on the wire: the pickled function's request, and the CPU devices it runs on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import frontend_fakes as fakes
import msgspec
import pytest
from test_frontend_session import Client, failure, on_device

from polypath.controller import events
from polypath.frontend.host_buffers import HostBuffers
from polypath.frontend.refused import Refused
from polypath.frontend.requests import Scope, colocated
from polypath.frontend.session import Session
from polypath.frontend.shardings import Shardings
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import PythonProgram
from polypath.types import HOST_CPU, ArraySpec, Code, Device, Platform, Sharding


def spec(device: int) -> pb.ArraySpecProto:
    return pb.ArraySpecProto(
        dtype=pb.DTypeProto(kind=pb.DTypeProto.KIND_STRING),
        shape=pb.ShapeProto(dims=[2]),
        sharding=on_device(device, "device"),
    )


def compile_request(**changes: object) -> pb.CompileRequest:
    fields: dict = {
        "type": "jax_colocated_python_v0.0.1",
        "name": "f",
        "serialized_program_text": b"pickle",
        "devices": pb.DeviceListProto(device_ids=[1, 0]),
        "input_specs": [spec(0), spec(1)],
        "output_specs": [spec(1)],
    }
    options = changes.pop("options", "xla::ifrt::CustomCallCompileOptions")
    program = pb.CustomCallProgramProto(**(fields | changes))
    return pb.CompileRequest(
        program=pb.Serialized(type_name="xla::ifrt::CustomCallProgram", data=program.SerializeToString()),
        compile_options=pb.Serialized(type_name=options),
    )


def test_compiles_a_function() -> None:
    client = Client()
    response = asyncio.run(client.response(compile=compile_request()))
    (event,) = client.controller.of(events.Compile)
    assert (event.kind, event.devices, event.options) == ("python", (1, 0), b"")

    def on(device: int) -> ArraySpec:
        return ArraySpec("string", (2,), Sharding((device,), "device", fully_replicated=True))

    program = msgspec.msgpack.decode(event.program, type=PythonProgram)
    assert program == PythonProgram("f", b"pickle", (on(0), on(1)), (on(1),))
    assert list(response.compile_response.device_ids) == [1, 0]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"type": "a_kernel"}, Code.UNIMPLEMENTED, "custom calls of type 'a_kernel'"),
        ({"options": "xla::ifrt::XlaCompileOptions"}, Code.INVALID_ARGUMENT, "XlaCompileOptions"),
        ({"devices": pb.DeviceListProto(device_ids=[9])}, Code.INVALID_ARGUMENT, "Device 9 does not exist"),
        ({"output_specs": [spec(2)]}, Code.INVALID_ARGUMENT, "Result 0 of f is to be on device 2"),
    ],
)
def test_refuses(changes: dict, code: Code, words: str) -> None:
    client = Client()
    found, message = failure(asyncio.run(client.response(compile=compile_request(**changes))))
    assert found == code
    assert words in message
    # With this text JAX would run the function in the client's process.
    assert "PjRtCompiler requires an HloProgram" not in message


def test_the_calling_threads_order_is_kept_apart() -> None:
    client = Client()
    request = pb.LoadedExecutableExecuteRequest(
        loaded_executable_handle=1, execute_options=pb.ExecuteOptionsProto(execution_stream_id=12345)
    )
    client.controller.answers[events.Execute] = events.Executed(0, ())
    asyncio.run(client.response(loaded_executable_execute=request))
    (event,) = client.controller.of(events.Execute)
    assert event.stream == 12345


def test_cpu_devices_beside_accelerators_are_listed() -> None:
    def device(id_: int, platform: str) -> Device:
        kind = "cpu" if platform == "cpu" else "NVIDIA H200"
        return Device(id_, 0, 0, id_ % 2, platform, kind, ("device",), {"colocation_id": id_ % HOST_CPU})

    devices = (device(0, "cuda"), device(1, "cuda"), device(HOST_CPU, "cpu"), device(HOST_CPU + 1, "cpu"))
    view = ClusterView("gpus", Platform("cuda", "cuda 13", "0.10.2", {}), devices)
    assert view.default_devices(2) == (0, 1)
    controller = fakes.FakeController()
    written: list[bytes] = []
    session = Session(7, view, HostBuffers(), controller.submit, written.append)
    session.serve(pb.IfrtRequest(request_metadata=pb.RequestMetadata(op_id=1), init_request=pb.InitRequest()))
    (data,) = written
    init = pb.IfrtResponse.FromString(data).init_response
    # JAX takes the addressable ones of the primary ones for jax.devices(), and finds the others by their kind.
    assert list(init.primary_device_ids) == [0, 1]
    assert list(init.addressable_device_ids) == [0, 1, HOST_CPU, HOST_CPU + 1]
    listed = [(d.id, d.device_kind, d.attributes.attributes["colocation_id"].int64_value) for d in init.all_devices]
    assert listed == [
        (0, "NVIDIA H200", 0),
        (1, "NVIDIA H200", 1),
        (HOST_CPU, "cpu", 0),
        (HOST_CPU + 1, "cpu", 1),
    ]


@pytest.mark.parametrize(("client", "refused"), [("3.13", True), ("3.11", False), ("", False)])
def test_refuses_bytecode_of_another_python(client: str, refused: bool) -> None:
    devices = tuple(Device(i, 0, 0, i, "cpu", "cpu", ("device",), {}) for i in range(2))
    view = ClusterView("c", Platform("cpu", "cpu", "0.10.2", {}, "3.11"), devices)
    scope = Scope(1, view, cast(Any, None), Shardings(view), client)
    if refused:
        with pytest.raises(
            Refused, match=r"Python 3\.13 cannot run in this cluster's workers, which have Python 3\.11"
        ):
            colocated.compile_request(scope, 1, compile_request())
    else:
        assert colocated.compile_request(scope, 1, compile_request()).kind == "python"
