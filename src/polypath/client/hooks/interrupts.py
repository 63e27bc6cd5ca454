"""To be deleted: `Session.interrupts`, for the hooks that have no `Session` yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from polypath.client.hooks.cluster import current

_T = TypeVar("_T")


def interruptible(wait: Callable[[], _T]) -> _T:
    """As `Interrupts.interruptible`."""
    session = current()
    return wait() if session is None else session.interrupts.interruptible(wait)


def may_wait_for_functions() -> bool:
    """As `Interrupts.may_wait_for_functions`."""
    session = current()
    return session is not None and session.interrupts.may_wait_for_functions()
