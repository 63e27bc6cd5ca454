"""A controller that keeps host bytes by handle and adds: enough to answer the frontend."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from polypath.controller import events
from polypath.controller.events import Executed, Loaded, Output, Reply
from polypath.frontend import ClusterView, dtypes
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import HostBuffer
from polypath.types import ArraySpec, Code, Device, Failure, Platform, ProgramInfo, Sharding

MEMORIES = ("device", "pinned_host", "unpinned_host")


def view(devices: int = 2) -> ClusterView:
    """A cluster of CPU devices, two on each host."""
    return ClusterView(
        name="test",
        platform=Platform("cpu", "cpu", "0.10.2", {}),
        devices=tuple(
            Device(
                id=i,
                host=i // 2,
                island=0,
                local_index=i % 2,
                platform="cpu",
                kind="cpu",
                memory_kinds=MEMORIES,
                attributes={"slice_index": 0, "weights": (1, 2), "fast": True, "speed": 1.5, "who": "me"},
            )
            for i in range(devices)
        ),
    )


def row_major(rank: int) -> bytes:
    return pb.XlaLayoutProto(minor_to_major=range(rank - 1, -1, -1)).SerializeToString()


class FakeController:
    """Answers events at once. `answers` overrides the reply to a kind of event."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.deliver: Callable[[Reply], None] = lambda reply: None
        self.values: dict[int, bytes | Failure] = {}
        self.answers: dict[type, Any] = {}
        self._next = 1 << 62

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def handle(self) -> int:
        self._next += 1
        return self._next

    def submit(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, events.Request):
            answer = self.answers.get(type(event), self._answer)
            result = answer(event) if callable(answer) else answer
            self.deliver(Reply(event.session, event.op, result))

    def _answer(self, event: Any) -> events.Result:
        match event:
            case events.Put(arrays=arrays):
                for array in arrays:
                    self.values[array.handle] = b"".join(_dense(array.spec.dtype, b) for b in array.buffers)
            case events.MakeErrors(failure=failure, results=results):
                self.values.update(dict.fromkeys(results, failure))
            case events.Copy(arrays=arrays, results=results):
                for array, result in zip(arrays, results, strict=True):
                    self.values[result] = self.values[array]
            case (
                events.FullyReplicatedShard(array=array, result=result)
                | events.Assemble(parts=(array,), result=result)
                | events.Disassemble(array=array, results=(result,))
            ):
                self.values[result] = self.values[array]
            case events.Fetch(array=array):
                found = self._find(array)
                return found if isinstance(found, Failure) else memoryview(found)
            case events.CheckReady(arrays=arrays):
                return next((v for a in arrays if isinstance(v := self._find(a), Failure)), None)
            case events.Delete():
                return self.handle()
            case events.IsDeleted():
                return False
            case events.DefaultLayout(shape=shape):
                return row_major(len(shape))
            case events.Compile(devices=devices):
                return Loaded(self.handle(), add_program(devices), self.handle())
            case events.Metadata():
                return add_program((0,))
            case events.CostAnalysis():
                return msgspec.msgpack.encode({"flops": 4.0})
            case events.ProgramText():
                return b"HloModule jit_add"
            case events.Execute():
                return self._add(event)
            case _:
                pass
        return None

    def _find(self, handle: int) -> bytes | Failure:
        return self.values.get(handle, Failure(Code.NOT_FOUND, f"no array {handle}"))

    def _add(self, event: events.Execute) -> Executed:
        left, right = (self._find(arg) for arg in event.args)
        assert isinstance(left, bytes)
        assert isinstance(right, bytes)
        total = struct.pack(
            "<4f", *(a + b for a, b in zip(struct.unpack("<4f", left), struct.unpack("<4f", right), strict=True))
        )
        results = event.results or (self.handle(),)
        self.values[results[0]] = total
        (spec,) = add_program((0,)).outputs
        outputs = () if event.results else (Output(results[0], spec),)
        return Executed(event.status or (self.handle() if event.fill_status else 0), outputs)


def add_program(devices: tuple[int, ...]) -> ProgramInfo:
    """What a compiler tells of the sum of two vectors of four floats on one device."""
    replicated = pb.OpSharding().SerializeToString()
    return ProgramInfo(
        name="jit_add",
        fingerprint=b"print",
        devices=devices,
        outputs=(ArraySpec("float32", (4,), Sharding(devices, "device", fully_replicated=True)),),
        parameter_shardings=(replicated, replicated),
        output_shardings=(replicated,),
        parameter_layouts=(row_major(1), row_major(1)),
        output_layouts=(row_major(1),),
        output_memory_kinds=("device",),
        donated=(),
        memory_stats=None,
        code_size=100,
    )


def _dense(dtype: str, buffer: HostBuffer) -> bytes:
    data = bytes(buffer.data)
    if buffer.strides is None:
        return data
    (size,) = dtypes.dense_strides(dtype, (1,))
    return np.ndarray(buffer.shape, f"V{size}", data, strides=buffer.strides).tobytes()
