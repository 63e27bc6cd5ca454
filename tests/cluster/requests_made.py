"""What this process's session had over its links: for programs of tests that say which way was taken.

Import it before JAX connects; sessions without links add nothing.
"""

from __future__ import annotations

import functools
from typing import Any

from polypath.client.transfers import Transfers

answers: list[bool] = []
"""For each question about small arrays, or whether arrays are there: whether the workers answered."""
reads: list[bool] = []
"""For each big array that was read: whether it came over links."""
puts: list[bool] = []
"""For each big array that was put: whether it went over them."""


def _record(method: str, found_of: list[bool]) -> None:
    original = getattr(Transfers, method)

    @functools.wraps(original)
    def recorded(self: Transfers, *args: Any, **more: Any) -> Any:
        found = original(self, *args, **more)
        found_of.append(found is not None)
        return found

    setattr(Transfers, method, recorded)


_record("answer", answers)
_record("read", reads)
_record("put", puts)
