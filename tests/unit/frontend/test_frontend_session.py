"""A session, fed with wire messages and without gRPC."""

from __future__ import annotations

import asyncio
import base64

import frontend_fakes as fakes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polypath.controller import events
from polypath.frontend.host_buffers import HostBuffers
from polypath.frontend.refused import Refused
from polypath.frontend.requests import HANDLERS
from polypath.frontend.session import Session
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import PROGRAM_OPTION
from polypath.types import Code, Failure


class Client:
    """One session, what it submits and what it answers."""

    def __init__(self) -> None:
        self.controller = fakes.FakeController()
        self.buffers = HostBuffers()
        self.written: list[bytes] = []
        self.session = Session(7, fakes.view(4), self.buffers, self.controller.submit, self.written.append)
        self.controller.deliver = lambda reply: self.session.deliver(reply.op, reply.result)
        self.op = 0

    def request(self, context: int = 0, op: int | None = None, **body: object) -> pb.IfrtRequest:
        self.op += 1
        metadata = pb.RequestMetadata(op_id=self.op if op is None else op, user_context_id=context)
        return pb.IfrtRequest(request_metadata=metadata, **{f"{k}_request": v for k, v in body.items()})

    async def ask(self, **body: object) -> None:
        wait = self.session.serve(self.request(**body))
        if wait is not None:
            await wait()

    async def read(self, *requests: pb.IfrtRequest) -> None:
        """Serve requests one after another, as they come on a stream."""
        for request in requests:
            wait = self.session.receive(request.SerializeToString())
            if wait is not None:
                await wait()

    def responses(self) -> list[pb.IfrtResponse]:
        """What was answered since; what the client does not wait for comes last."""
        self.session.acknowledge()
        found = [pb.IfrtResponse.FromString(data) for data in self.written]
        self.written.clear()
        return found

    async def response(self, **body: object) -> pb.IfrtResponse:
        await self.ask(**body)
        (found,) = self.responses()
        return found


def failure(response: pb.IfrtResponse) -> tuple[int, str]:
    assert response.WhichOneof("response") is None
    status = response.response_metadata.status
    return status.code, status.message


def on_device(device: int, memory_kind: str | None = None) -> pb.ShardingProto:
    data = pb.SingleDeviceShardingProto(device_id=device, memory_kind=memory_kind).SerializeToString()
    return pb.ShardingProto(serialized_sharding=pb.Serialized(type_name="xla::ifrt::SingleDeviceSharding", data=data))


def put(handle: int, **changes: object) -> pb.MakeArrayFromHostBufferRequest:
    fields: dict = {
        "dtype": pb.DTypeProto(kind=pb.DTypeProto.KIND_F32),
        "shape": pb.ShapeProto(dims=[2]),
        "sharding": on_device(0),
        "host_buffer_handle": handle,
        "array_handle": handle,
    }
    return pb.MakeArrayFromHostBufferRequest(**{**fields, **changes})


def test_a_request_waits_for_its_buffer_and_so_do_those_after_it() -> None:
    async def main() -> None:
        client = Client()
        both = (
            client.request(make_array_from_host_buffer=put(1)),
            client.request(check_value_ready=pb.CheckValueReadyRequest(value_handles=[1])),
        )
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(client.read(*both))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not client.controller.events
            client.buffers.store(1, b"12345678")
        assert reading.done()
        assert [type(e) for e in client.controller.events] == [events.Put, events.CheckReady]
        assert len(client.buffers) == 0
        (array,) = client.controller.events[0].arrays
        assert (array.handle, array.buffers[0].data, array.spec.shape) == (1, b"12345678", (2,))

    asyncio.run(main())


def test_a_buffer_may_come_after_the_request_for_it_was_given_up() -> None:
    async def main() -> None:
        client = Client()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.ask(make_array_from_host_buffer=put(1)))
            await asyncio.sleep(0)
            waiting.cancel()
        client.buffers.store(1, b"12345678")
        assert not client.controller.events

    asyncio.run(main())


def test_responses_come_in_any_order_and_name_their_request() -> None:
    async def main() -> None:
        client = Client()
        client.controller.deliver = lambda reply: None
        for executable in (5, 6):
            await client.ask(
                loaded_executable_destruct=pb.LoadedExecutableDestructRequest(loaded_executable_handle=executable)
            )
        client.session.deliver(2, None)
        client.session.deliver(1, Failure(Code.NOT_FOUND, "no such program"))
        second, first = client.responses()
        assert second.response_metadata.op_id == 2
        assert second.WhichOneof("response") == "loaded_executable_destruct_response"
        assert first.response_metadata.op_id == 1
        assert failure(first) == (pb.NOT_FOUND, "no such program")

    asyncio.run(main())


def test_events_come_in_the_client_s_order_also_those_that_free_arrays() -> None:
    async def main() -> None:
        client = Client()
        for arrays in ((4,), (5, 6)):
            client.session.serve(client.request(destruct_array=pb.DestructArrayRequest(array_handle=arrays)))
            client.session.serve(client.request(is_array_deleted=pb.IsArrayDeletedRequest(array_handle=1)))
        submitted = [event.arrays if isinstance(event, events.Destruct) else () for event in client.controller.events]
        assert submitted == [(4,), (), (5, 6), ()]

    asyncio.run(main())


def test_what_the_client_counts() -> None:
    async def main() -> None:
        client = Client()
        ready = pb.CheckValueReadyRequest(value_handles=[1])
        client.controller.values[1] = b""
        await client.ask(context=10, check_value_ready=ready)
        await client.ask(delete_array=pb.DeleteArrayRequest(array_handle=[1]))
        deleted = client.responses()[1].delete_array_response.deletion_future_handle
        await client.ask(check_future=pb.CheckFutureRequest(future_handle=deleted))
        await client.ask(context=11, check_value_ready=pb.CheckValueReadyRequest(value_handles=[9]))
        await client.ask(context=12, check_value_ready=ready)
        await client.ask(check_future=pb.CheckFutureRequest(future_handle=deleted))
        uncounted, failed, counted, future = client.responses()
        assert uncounted.response_metadata.seq_num == failed.response_metadata.seq_num == 0
        assert failure(failed)[0] == pb.NOT_FOUND
        assert not failed.response_metadata.destroyed_user_context_ids
        assert counted.response_metadata.seq_num == 1
        assert list(counted.response_metadata.destroyed_user_context_ids) == [11, 12]
        assert future.response_metadata.seq_num == 2

    asyncio.run(main())


REFUSED = [
    (put(1, sharding=on_device(9)), "Device 9 does not exist: cluster test has devices 0-3."),
    (put(1, sharding=on_device(0, "vram")), "Device 0 has no memory of kind 'vram'"),
    (put(1, sharding=pb.ShardingProto()), "Shardings of type '' are unknown."),
    (put(1, dtype=pb.DTypeProto()), "Element type 0 of the wire has no counterpart"),
    (put(1, shape=pb.ShapeProto(dims=[-1])), "has a negative dimension"),
    (put(1, shape=pb.ShapeProto(dims=[2**62] * 300)), "cannot have 300 dimensions, only up to 127"),
    (put(1, shape=pb.ShapeProto(dims=[3])), "has 8 bytes where float32[3] has 12"),
    (put(1, shape=pb.ShapeProto(dims=[2**62, 2**62])), "has 8 bytes where"),
    (put(1, byte_strides=pb.ByteStrides(strides=[-4])), "do not fit elements of 4 bytes"),
    (put(1, byte_strides=pb.ByteStrides(strides=[4, 4])), "2 strides for 1 dimensions"),
    (put(1, byte_strides=pb.ByteStrides(strides=[8])), "with strides [8] has 12"),
    (put(1, host_buffer_handle=0), "There is no host buffer 0."),
    (put(1, host_buffer_handle=1 << 62), f"There is no host buffer {1 << 62}."),
    (put(1, layout=pb.LayoutProto()), "layout of type ''"),
]


@pytest.mark.parametrize(("request_", "sentence"), REFUSED, ids=[s for _, s in REFUSED])
def test_what_is_refused_makes_an_error_and_the_session_goes_on(
    request_: pb.MakeArrayFromHostBufferRequest, sentence: str
) -> None:
    async def main() -> None:
        client = Client()
        client.buffers.store(1, b"12345678")
        code, message = failure(await client.response(make_array_from_host_buffer=request_))
        assert code in {pb.INVALID_ARGUMENT, pb.UNIMPLEMENTED, pb.NOT_FOUND}
        assert sentence in message
        (error,) = client.controller.of(events.MakeErrors)
        assert error.results == (1,)
        assert error.failure.message == message
        ready = await client.response(check_value_ready=pb.CheckValueReadyRequest(value_handles=[1]))
        assert failure(ready) == (code, message)

    asyncio.run(main())


def test_handles() -> None:
    async def main() -> None:
        client = Client()
        client.buffers.store(1, b"12345678")
        assert "from 1 to" in failure(await client.response(make_array_from_host_buffer=put(1, array_handle=0)))[1]
        assert not client.controller.events
        copies = pb.CopyArraysRequest(array_handles=[1, 2], result_handles=[3, 3])
        assert "one handle to two" in failure(await client.response(copy_arrays=copies))[1]
        copies = pb.CopyArraysRequest(array_handles=[1], result_handles=[1 << 62])
        assert "from 1 to" in failure(await client.response(copy_arrays=copies))[1]
        copies = pb.CopyArraysRequest(array_handles=[0], result_handles=[3])
        assert "handle 0" in failure(await client.response(copy_arrays=copies))[1]
        copies = pb.CopyArraysRequest(array_handles=[1, 2], result_handles=[3])
        assert "makes 2 arrays and gives 1" in failure(await client.response(copy_arrays=copies))[1]

    asyncio.run(main())


def test_an_operation_has_one_answer() -> None:
    async def main() -> None:
        client = Client()
        client.controller.deliver = lambda reply: None
        ready = pb.CheckValueReadyRequest(value_handles=[1])
        await client.ask(op=5, check_value_ready=ready)
        response = await client.response(op=5, check_value_ready=ready)
        assert "is not answered yet" in failure(response)[1]
        assert "is empty" in failure(await client.response())[1]

    asyncio.run(main())


LATER = [
    {"loaded_host_callback_poll": pb.LoadedHostCallbackPollRequest()},
    {"loaded_host_callback_return": pb.LoadedHostCallbackReturnRequest()},
    {"loaded_executable_mpmd_metadata": pb.LoadedExecutableMpmdMetadataRequest()},
    {"loaded_executable_mpmd_cost_analysis": pb.LoadedExecutableMpmdCostAnalysisRequest()},
    {"loaded_executable_delete": pb.LoadedExecutableDeleteRequest()},
    {"compile": pb.CompileRequest(program=pb.Serialized(type_name="xla::ifrt::CustomCallProgram"))},
    {"compile": pb.CompileRequest(program=pb.Serialized(type_name="xla::ifrt::IfrtIRProgram"))},
]


@pytest.mark.parametrize("body", LATER)
def test_what_comes_later_says_so(body: dict) -> None:
    async def main() -> None:
        code, message = failure(await Client().response(**body))
        assert code == pb.UNIMPLEMENTED
        assert message.startswith("This release of Polypath has no ")
        assert "PjRtCompiler requires an HloProgram" not in message

    asyncio.run(main())


def compile_request(assignment: pb.DeviceAssignmentProto | None, **changes: object) -> pb.CompileRequest:
    build = pb.ExecutableBuildOptionsProto(num_replicas=2, num_partitions=2, device_assignment=assignment)
    options = pb.CompileOptionsProto(executable_build_options=build).SerializeToString()
    data = pb.XlaCompileOptionsProto(compile_options=options).SerializeToString()
    fields: dict = {
        "program": pb.Serialized(type_name="xla::ifrt::XlaProgram", data=b"program"),
        "compile_options": pb.Serialized(type_name="xla::ifrt::XlaCompileOptions", data=data),
    }
    return pb.CompileRequest(**{**fields, **changes})


def test_compile_takes_the_device_assignment_replica_major() -> None:
    async def main() -> None:
        client = Client()
        columns = [pb.DeviceAssignmentProto.ComputationDevice(replica_device_ids=ids) for ids in ([3, 1], [2, 0])]
        assignment = pb.DeviceAssignmentProto(replica_count=2, computation_count=2, computation_devices=columns)
        response = (await client.response(compile=compile_request(assignment))).compile_response
        (event,) = client.controller.events
        assert event.devices == (3, 2, 1, 0)
        assert event.program == b"program"
        assert list(response.device_ids) == list(response.addressable_device_ids) == [3, 2, 1, 0]
        assert (response.name, response.num_devices, response.fingerprint_value) == ("jit_add", 4, b"print")
        await client.ask(compile=compile_request(None))
        assert client.controller.events[1].devices == (0, 1, 2, 3)
        client.responses()
        assignment.replica_count = 3
        assert "not a table" in failure(await client.response(compile=compile_request(assignment)))[1]
        garbage = pb.Serialized(type_name="xla::ifrt::XlaCompileOptions", data=b"\xff")
        refused = await client.response(compile=compile_request(None, compile_options=garbage))
        assert "cannot be decoded" in failure(refused)[1]
        called = await client.response(compile=compile_request(None, host_callbacks=[b""]))
        assert failure(called)[0] == pb.UNIMPLEMENTED

    asyncio.run(main())


def test_a_program_in_an_option_takes_the_place_of_the_requests() -> None:
    """Our client sends it so where jaxlib's cannot write it; the option is not the compiler's to see."""

    def request(program: str) -> pb.CompileRequest:
        options = pb.CompileOptionsProto()
        options.env_option_overrides["xla_one"].string_field = "1"
        options.env_option_overrides[PROGRAM_OPTION].string_field = program
        data = pb.XlaCompileOptionsProto(compile_options=options.SerializeToString()).SerializeToString()
        return compile_request(None, compile_options=pb.Serialized(type_name="xla::ifrt::XlaCompileOptions", data=data))

    async def main() -> None:
        client = Client()
        await client.response(compile=request(base64.b64encode(b"newer").decode()))
        (event,) = client.controller.of(events.Compile)
        assert event.program == b"newer"
        assert list(pb.CompileOptionsProto.FromString(event.options).env_option_overrides) == ["xla_one"]
        refused = await client.response(compile=request("no base64"))
        assert failure(refused) == (
            pb.INVALID_ARGUMENT,
            f"The option {PROGRAM_OPTION} cannot be read (Only base64 data is allowed).",
        )

    asyncio.run(main())


def test_the_default_layout_never_fails() -> None:
    async def main() -> None:
        client = Client()
        request = pb.GetDefaultLayoutRequest(dtype=pb.DTypeProto(kind=pb.DTypeProto.KIND_F32), dims=[2, 3])
        good = await client.response(get_default_layout=request)
        assert good.get_default_layout_response.serialized_pjrt_layout == b"{1,0}"
        client.controller.answers[events.DefaultLayout] = Failure(Code.UNAVAILABLE, "host 0 was lost")
        lost = await client.response(get_default_layout=request)
        assert lost.get_default_layout_response.serialized_pjrt_layout == b"{1,0}"
        for bad in (
            pb.GetDefaultLayoutRequest(dims=[2, 3]),
            pb.GetDefaultLayoutRequest(dtype=request.dtype, dims=[2, -3]),
            pb.GetDefaultLayoutRequest(dtype=request.dtype, dims=[2, 3], device_id=99),
        ):
            response = await client.response(get_default_layout=bad)
            assert response.get_default_layout_response.serialized_pjrt_layout == b"{1,0}"

    asyncio.run(main())


def test_the_default_device_assignment() -> None:
    async def main() -> None:
        client = Client()
        request = pb.GetDefaultDeviceAssignmentRequest(num_replicas=2, num_partitions=2)
        response = await client.response(get_default_device_assignment=request)
        assignment = response.get_default_device_assignment_response.device_assignment
        assert [list(c.replica_device_ids) for c in assignment.computation_devices] == [[0, 2], [1, 3]]
        for replicas, partitions in ((5, 1), (0, 1), (2**63, 2**63)):
            request = pb.GetDefaultDeviceAssignmentRequest(num_replicas=replicas, num_partitions=partitions)
            assert "which has 4" in failure(await client.response(get_default_device_assignment=request))[1]

    asyncio.run(main())


def test_a_status_is_told_only_where_asked_for() -> None:
    async def main() -> None:
        client = Client()
        client.controller.answers[events.Execute] = events.Executed(1 << 62, ())
        quiet = await client.response(loaded_executable_execute=pb.LoadedExecutableExecuteRequest())
        assert quiet.loaded_executable_execute_response.status_handle == 0
        options = pb.ExecuteOptionsProto(fill_status=True)
        told = await client.response(
            loaded_executable_execute=pb.LoadedExecutableExecuteRequest(execute_options=options)
        )
        assert told.loaded_executable_execute_response.status_handle == 1 << 62

    asyncio.run(main())


def test_the_end_is_told_once() -> None:
    client = Client()
    client.buffers.store(1, b"12345678")
    client.session.close()
    client.session.close()
    assert client.controller.events == [events.Close(7)]
    assert len(client.buffers) == 0
    client.session.deliver(1, memoryview(b"late"))


def test_a_request_for_a_buffer_that_was_refused_is_refused_for_the_same_reason() -> None:
    async def main() -> None:
        client = Client()
        why = Refused(Code.RESOURCE_EXHAUSTED, "too much")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.ask(make_array_from_host_buffer=put(1)))
            await asyncio.sleep(0)
            client.buffers.refuse(put(1).host_buffer_handle, why)
        assert [event.failure for event in client.controller.of(events.MakeErrors)] == [why.failure]
        assert len(client.buffers) == 0

    asyncio.run(main())


def test_malformed_bytes_end_the_session() -> None:
    async def main() -> None:
        with pytest.raises(Refused) as caught:
            Client().session.receive(b"\xff\xff\xff")
        assert caught.value.failure.code == Code.INVALID_ARGUMENT

    asyncio.run(main())


KINDS = sorted(set(HANDLERS) - {"init_request"})


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=60), op=st.integers(0, 2**64 - 1))
def test_no_request_breaks_a_session(kind: str, data: bytes, op: int) -> None:
    """Whatever a body holds, it becomes an event or a refusal."""
    number = pb.IfrtRequest.DESCRIPTOR.fields_by_name[kind].number
    request = pb.IfrtRequest(request_metadata=pb.RequestMetadata(op_id=op))
    body = bytes([*_varint(number << 3 | 2), *_varint(len(data))]) + data

    async def main() -> None:
        client = Client()
        client.session._submit = client.controller.events.append
        try:
            wait = client.session.receive(request.SerializeToString() + body)
        except Refused:
            return
        assert wait is not None or client.controller.events or client.responses()

    asyncio.run(main())


def _varint(value: int) -> list[int]:
    found = []
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return [*found, value]
