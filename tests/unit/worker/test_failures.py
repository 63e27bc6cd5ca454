"""What XLA's exceptions stand for."""

from __future__ import annotations

import pytest

from polypath.types import Code
from polypath.worker.failures import failure_of

GLOO = (
    "INTERNAL: Error dispatching computation: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:538] "
    "Read error [127.0.0.1]:18320: Connection reset by peer"
)
NCCL = (
    "INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error. "
    "Last NCCL warning(error) log entry (may be unrelated) ''."
)


@pytest.mark.parametrize("text", [GLOO, NCCL])
def test_a_collective_that_another_host_left(text: str) -> None:
    failure = failure_of(RuntimeError(text))
    assert failure.code is Code.ABORTED
    assert failure.message == f"A host of this island left a program of several hosts ({text}); run it again."


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), Code.RESOURCE_EXHAUSTED, "Out of memory"),
        (
            RuntimeError("INTERNAL: CpuCallback error: Gloo is a word"),
            Code.INTERNAL,
            "CpuCallback error: Gloo is a word",
        ),
        (RuntimeError("no code: at all"), Code.INTERNAL, "no code: at all"),
        (ValueError("too long"), Code.INVALID_ARGUMENT, "too long"),
        (MemoryError(), Code.RESOURCE_EXHAUSTED, "MemoryError"),
    ],
)
def test_others(error: Exception, code: Code, message: str) -> None:
    found = failure_of(error)
    assert (found.code, found.message) == (code, message)
