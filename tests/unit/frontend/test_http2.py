"""The lean server, by frames that are made here and by grpc's own client."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import grpc
import grpc.aio
import pytest
from http2_wire import START, Wire, block, call, end, message_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polypath.frontend import http2_frames as h2
from polypath.frontend.http2_frames import Error
from polypath.frontend.http2_stream import WINDOW, Methods, Stream, Wait
from polypath.frontend.lean_server import LeanServer
from polypath.frontend.refused import Refused
from polypath.types import Code


class Echo:
    """Sends each message back, as a conversation does; waits at one that is `wait`."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.go = asyncio.Event()
        self.cancelled = False

    async def serve(self, call: Stream) -> None:
        def take(data: bytes) -> Wait | None:
            self.taken.append(data)
            call.write_nowait(data)
            return self.wait if data == b"wait" else None

        try:
            await call.each(take)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def wait(self) -> None:
        await self.go.wait()


async def echo_slowly(call: Stream) -> None:
    found: list[bytes] = []
    await call.each(found.append)
    for data in found:
        await call.write(data)


async def upper(call: Stream) -> None:
    await call.write((await call.read_only()).upper())


async def refuse(call: Stream) -> None:
    raise Refused(Code.DATA_LOSS, f"100 % löst\n{call.header('why-bin')!r}")


async def broken(call: Stream) -> None:
    raise KeyError("a bug")


METHODS: Methods = {"/s/slow": echo_slowly, "/s/upper": upper, "/s/refuse": refuse, "/s/broken": broken}


def status(wire: Wire, frames: list[h2.Frame]) -> tuple[str, str]:
    last = wire.headers(frames[-1])
    assert frames[-1].flags & h2.END_STREAM
    return last["grpc-status"], last.get("grpc-message", "")


def test_a_call() -> None:
    async def main() -> None:
        async with Wire(METHODS) as wire:
            message = h2.data_of_message(1, b"abc")
            begin, data, trailers = await wire.send(call(1, "/s/upper") + message + end(1))
            assert wire.headers(begin) == {":status": "200", "content-type": "application/grpc"}
            assert data == (h2.DATA, 0, 1, b"\0\0\0\0\3ABC")
            assert status(wire, [trailers]) == ("0", "")
            assert not wire.connection._streams
            (trailers,) = await wire.send(call(3, "/s/upper", end=True))
            assert wire.headers(trailers)["grpc-status"] == "3"

    asyncio.run(main())


def test_what_one_read_brings_is_answered_by_one_write() -> None:
    async def main() -> None:
        echo = Echo()
        async with Wire({"/s/echo": echo.serve}) as wire:
            await wire.send(call(1, "/s/echo"))
            wire.transport.writes = 0
            messages = [bytes([i]) * i for i in range(20)]
            whole = b"".join(message_of(message) for message in messages)
            cut = h2.frame(h2.DATA, 0, 1, whole[:50]) + h2.frame(h2.DATA, 0, 1, whole[50:])
            wire.connection.data_received(cut)
            assert echo.taken == messages
            assert wire.transport.writes == 1

    asyncio.run(main())


def told(frames: Iterable[h2.Frame]) -> tuple[list[h2.Frame], dict[int, bytes], list[int]]:
    """What frames say, whether or not DATA comes in pieces: the others, DATA by stream, and which streams end."""
    data: dict[int, bytes] = {}
    others: list[h2.Frame] = []
    ended: list[int] = []
    for frame in frames:
        if frame.kind != h2.DATA:
            others.append(frame)
            continue
        data[frame.stream] = data.get(frame.stream, b"") + bytes(frame.payload)
        ended += [frame.stream] * bool(frame.flags & h2.END_STREAM)
    return others, data, ended


CONVERSATION = (
    START
    + h2.window_update(0, 1 << 20)
    + call(1, "/s/echo", why_bin="AAEC")
    + h2.data_of_message(1, b"one")
    + h2.frame(h2.PING, 0, 0, b"12345678")
    + call(3, "/s/echo")
    + h2.frame(h2.DATA, 0, 1, message_of(b"two")[:6])
    + h2.data_of_message(3, b"three" * 100)
    + h2.frame(h2.DATA, h2.END_STREAM, 1, message_of(b"two")[6:] + message_of(b""))
    + h2.frame(h2.PRIORITY, 0, 3, bytes(5))
    + h2.frame(77, 0, 3, b"unknown")
    + end(3)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION))))
@example(list(range(len(CONVERSATION))))
def test_however_the_bytes_are_cut_the_same_is_understood(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CONVERSATION)]
    reader = h2.FrameReader()
    pieces = [CONVERSATION[a:b] for a, b in itertools.pairwise(places)]
    frames = [frame for piece in pieces for frame in reader.feed(piece)]
    assert told(frames) == told(h2.FrameReader().feed(CONVERSATION))

    async def main() -> None:
        echo = Echo()
        async with Wire({"/s/echo": echo.serve}, b"") as wire:
            for piece in pieces:
                wire.connection.data_received(piece)
            found = await wire.frames()
            by_stream = {i: [f for f in found if f.stream == i] for i in (0, 1, 3)}
            assert by_stream[0] == [(h2.PING, h2.ACK, 0, b"12345678")]
            assert [f.payload[5:] for f in by_stream[1] if f.kind == h2.DATA] == [b"one", b"two", b""]
            assert [f.payload[5:] for f in by_stream[3] if f.kind == h2.DATA] == [b"three" * 100]
            assert not wire.connection._streams
            assert not wire.transport.closed

    asyncio.run(main())


def data_bytes(frames: list[h2.Frame], stream: int) -> int:
    return sum(len(f.payload) for f in frames if f.kind == h2.DATA and f.stream == stream)


def test_the_clients_windows_are_kept() -> None:
    async def main() -> None:
        start = h2.PREFACE + h2.settings([(h2.SETTING_WINDOW, 10)])
        async with Wire(METHODS, start) as wire:
            request = h2.frame(h2.DATA, h2.END_STREAM, 1, message_of(b"x" * 95))
            assert data_bytes(await wire.send(call(1, "/s/slow") + request), 1) == 10
            assert data_bytes(await wire.send(h2.window_update(1, 20)), 1) == 20
            assert data_bytes(await wire.send(h2.settings([(h2.SETTING_WINDOW, 15)])), 1) == 5
            assert await wire.send(h2.settings([(h2.SETTING_WINDOW, 0)])) == []
            assert data_bytes(await wire.send(h2.window_update(1, 20)), 1) == 5
            found = await wire.send(h2.window_update(1, 1000))
            assert data_bytes(found, 1) == 60
            assert status(wire, found) == ("0", "")

    asyncio.run(main())


def test_a_wider_window_is_acknowledged_before_it_is_used() -> None:
    """A client holds what comes before the acknowledgement against its former window (gRPC of jaxlib 0.12 does)."""

    async def main() -> None:
        async with Wire(METHODS, h2.PREFACE + h2.settings([(h2.SETTING_WINDOW, 10)])) as wire:
            request = h2.frame(h2.DATA, h2.END_STREAM, 1, message_of(b"x" * 95))
            await wire.send(call(1, "/s/slow") + request)
            written = len(wire.transport.written)
            wire.connection.data_received(h2.settings([(h2.SETTING_WINDOW, 40), (h2.SETTING_WINDOW, 50)]))
            acknowledgement = h2.frame(h2.SETTINGS, h2.ACK, 0)
            assert bytes(wire.transport.written[written:]).startswith(acknowledgement + h2.head(h2.DATA, 0, 1, 40))

    asyncio.run(main())


def test_the_connections_window_is_kept_and_shared() -> None:
    async def main() -> None:
        start = h2.PREFACE + h2.settings([(h2.SETTING_WINDOW, 1 << 20)])
        async with Wire(METHODS, start) as wire:
            size = 2 * h2.DEFAULT_WINDOW
            frames: list[h2.Frame] = []
            for stream in (1, 3):
                message = h2.frame(h2.DATA, h2.END_STREAM, stream, message_of(bytes(size - 5)))
                frames += await wire.send(call(stream, "/s/slow") + message)
            assert max(len(f.payload) for f in frames) == h2.DEFAULT_FRAME
            assert (data_bytes(frames, 1), data_bytes(frames, 3)) == (h2.DEFAULT_WINDOW, 0)
            frames += await wire.send(h2.settings([(h2.SETTING_FRAME, 1 << 18)]) + h2.window_update(0, 3 * size))
            assert max(len(f.payload) for f in frames) == size
            assert (data_bytes(frames, 1), data_bytes(frames, 3)) == (size, size)
            assert not wire.connection._streams

    asyncio.run(main())


def test_a_stream_that_waits_is_not_read_and_stops_no_other() -> None:
    async def main() -> None:
        echo = Echo()
        big = message_of(bytes(1 << 20))
        async with Wire({"/s/echo": echo.serve, **METHODS}) as wire:
            await wire.send(call(1, "/s/echo") + h2.data_of_message(1, b"wait"))
            sent = 0
            while sent + len(big) < WINDOW - 100:
                found = await wire.send(h2.frame(h2.DATA, 0, 1, big))
                assert not any(f.kind == h2.WINDOW_UPDATE for f in found)
                sent += len(big)
            assert echo.taken == [b"wait"]
            found = await wire.send(call(3, "/s/upper") + h2.data_of_message(3, b"abc") + end(3))
            assert status(wire, found) == ("0", "")
            echo.go.set()
            wire.connection.data_received(h2.window_update(1, 1 << 30) + h2.window_update(0, 1 << 30))
            found = await wire.frames()
            assert sum(int.from_bytes(f.payload) for f in found if f.kind == h2.WINDOW_UPDATE) == sent + 9
            assert len(echo.taken) == 1 + sent // len(big)

    asyncio.run(main())


def test_more_than_the_window_ends_the_connection() -> None:
    async def main() -> None:
        echo = Echo()
        big = h2.frame(h2.DATA, 0, 1, message_of(bytes((1 << 22) - 5)))
        async with Wire({"/s/echo": echo.serve}) as wire:
            await wire.send(call(1, "/s/echo") + h2.data_of_message(1, b"wait"))
            for _ in range(WINDOW >> 22):
                found = await wire.send(big)
            assert found[-1].kind == h2.GOAWAY
            assert found[-1].payload[4:8] == bytes([0, 0, 0, Error.FLOW_CONTROL_ERROR])
            assert wire.transport.closed

    asyncio.run(main())


def test_who_reads_no_responses_is_not_read_from() -> None:
    async def main() -> None:
        echo = Echo()
        async with Wire({"/s/echo": echo.serve}) as wire:
            await wire.send(call(1, "/s/echo"))
            wire.connection.pause_writing()
            for _ in range(3):
                await wire.send(h2.data_of_message(1, b"x"))
            assert len(echo.taken) == 1
            wire.connection.resume_writing()
            await wire.frames()
            assert len(echo.taken) == 3
            for _ in range(100):
                await wire.send(h2.data_of_message(1, bytes(10_000)))
            assert len(echo.taken) < 50
            await wire.send(h2.window_update(1, 1 << 30) + h2.window_update(0, 1 << 30))
            assert len(echo.taken) == 103

    asyncio.run(main())


def test_how_calls_fail(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Wire(METHODS) as wire:
            assert status(wire, await wire.send(call(1, "/s/none", end=True)))[0] == "12"
            found = await wire.send(call(3, "/s/refuse", end=True, why_bin="AAE"))
            assert status(wire, found) == ("15", "100 %25 l%C3%B6st%0Ab'\\x00\\x01'")
            assert status(wire, await wire.send(call(5, "/s/refuse", end=True, why_bin="?")))[0] == "3"
            cut = h2.frame(h2.DATA, h2.END_STREAM, 7, message_of(b"abc")[:-1])
            assert status(wire, await wire.send(call(7, "/s/upper") + cut))[0] == "3"
            for stream, head, code in ((9, b"\1\0\0\0\1x", "12"), (11, b"\0\xff\0\0\0x", "8")):
                *found, reset = await wire.send(call(stream, "/s/upper") + h2.frame(h2.DATA, 0, stream, head))
                assert status(wire, found)[0] == code
                assert reset == (h2.RST_STREAM, 0, stream, bytes(4))
            two = h2.data_of_message(13, b"a") * 2
            assert status(wire, (await wire.send(call(13, "/s/upper") + two))[:1])[0] == "3"
            with caplog.at_level(logging.CRITICAL):
                found = await wire.send(call(15, "/s/broken", end=True))
            assert status(wire, found) == ("13", "The server failed (KeyError('a bug')); please report it.")
            assert await wire.send(h2.data_of_message(13, b"late") + h2.window_update(13, 1)) == []
            assert not wire.connection._streams
            assert not wire.transport.closed

    asyncio.run(main())


def test_a_reset_cancels_the_call() -> None:
    async def main() -> None:
        echo = Echo()
        async with Wire({"/s/echo": echo.serve}) as wire:
            await wire.send(call(1, "/s/echo") + h2.data_of_message(1, b"wait"))
            assert await wire.send(h2.reset(1, Error.NO_ERROR) + h2.reset(1, Error.NO_ERROR)) == []
            assert not wire.connection._streams
            await wire.send(call(3, "/s/echo"))
            wire.connection.connection_lost(None)
            await wire.frames()
            assert echo.cancelled

    asyncio.run(main())


MALFORMED = {
    "not HTTP/2": (b"GET / HTTP/1.1\r\n\r\n", Error.PROTOCOL_ERROR),
    "no settings": (h2.PREFACE + h2.frame(h2.PING, 0, 0, bytes(8)), Error.PROTOCOL_ERROR),
    "an acknowledgement first": (h2.PREFACE + h2.frame(h2.SETTINGS, h2.ACK, 0), Error.PROTOCOL_ERROR),
    "a big frame": (START + b"\xff\xff\xff" + bytes(6), Error.FRAME_SIZE_ERROR),
    "data of nobody": (START + end(1), Error.PROTOCOL_ERROR),
    "data of the connection": (START + end(0), Error.PROTOCOL_ERROR),
    "an even stream": (START + call(2, "/s/upper"), Error.PROTOCOL_ERROR),
    "headers that are none": (START + h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff\xff"), Error.COMPRESSION_ERROR),
    "long headers": (START + call(1, "/s/upper", a="~" * 70_000), Error.ENHANCE_YOUR_CALM),
    "headers over several frames": (START + h2.frame(h2.HEADERS, 0, 1, block("/s/upper")), Error.ENHANCE_YOUR_CALM),
    "headers not begun": (START + h2.frame(h2.CONTINUATION, 4, 1), Error.PROTOCOL_ERROR),
    "padded headers": (START + h2.frame(h2.HEADERS, h2.PADDED | 4, 1, b"\0"), Error.PROTOCOL_ERROR),
    "headers with a priority": (START + h2.frame(h2.HEADERS, h2.PRIORITIZED | 4, 1, bytes(5)), Error.PROTOCOL_ERROR),
    "padded data": (START + call(1, "/s/upper") + h2.frame(h2.DATA, h2.PADDED, 1, b"\0"), Error.PROTOCOL_ERROR),
    "settings cut off": (START + h2.frame(h2.SETTINGS, 0, 0, b"12345"), Error.FRAME_SIZE_ERROR),
    "a stream's settings": (START + h2.frame(h2.SETTINGS, 0, 1), Error.PROTOCOL_ERROR),
    "a big window": (START + h2.settings([(h2.SETTING_WINDOW, 1 << 31)]), Error.FLOW_CONTROL_ERROR),
    "small frames": (START + h2.settings([(h2.SETTING_FRAME, 1)]), Error.PROTOCOL_ERROR),
    "a short ping": (START + h2.frame(h2.PING, 0, 0, b"1"), Error.FRAME_SIZE_ERROR),
    "a short reset": (START + h2.frame(h2.RST_STREAM, 0, 1, b"1"), Error.FRAME_SIZE_ERROR),
    "a reset of nobody": (START + h2.reset(1, Error.NO_ERROR), Error.PROTOCOL_ERROR),
    "a window of nobody": (START + h2.window_update(1, 1), Error.PROTOCOL_ERROR),
    "a window of nothing": (START + h2.window_update(0, 0), Error.PROTOCOL_ERROR),
    "a window too wide": (START + h2.window_update(0, h2.MOST_WINDOW), Error.FLOW_CONTROL_ERROR),
    "a promise": (START + h2.frame(h2.PUSH_PROMISE, 4, 1, bytes(4)), Error.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_not_http2_is_told_so(what: str) -> None:
    data, code = MALFORMED[what]

    async def main() -> None:
        async with Wire(METHODS, b"") as wire:
            goaway = (await wire.send(data))[-1]
            assert (goaway.kind, goaway.payload[4:8]) == (h2.GOAWAY, bytes([0, 0, 0, code]))
            assert wire.transport.closed

    asyncio.run(main())


FRAMES = st.builds(
    h2.frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 255]),
    st.sampled_from([0, 1, 2, 3, 5]),
    st.one_of(st.binary(max_size=20), st.just(block("/s/slow")), st.just(message_of(b"abc"))),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(FRAMES, st.binary(max_size=12)), max_size=12))
def test_nothing_that_a_client_sends_raises(sent: list[bytes]) -> None:
    async def main() -> None:
        async with Wire(METHODS) as wire:
            for data in sent:
                if not wire.transport.closed:
                    await wire.send(data)

    asyncio.run(main())


def test_too_many_calls_are_refused() -> None:
    async def main() -> None:
        async with Wire(METHODS) as wire:
            for stream in range(1, 2049, 2):
                wire.connection.data_received(call(stream, "/s/slow"))
            assert await wire.send(call(2049, "/s/slow")) == [(h2.RST_STREAM, 0, 2049, b"\0\0\0\7")]

    asyncio.run(main())


def test_a_large_message_both_ways_with_small_windows(folder: Path) -> None:
    """grpc's own client is the other end."""
    address = f"{folder}/s.sock"
    large = bytes(range(256)) * (1 << 18)
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 20_000),
    ]

    async def main() -> None:
        server = LeanServer(METHODS)
        await server.serve(Path(address))
        async with grpc.aio.insecure_channel(f"unix:{address}", options=options) as channel:
            assert await channel.unary_unary("/s/slow")(large) == large
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/s/refuse")(b"", metadata=[("why-bin", b"\0\1")])
            assert caught.value.code() == grpc.StatusCode.DATA_LOSS
            assert caught.value.details() == "100 % löst\nb'\\x00\\x01'"
            waiting = channel.stream_stream("/s/slow")()
            await waiting.write(b"x")
            await server.stop()
            assert await waiting.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

    asyncio.run(main())
