"""What a call costs whose result is fetched: for contenders whose Python has nothing of Polypath's."""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

WARM_UP = 24

Call = Callable[[], Any]
Get = Callable[[Any], Any]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True, help="each awaited")
    parser.add_argument("--burst", type=int, required=True, help="calls awaited at the end")
    return parser


def measure(call: Call, get: Get, options: argparse.Namespace, in_flight: int | None = None) -> dict[str, float]:
    """Samples of a call that adds 1 and 1, at most so many of them in flight."""
    if get(call()) != 2.0:
        raise AssertionError("The actor did not add 1 and 1 to 2.")
    _unblocked(call, get, WARM_UP, in_flight or WARM_UP)
    return {
        "add_blocked_us": _blocked(call, get, options.calls),
        "add_per_s": _unblocked(call, get, options.burst, in_flight or options.burst),
    }


def _blocked(call: Call, get: Get, calls: int) -> float:
    """Median microseconds of a call that is waited for."""
    seconds: list[float] = []
    for _ in range(calls):
        start = time.perf_counter()
        get(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


def _unblocked(call: Call, get: Get, calls: int, in_flight: int) -> float:
    """Calls per second."""
    pending: deque[Any] = deque()
    start = time.perf_counter()
    for _ in range(calls):
        if len(pending) == in_flight:
            get(pending.popleft())
        pending.append(call())
    for result in pending:
        get(result)
    return calls / (time.perf_counter() - start)
