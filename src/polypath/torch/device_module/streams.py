"""Streams and events. The device has one stream: what waits is started in the order in which it was asked for.

An event is a tiny program that takes a result of the work started last: it has run once that work is done. A thread
of the client waits for events that measure time, so `elapsed_time` is the time between two pieces of work as the
client hears of them, and recording an event does not wait."""

from __future__ import annotations

import functools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import torch

from polypath.torch.account import account
from polypath.torch.buffers import DEVICE, NAME, check_index
from polypath.torch.device_module.stand_in import stand_in
from polypath.torch.trace import trace

_clock: Final = ThreadPoolExecutor(1, "polypath-events")
"""Waits for events in their order, and reads the time."""


@functools.partial(jax.jit, keep_unused=True)
def _mark(array: jax.Array) -> jax.Array:
    """A program that has run once the array is there."""
    return jnp.zeros((), np.int8)


def synchronize() -> None:
    """Start all that waits, and wait until every array of this process is there.

    Raises:
        IndexRangeError: an index was out of range.
        Exception: what failed on the devices, as reading the array would raise it.
    """
    trace.flush()
    if not account.allocated:
        return  # Asking JAX for its arrays would make it choose its devices.
    trace.check_process()
    jax.block_until_ready([array for array in jax.live_arrays() if not array.is_deleted()])
    trace.check_bounds()


class Event(torch.Event):
    """A place in the order of work: `torch.cuda.Event`, for the device.

    Args:
        enable_timing: whether `elapsed_time` will be asked.
        blocking, interprocess: of other devices; an event lives in this process, and waiting for it never spins.
    """

    def __new__(cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> Event:
        if interprocess:
            raise NotImplementedError("An event of the cluster's device lives in one process; leave out interprocess.")
        event: Any = super().__new__(cls, DEVICE, enable_timing=enable_timing)
        event._timing = enable_timing
        event._mark = None
        event._time = None
        return event

    _timing: bool
    _mark: Any
    _time: Future[float] | None

    def record(self, stream: Any = None) -> None:
        """Put the event after all work that was asked for so far."""
        latest = trace.latest()
        self._mark = None if latest is None else _mark(latest)
        self._time = _clock.submit(_time_of, self._mark) if self._timing else None

    def query(self) -> bool:
        """Whether the work before it is done (also if it was never recorded)."""
        return self._mark is None or self._mark.is_ready()

    def synchronize(self) -> None:
        """Wait until the work before it is done."""
        if self._mark is not None:
            self._mark.block_until_ready()

    def wait(self, stream: Any = None) -> None:
        """Have later work come after it: it does anyway, as there is one stream."""

    def elapsed_time(self, other: Any) -> float:
        """Milliseconds from this event to another; waits for both.

        Raises:
            RuntimeError: one of them was not recorded, or measures no time.
        """
        times: list[float] = []
        for event in (self, other):
            if not isinstance(event, Event) or not event._timing:
                raise RuntimeError("elapsed_time() needs two events that were made with enable_timing=True.")
            if event._time is None:
                raise RuntimeError("elapsed_time() needs two events that were recorded; call record() on both first.")
            times.append(event._time.result())
        return (times[1] - times[0]) * 1e3

    def __repr__(self) -> str:
        return f"torch.polypath.Event(enable_timing={self._timing}, recorded={self._mark is not None})"


def _time_of(mark: jax.Array | None) -> float:
    if mark is not None:
        mark.block_until_ready()
    return time.perf_counter()


class Stream(torch.Stream):
    """The device's stream. Each object stands for the same one: work of all of them keeps the order it was asked in."""

    def __new__(cls, device: Any = None, priority: int = 0, **_: Any) -> Stream:
        _check(device)
        return super().__new__(cls, DEVICE, priority=priority)

    def synchronize(self) -> None:
        """Wait until all work is done."""
        synchronize()

    def query(self) -> bool:
        """Whether all work is done."""
        latest: Any = trace.latest()
        return latest is None or latest.is_ready()

    def record_event(self, event: Any = None) -> Any:
        """Record an event, by default a new one."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        """Have later work come after an event: it does anyway."""

    def wait_stream(self, other: Any) -> None:
        """Have later work come after that of another stream: it does anyway."""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None: ...


class StreamContext:
    """A scope in which a stream is the current one; None for no change."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class DeviceContext:
    """A scope in which the device is the current one, as it always is."""

    def __init__(self, device: Any) -> None:
        _check(device)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _check(device: Any) -> None:
    if isinstance(device, int):
        device = torch.device(NAME, max(device, 0))
    if device is not None:
        check_index(torch.device(device))


class Streams:
    """What `torch.polypath` has of streams and of the current device."""

    Stream = Stream
    Event = Event
    StreamContext = StreamContext
    device = DeviceContext

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        """One: it stands for all devices of the cluster."""
        return 1

    def set_device(self, device: Any) -> None:
        """Do nothing: there is one.

        Raises:
            TorchError: another one is named.
        """
        _check(device)

    def exchange_device(self, device: int) -> int:
        _check(device)
        return 0

    maybe_exchange_device = exchange_device
    _exchange_device = exchange_device
    _maybe_exchange_device = exchange_device

    def device_of(self, obj: Any) -> DeviceContext:
        """A scope in which the device of a tensor is the current one."""
        return DeviceContext(None)

    def current_stream(self, device: Any = None) -> Stream:
        """The one there is: all streams are equal."""
        return Stream(device)

    default_stream = current_stream

    def set_stream(self, stream: Any) -> None:
        """Do nothing: there is one."""

    def stream(self, stream: Any) -> StreamContext:
        return StreamContext(stream)

    def synchronize(self, device: Any = None) -> None:
        """Start all that waits, and wait until it is done; raises what failed."""
        _check(device)
        synchronize()


def register() -> None:
    """Have `torch.Event` and `torch.Stream` make these for the device."""
    stand_in("Event", _make_event)
    stand_in("Stream", _make_stream)


def _make_event(device: Any = None, **options: Any) -> Event | None:
    return Event(**options) if _is_ours(device) else None


def _make_stream(device: Any = None, *, priority: int = 0, **other: Any) -> Stream | None:
    return Stream(device, priority) if not other and _is_ours(device) else None


def _is_ours(device: Any) -> bool:
    return device is None or isinstance(device, int) or torch.device(device).type == NAME
