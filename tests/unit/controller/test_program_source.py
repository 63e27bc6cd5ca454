"""What a program was compiled from, for a client that serializes it."""

from __future__ import annotations

import msgspec

from polypath.controller import events
from polypath.messages import Callbacks
from polypath.testing import SimulatedCluster
from polypath.types import Code, Failure


def source(at: SimulatedCluster, fingerprint: bytes, devices: tuple[int, ...]) -> events.Result:
    at.handle(events.Open(2, "control"))
    at.handle(events.ProgramSource(2, op := at.op(), fingerprint, devices))
    at.handle(events.Close(2))
    return at.replies[2, op]


def test_a_loaded_program_is_told_by_fingerprint_and_devices() -> None:
    at = SimulatedCluster(2, 1)
    at.up()
    at.handle(events.Open(1, "test"))
    compiled: list[events.Loaded] = []
    for program, devices in ((b"one", (0, 1)), (b"two", (1,))):
        at.handle(events.Compile(1, op := at.op(), program, b"options", devices))
        at.settle()
        loaded = at.replies[1, op]
        assert isinstance(loaded, events.Loaded)
        compiled.append(loaded)
    one, two = (each.info for each in compiled)
    told = source(at, one.fingerprint, one.devices)
    assert isinstance(told, bytes)
    assert msgspec.msgpack.decode(told) == [b"one", b"options"]
    told = source(at, two.fingerprint, two.devices)
    assert isinstance(told, bytes)
    assert msgspec.msgpack.decode(told) == [b"two", b"options"]
    at.handle(events.Unload(1, at.op(), compiled[0].executable))
    refused = source(at, one.fingerprint, one.devices)
    assert isinstance(refused, Failure)
    assert refused.code is Code.NOT_FOUND


def test_a_program_that_calls_its_client_has_no_source_to_tell() -> None:
    at = SimulatedCluster(1, 1)
    at.up()
    at.handle(events.Open(1, "test"))
    at.handle(events.Compile(1, op := at.op(), b"one", b"options", (0,), callbacks=Callbacks("client", 7, 1)))
    at.settle()
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    refused = source(at, loaded.info.fingerprint, loaded.info.devices)
    assert isinstance(refused, Failure)
    assert refused.code is Code.UNIMPLEMENTED
