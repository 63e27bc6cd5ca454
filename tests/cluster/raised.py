"""What programs of tests find raised."""

from __future__ import annotations

from collections.abc import Callable


def error_of(work: Callable[[], object], *kinds: type[Exception]) -> str:
    """The text of the error that `work` raises, which is of one of these kinds: `RuntimeError` where none is named."""
    expected = kinds or (RuntimeError,)
    try:
        work()
    except expected as error:
        return str(error)
    raise AssertionError("nothing was raised")
