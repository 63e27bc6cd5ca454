"""The gRPC edge, spoken to with raw messages."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import frontend_fakes as fakes
import grpc
import grpc.aio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polypath.controller import events
from polypath.errors import ClusterError, NotRunning
from polypath.frontend import Control, Frontend, control_client
from polypath.frontend.refused import Refused, parse
from polypath.frontend.versions import check, negotiate
from polypath.frontend.wire import ifrt_pb2 as pb

SERVICE = "/xla.ifrt.proxy.GrpcIfrtService/"


class Status(msgspec.Struct):
    hosts: int = 2


def versions(protocol: tuple[int, int], serialization: tuple[int, int]) -> pb.GrpcGetVersionRequest:
    low, high = zip(protocol, serialization, strict=True)
    return pb.GrpcGetVersionRequest(min_version=_version(*low), max_version=_version(*high))


def _version(protocol: int, serialization: int) -> pb.IfrtProxyVersion:
    return pb.IfrtProxyVersion(protocol_version=protocol, ifrt_serdes_version_number=serialization)


def test_versions() -> None:
    assert negotiate(versions((16, 25), (0, 3))) == _version(25, 3)
    assert negotiate(versions((16, 25), (2, 6))) == _version(25, 3)
    assert negotiate(versions((16, 22), (0, 0))) == _version(22, 0)
    assert negotiate(versions((20, 30), (1, 2))) == _version(25, 2)
    for chosen in (_version(16, 0), _version(22, 0), _version(25, 3)):
        check(chosen)


@pytest.mark.parametrize(
    ("protocol", "serialization", "sentence"),
    [
        ((15, 22), (0, 0), r"protocol 15 to 22 with serialization 0, .* too old .* install jax 0\.9 to 0\.12 where"),
        ((26, 30), (0, 3), r"protocol 26 to 30 .* too new .* protocol 16 to 25 .* or a newer polypath where"),
        ((16, 30), (5, 9), r"serialization 5 to 9, .* too new .* serialization 0 to 3"),
    ],
)
def test_other_versions_are_refused(protocol: tuple[int, int], serialization: tuple[int, int], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        negotiate(versions(protocol, serialization))


@given(st.binary(max_size=40))
def test_any_version_is_answered_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        check(negotiate(parse(pb.GrpcGetVersionRequest, data, "a version")))


def session_metadata(version: pb.IfrtProxyVersion, **told: bytes) -> tuple[tuple[str, bytes], ...]:
    metadata = pb.GrpcIfrtSessionMetadata(version=version)
    for name, value in told.items():
        metadata.initialization_data.attributes[name].string_value = value
    return (("ifrt-proxy-grpc-ifrt-session-metadata-bin", metadata.SerializeToString()),)


async def _code(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), caught.value.details() or ""


def test_the_service(folder: Path) -> None:
    controller = fakes.FakeController()

    async def main() -> None:
        frontend = Frontend(controller.submit, lambda: fakes.view(1))
        controller.deliver = frontend.deliver
        address = f"unix:{folder}/stock.sock"
        await frontend.serve(address)
        assert (folder / "stock.sock").stat().st_mode & 0o777 == 0o600
        async with grpc.aio.insecure_channel(address) as channel:
            await _calls(channel, folder)
            assert frontend.statistics().sessions_total == 2
        await frontend.stop()
        assert frontend.statistics().host_buffers == frontend.statistics().sessions == 0

    asyncio.run(main())
    assert not list(folder.iterdir())
    assert [type(e) for e in controller.events].count(events.Open) == 2
    assert [type(e) for e in controller.events].count(events.Close) == 2


async def _calls(channel: grpc.aio.Channel, folder: Path) -> None:
    get_version = channel.unary_unary(SERVICE + "GetVersion")
    old = versions((1, 2), (0, 3)).SerializeToString()
    code, text = await _code(get_version(old))
    assert (code, "protocol 1 to 2" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    assert (await _code(get_version(b"\xff")))[0] == grpc.StatusCode.INVALID_ARGUMENT

    open_session = channel.stream_stream(SERVICE + "IfrtSession")
    for metadata in ((), session_metadata(_version(1, 1))):
        refused = open_session(metadata=metadata)
        assert await refused.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
    broken = open_session(metadata=session_metadata(_version(25, 3)))
    await broken.write(b"\xff\xff")
    assert await broken.code() == grpc.StatusCode.INVALID_ARGUMENT

    call = open_session(metadata=session_metadata(_version(25, 3)))
    init = pb.IfrtRequest(request_metadata=pb.RequestMetadata(op_id=1), init_request=pb.InitRequest())
    await call.write(init.SerializeToString())
    session = pb.IfrtResponse.FromString(await call.read()).init_response.session_id
    assert 0 < session < 2**63
    await _buffers(channel, session, folder)
    call.cancel()


async def _buffers(channel: grpc.aio.Channel, session: int, folder: Path) -> None:

    store = channel.stream_unary(SERVICE + "HostBufferStore")

    def send(handle: int, size: int, *chunks: bytes, id_: int = session) -> object:
        header = pb.GrpcHostBufferStoreMetadata(session_id=id_, handle=handle, buffer_size=size)

        async def pieces() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield pb.GrpcHostBufferStoreRequest(data=chunk).SerializeToString()

        name = "ifrt-proxy-grpc-host-buffer-store-metadata-bin"
        return store(pieces(), metadata=((name, header.SerializeToString()),))

    big = bytes(range(256)) * 10_000
    await send(1, 0)
    await send(2, len(big), big[:2_000_000], big[2_000_000:])
    assert (await _code(send(2, 1, b"x")))[0] == grpc.StatusCode.ALREADY_EXISTS
    for handle, size, chunk in ((3, len(big), big[1:]), (4, 100_000, big), (5, 9, b"x"), (6, 1, b"xyz")):
        assert (await _code(send(handle, size, chunk)))[0] == grpc.StatusCode.DATA_LOSS
    await send(7, 1 << 31, b"x", b"y")
    await send(8, 1 << 62)
    assert (await _code(send(0, 1, b"x")))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert (await _code(send(9, 1, b"x", id_=session + 1)))[0] == grpc.StatusCode.NOT_FOUND
    read = channel.unary_unary(SERVICE + "HostBufferReadFromDisk")

    metadata = pb.GrpcHostBufferStoreMetadata(session_id=session, handle=10, buffer_size=5)
    await read(pb.GrpcHostBufferReadFromDiskRequest(metadata=metadata).SerializeToString())

    lookup = channel.unary_stream(SERVICE + "HostBufferLookup")

    async def look_up(handle: int) -> list[bytes]:
        request = pb.GrpcHostBufferLookupRequest(session_id=session, handle=handle)
        stream = lookup(request.SerializeToString())
        return [pb.GrpcHostBufferLookupResponse.FromString(data).data async for data in stream]

    assert await look_up(1) == [b""]
    found = await look_up(2)
    assert (len(found), b"".join(found) == big) == (3, True)
    for handle, why in ((3, "lost some"), (7, "too large"), (8, "too large"), (10, "reads no files")):
        with pytest.raises(grpc.aio.AioRpcError, match=why):
            await look_up(handle)
    gone = pb.GrpcHostBufferDeleteRequest(session_id=session, handle=2).SerializeToString()
    delete = channel.unary_unary(SERVICE + "HostBufferDelete")
    await delete(gone)
    assert (await _code(delete(gone)))[0] == grpc.StatusCode.NOT_FOUND


def test_addresses_that_cannot_be_served(folder: Path) -> None:
    async def main() -> None:
        frontend = Frontend(lambda event: None, fakes.view)
        for address in ("localhost:80", "unix:relative.sock", f"unix:{folder}/none/a.sock"):
            with pytest.raises(ClusterError):
                await frontend.serve(address)
        await frontend.stop()

    asyncio.run(main())


def test_control(folder: Path) -> None:
    address = f"unix:{folder}/stock.sock"

    async def main() -> None:
        frontend = Frontend(lambda event: None, fakes.view, control=Control(Status))
        await frontend.serve(address)
        assert await asyncio.to_thread(control_client.status, address) == b'{"hosts":2}'
        await frontend.stop()

    asyncio.run(main())
    with pytest.raises(NotRunning, match="polypath up"):
        control_client.status(address)


def test_a_client_that_is_killed_in_an_upload_ends_its_session(folder: Path) -> None:
    closed = asyncio.Event()

    def submit(event: object) -> None:
        if isinstance(event, events.Close):
            closed.set()

    async def main() -> None:
        frontend = Frontend(submit, lambda: fakes.view(1))
        address = f"unix:{folder}/stock.sock"
        await frontend.serve(address)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("uploading_client.py")),
            address,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"uploading\n"
            process.kill()
            await process.wait()
            await closed.wait()
        assert frontend.statistics().sessions == frontend.statistics().host_buffers == 0
        await frontend.stop()

    asyncio.run(main())
    assert not list(folder.iterdir())
