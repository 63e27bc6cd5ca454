"""The other end of `control`: blocking calls with a deadline.

Needs no event loop and none of the rest of the frontend.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import msgspec

from polypath.controller.events import Holdings, MemoryStats, ProgramSource
from polypath.errors import ClusterError, NotRunning
from polypath.frontend.control import SERVICE, Question

_REFUSALS: Final = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")
"""With which a cluster that answers says no."""


def status(address: str, timeout: float = 5.0) -> bytes:
    """The status of the cluster at `address`, as JSON.

    Raises:
        NotRunning: no cluster answers there within `timeout` seconds.
    """
    return _call(address, "Status", b"{}", timeout)


def memory_stats(address: str, device: int, timeout: float = 60.0) -> dict[str, int] | None:
    """What a device's platform counts of its memory; None where it counts nothing.

    Raises:
        NotRunning: no cluster answers there within `timeout` seconds.
    """
    return msgspec.msgpack.decode(_ask(address, MemoryStats(0, 0, device), timeout), type=dict[str, int] | None)


def program_source(
    address: str, fingerprint: bytes, devices: tuple[int, ...], timeout: float = 60.0
) -> tuple[bytes, bytes]:
    """What a program that is loaded was compiled from: portable StableHLO, and serialized compile options.

    Raises:
        ClusterError: none such is loaded, or it calls functions of its client.
        NotRunning: no cluster answers there within `timeout` seconds.
    """
    reply = _ask(address, ProgramSource(0, 0, fingerprint, devices), timeout)
    return msgspec.msgpack.decode(reply, type=tuple[bytes, bytes])


def holdings(address: str, host: int, timeout: float = 60.0) -> dict[str, int]:
    """How much of what a worker holds: values, programs, threads, ...

    Raises:
        NotRunning: no cluster answers there within `timeout` seconds.
    """
    return msgspec.msgpack.decode(_ask(address, Holdings(0, 0, host), timeout), type=dict[str, int])


def _ask(address: str, question: Question, timeout: float) -> bytes:
    return _call(address, "Ask", msgspec.msgpack.encode(question), timeout)


def _call(address: str, method: str, data: bytes, timeout: float) -> bytes:
    with grpc.insecure_channel(address, options=(("grpc.max_receive_message_length", -1),)) as channel:
        stubs: Any = channel  # its methods have no types
        try:
            return bytes(stubs.unary_unary(f"/{SERVICE}/{method}")(data, timeout=timeout))
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            if isinstance(error, grpc.Call) and code in _REFUSALS:
                raise ClusterError(error.details()) from error
            raise NotRunning(
                f"No cluster answers at {address} ({code}): start one with `polypath up`, "
                "or look for others with `polypath status`."
            ) from error
