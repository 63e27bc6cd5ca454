"""Feeds the transport's frames and codecs, and the reader of shardings, with bytes.

Only the errors that their readers drop a frame for, or refuse a request for, may come out.
"""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec
from choices import Choices
from wire_requests import op_sharding

from polypath import messages as m
from polypath.controller.partition import intersection, shard_boxes, shard_shapes
from polypath.errors import ProtocolError
from polypath.link.protocol import Box
from polypath.transport import frames
from polypath.types import ArraySpec, Code, Device, Failure, Platform, ProgramInfo, Sharding

_SHARDING: Final = Sharding((0, 1), "device", b"\x08\x03", ((4,), (4,)), True)
_FAILURE: Final = Failure(Code.INTERNAL, "it broke")
_PEER: Final = m.Peer(0, "unix:/a", (0, 1))
_DEVICE: Final = Device(0, 0, 0, 0, "cpu", "cpu", ("device",), {"slice_index": 0, "coords": (1, 2), "fast": True})
_INFO: Final = ProgramInfo(
    "f", (0, 1), (ArraySpec("int4", (8,), _SHARDING),), b"x", (b"",), None, (b"", b""), None, ("device",), (0,), b"", 9
)
COMMANDS: Final[tuple[m.AnyCommand, ...]] = (
    m.Put(1, "float32", (2, 3), "", None, (m.HostBuffer((2, 3), (12, 4), (0,), memoryview(b"0" * 24)),)),
    m.Put(1, "float32", (), "device", b"\x0a\x00", (m.HostBuffer((), None, (0, 1), memoryview(b"0123")),)),
    m.Rebind((m.Shards(1, ((2, 0), (3, 1))),)),
    m.Copy(1, 2, ((0, 1),), "pinned_host", True),
    m.Reshard(1, 2, "int8", (m.Target(0, (4,), (m.Piece(1, (0,), (2,), (2,)),)),), "", False),
    m.Bitcast(1, 2, "int8", ((4,),), (0,), False),
    m.Execute(1, (2, 3), (4, 2**63), (0,), 7),
    m.Delete((1, 2)),
    m.Forget((1,)),
    m.Compile(1, b"program", b"options", (0, 1)),
    m.Unload(1),
    m.Fetch(1, 2, 0, (4, -4)),
    m.Await(1, (2,)),
    m.CostAnalysis(1, 2),
    m.ProgramText(1, 2),
    m.DefaultLayout(1, "float32", (2,), 0, "device"),
    m.MemoryStats(1, 0),
    m.Holdings(1),
    m.Deliver("client", 7, 2, m.Computed((2, 3))),
    m.Deliver("client", 7, 1, m.SmallShard(2, 0)),
    m.Deliver("client", 7, 1, m.ShardAddress(2, 0)),
    m.Deliver("client", 7, 2, m.WholeArray(2, ((0, (0, 4)),))),
    m.Deliver("client", 7, 2, m.ArraysTogether((m.Part(1, 2, 0, "int8", 4), m.Part(0, 3, 1, "bool", 1)))),
    m.Take("client", 7, 1, 2, "int8", (((0, 1), (4,)),), ""),
    m.Return(1, m.Results((m.Elements("float32", (2,), b"0" * 8), None))),
    m.Peers((_PEER,)),
    m.Unsent(0, (0, 1), 7, _FAILURE),
    m.Snapshot("/tmp/x", 2.0),
)
REPORTS: Final[tuple[m.AnyReport, ...]] = (
    m.Joined(0, 99, Platform("cpu", "1", "2", {"x": 1.5}), (_DEVICE,), _PEER, "unix:/tmp/x", (1,)),
    m.Compiled((0,), 1, _INFO),
    m.Compiled((0,), 1, _FAILURE),
    m.Ready((0,), 1, None),
    m.Fetched(0, 1, m.Memory(memoryview(b"bytes"))),
    m.Answered(0, 1, _FAILURE),
    m.Failed(0, (1, 2), _FAILURE, True),
    m.Undelivered(0, _PEER, "broken"),
    m.Called(0, 1, m.Callbacks("client", 1, 2), 0, (m.Elements("int8", (), b"0"),), False),
    m.Quiet(0, 1),
    m.Left(0, (1,)),
)
_MESSAGES: Final = (*map(m.encode, COMMANDS), *map(m.encode, REPORTS))
_HELLO: Final = msgspec.msgpack.encode(frames.Hello(0, 1, "key", "tcp://a"))
_SIZES: Final = (0, 1, 2, 3, 4, 8, 17, 2**40, 2**63 - 1)
_COUNTS: Final = (1, 2, 3, 4, 8, 64)


def one_input(data: bytes) -> None:
    """One message, frame or sharding, made of `data`."""
    choices = Choices(data)
    match choices.below(4):
        case 0:
            _decode(choices.rest())
        case 1:
            _decode(choices.mutated(choices.of(_MESSAGES)))
        case 2:
            _frames(choices)
        case _:
            _sharding(choices)


def _decode(data: bytes) -> None:
    for decode in (m.decode_command, m.decode_report):
        with contextlib.suppress(msgspec.MsgspecError):
            encoded = m.encode(decode(data))
            assert m.encode(decode(encoded)) == encoded


def _frames(choices: Choices) -> None:
    hello = choices.mutated(_HELLO)
    with contextlib.suppress(msgspec.MsgspecError):
        m.decode(frames.hellos, hello)
    data = choices.rest()
    with contextlib.suppress(ProtocolError):
        assert frames.pack_sequence(frames.unpack_sequence(data)) == data
    with contextlib.suppress(ProtocolError):
        frames.unpack_silent(data)
    with contextlib.suppress(ProtocolError):
        assert frames.pack_sender(*frames.unpack_sender(data)) == data
    with contextlib.suppress(ProtocolError):
        assert frames.pack_hosts(frames.unpack_hosts(data)) == data
    with contextlib.suppress(ProtocolError):
        assert frames.Down.unpack(data).pack() == data
    with contextlib.suppress(ProtocolError):
        assert frames.pack_from(*frames.unpack_from(data)) == data
    with contextlib.suppress(ProtocolError):
        question, hosts, body = frames.unpack_answer(data)
        assert frames.pack_answer(question, frames.pack_hosts(hosts), body) == data


def _sharding(choices: Choices) -> None:
    count = choices.of(_COUNTS)
    shape = tuple(choices.of(_SIZES) for _ in range(choices.below(5)))
    proto = choices.rest() if choices.one_in(4) else op_sharding(choices, len(shape), count, wild=True)
    sharding = Sharding(tuple(range(count)), "", proto)
    with contextlib.suppress(ProtocolError):
        boxes = shard_boxes(sharding, shape)
        whole = Box((0,) * len(shape), shape)
        assert len(boxes) == count
        assert shard_shapes(sharding, shape) == tuple(box.shape for box in boxes)
        for box in boxes:
            inside = intersection(box, whole)
            assert inside == box or (inside is None and 0 in box.shape), f"{box} is not inside {whole}"
