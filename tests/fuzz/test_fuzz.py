"""The fuzz targets for a fixed number of runs, and malformed bytes on real sockets.

`make fuzz` runs the same targets for longer.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import frontend_harness
import grpc
import grpc.aio
import http2_harness
import pytest
import transport_harness
from hypothesis import given, settings
from hypothesis import strategies as st

from polypath import messages
from polypath.frontend import Frontend
from polypath.frontend.wire import ifrt_pb2 as pb

HERE = Path(__file__).parent
SERVICE = "/xla.ifrt.proxy.GrpcIfrtService/"
METHODS = (
    ("GetVersion", "unary_unary"),
    ("IfrtSession", "stream_stream"),
    ("HostBufferStore", "stream_unary"),
    ("HostBufferReadFromDisk", "unary_unary"),
    ("HostBufferLookup", "unary_stream"),
    ("HostBufferDelete", "unary_unary"),
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SESSION_HEADER = "ifrt-proxy-grpc-ifrt-session-metadata-bin"
STORE_HEADER = "ifrt-proxy-grpc-host-buffer-store-metadata-bin"

# --- The targets ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1500) | st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(1500)))
def test_frontend(data: bytes) -> None:
    frontend_harness.one_input(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_transport(data: bytes) -> None:
    transport_harness.one_input(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1500) | st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(1500)))
def test_http2(data: bytes) -> None:
    http2_harness.one_input(data)


def test_the_examples_cover_every_message() -> None:
    assert {type(c) for c in transport_harness.COMMANDS} == set(messages.AnyCommand.__args__)
    assert {type(r) for r in transport_harness.REPORTS} == set(messages.AnyReport.__args__)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python")
@pytest.mark.parametrize(
    ("script", "runs", "size"),
    [("fuzz_frontend", 1500, 1500), ("fuzz_http2", 2000, 1500), ("fuzz_transport", 100_000, 100)],
)
def test_guided_by_coverage(script: str, runs: int, size: int, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for seed in range(32):
        (seeds / str(seed)).write_bytes(random.Random(seed).randbytes(size))
    done = subprocess.run(
        [sys.executable, HERE / f"{script}.py", f"-runs={runs}", "-seed=1", "-rss_limit_mb=2048", seeds],
        cwd=tmp_path,  # where a crashing input would be left
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


# --- Real sockets -----------------------------------------------------------------------------------------


def test_malformed_bytes_on_the_socket_do_not_harm_others() -> None:
    async def main(folder: Path) -> None:
        cluster = frontend_harness.Cluster(1)
        cluster.up()
        frontend = Frontend(cluster.handle, cluster.view)
        cluster.answer = frontend.deliver
        address = folder / "ifrt.sock"
        await frontend.serve(f"unix:{address}")
        try:
            await asyncio.to_thread(_send_garbage, address)
            async with grpc.aio.insecure_channel(f"unix:{address}") as channel:
                await _call_with_garbage(channel)
                await _be_served(channel, cluster)
        finally:
            await frontend.stop()
        statistics = frontend.statistics()
        assert (statistics.sessions, statistics.host_buffers) == (0, 0)
        assert cluster.controller.statistics().values == 0

    with tempfile.TemporaryDirectory(prefix="pp") as name:
        (Path(name) / "shared").mkdir()
        asyncio.run(main(Path(name)))
        assert [path.name for path in Path(name).iterdir()] == ["shared"]
        assert not list((Path(name) / "shared").iterdir())


def _send_garbage(address: Path) -> None:
    """Connections that speak no HTTP/2, or broken HTTP/2, or stop in the middle."""
    choose = random.Random(1)
    for at in range(60):
        start = (b"", PREFACE[: at % len(PREFACE)], PREFACE, PREFACE + SETTINGS)[at % 4]
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(address))
            try:
                client.sendall(start + choose.randbytes(choose.randrange(400)))
                client.sendall(_frame(choose.randrange(256), choose.randbytes(choose.randrange(64))))
            except (BrokenPipeError, ConnectionResetError):
                pass  # it was hung up on, as it should be


def _frame(kind: int, payload: bytes) -> bytes:
    """An HTTP/2 frame on stream 1."""
    return len(payload).to_bytes(3) + bytes((kind, 4, 0, 0, 0, 1)) + payload


async def _call_with_garbage(channel: grpc.aio.Channel) -> None:
    """Malformed protobufs, with and without headers, on every method: each call ends with an error."""
    choose = random.Random(2)
    version = pb.IfrtProxyVersion(protocol_version=25, ifrt_serdes_version_number=3)
    good = pb.GrpcIfrtSessionMetadata(version=version).SerializeToString()
    for method, kind in METHODS:
        for headers in ((), ((SESSION_HEADER, good), (STORE_HEADER, b"\xff")), ((SESSION_HEADER, b"\xff\xff"),)):
            for _ in range(5):
                data = b"\xff" + choose.randbytes(choose.randrange(40))  # a tag of wire type 7: never a message
                call = getattr(channel, kind)(SERVICE + method)
                sent = _stream(data) if kind.startswith("stream") else data
                answer = call(sent, metadata=headers, timeout=30)
                code, text = await answer.code(), await answer.details()
                refused = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
                # What grpc.aio itself says if the answer is there before it has written.
                assert code in refused or text == "Internal error from Core", (method, code, text)
    assert await channel.unary_unary(SERVICE + "Unheard")(b"", timeout=30).code() == grpc.StatusCode.UNIMPLEMENTED


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _be_served(channel: grpc.aio.Channel, cluster: frontend_harness.Cluster) -> None:
    """What a well-formed client does first: connect, upload, read back."""
    version = pb.IfrtProxyVersion(protocol_version=25, ifrt_serdes_version_number=3)
    metadata = pb.GrpcIfrtSessionMetadata(version=version).SerializeToString()
    call = channel.stream_stream(SERVICE + "IfrtSession")(metadata=((SESSION_HEADER, metadata),))

    async def ask(op: int, **body: object) -> None:
        request = pb.IfrtRequest(request_metadata=pb.RequestMetadata(op_id=op), **body)
        await call.write(request.SerializeToString())

    async def answer(op: int) -> pb.IfrtResponse:
        response = pb.IfrtResponse.FromString(await asyncio.wait_for(call.read(), 30))
        assert response.response_metadata.op_id == op
        assert not response.response_metadata.HasField("status"), response
        return response

    await ask(1, init_request=pb.InitRequest())
    session = (await answer(1)).init_response.session_id
    header = pb.GrpcHostBufferStoreMetadata(session_id=session, handle=1, buffer_size=8).SerializeToString()
    chunk = pb.GrpcHostBufferStoreRequest(data=b"12345678").SerializeToString()
    await channel.stream_unary(SERVICE + "HostBufferStore")(_stream(chunk), metadata=((STORE_HEADER, header),))
    sharding = pb.Serialized(
        type_name="xla::ifrt::SingleDeviceSharding", data=pb.SingleDeviceShardingProto(device_id=1).SerializeToString()
    )
    put = pb.MakeArrayFromHostBufferRequest(
        dtype=pb.DTypeProto(kind=pb.DTypeProto.KIND_F32),
        shape=pb.ShapeProto(dims=[2]),
        sharding=pb.ShardingProto(serialized_sharding=sharding),
        host_buffer_handle=1,
        array_handle=2,
    )
    await ask(2, make_array_from_host_buffer_request=put)
    await answer(2)
    await ask(3, copy_to_host_buffer_request=pb.CopyToHostBufferRequest(array_handle=2, host_buffer_handle=3))
    await asyncio.wait_for(cluster.asked.wait(), 30)
    cluster.settle()
    await answer(3)
    request = pb.GrpcHostBufferLookupRequest(session_id=session, handle=3).SerializeToString()
    lookup = channel.unary_stream(SERVICE + "HostBufferLookup")(request)
    (found,) = [pb.GrpcHostBufferLookupResponse.FromString(data).data async for data in lookup]
    assert found.isdigit()  # what a simulated worker sends
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK
