"""Who waits for arrays, or reads them, hears from their workers, past jaxlib's client and the head.

jaxlib's proxy client asks the head, which answers over gRPC once the workers have told it: processes and threads are
woken one after another, and elements pass through the head's memory. What is not had over the session's links
(`client.transfers`) is left to jaxlib, which also says why. All of this module is for speed: without it the same
programs give the same.

- `block_until_ready` and what JAX makes of it.
- `np.asarray(x)` and the like: a small array's elements come with the word that it is there, a big array piece by piece
  to its place.
- `np.array(x)` is a copy that is the caller's to write to. JAX makes it of the elements that it keeps for those who
  only read; here it is what came, unless such are there.
- `copy_to_host_async` begins to fetch a big array; small ones are fetched together (`client.together`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import jax
import numpy as np

from polypath.client.hooks.patches import Patch, getter
from polypath.client.session import Session
from polypath.client.together import Together
from polypath.client.transfers import Transfers

_errors: Any = jax.errors

_DELETED: Final = "INVALID_ARGUMENT: BlockHostUntilReady() called on deleted or donated buffer"

_COPY: Final = 8 << 20
"""Bytes of an array from which on each copy of it comes from the cluster: those who copy it again wait no longer."""
_ARRAYS: Final = "jax._src.array:ArrayImpl"

_MOST_ARRAYS: Final = 16
"""That are waited for together like this: more take longer than what is saved."""


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""
    transfers = session.transfers
    return [] if transfers is None else [*_waiting(session, transfers), *_reading(session, transfers)]


def _waiting(session: Session, transfers: Transfers) -> list[Patch]:
    def wait(arrays: Sequence[Any]) -> bool:
        """Whether these arrays are there; False where jaxlib has to be asked."""
        if session.closed or len(arrays) > _MOST_ARRAYS:
            return False
        new = [array for array in arrays if not _is_there(array)]
        if new and transfers.answer("ready", new) is None:
            return False
        for array in new:
            array._polypath_is_there = True
        return True

    def block_until_ready(original: Any, self: Any) -> Any:
        if wait((self,)):
            return self
        with _told_as_elsewhere():
            return session.interrupts.interruptible(lambda: original(self))

    def batched_block_until_ready(original: Any, arrays: Sequence[Any]) -> None:
        if not wait(arrays):
            with _told_as_elsewhere():
                session.interrupts.interruptible(lambda: original(arrays))

    def is_ready(original: Any, self: Any) -> bool:
        # jaxlib does not know what this process was told.
        return _is_there(self) or original(self)

    return [
        Patch(_ARRAYS, "block_until_ready", block_until_ready, shortcut=True, why="Waits for the workers' word."),
        Patch(_ARRAYS, "is_ready", is_ready, shortcut=True, why="Knows what this process was told."),
        Patch(
            "jax._src.lib:xla_client",
            "batched_block_until_ready",
            batched_block_until_ready,
            shortcut=True,
            why="jax.block_until_ready waits for the workers' word.",
        ),
    ]


def _reading(session: Session, transfers: Transfers) -> list[Patch]:
    together = Together(transfers)

    def copies(array: Any) -> bool:
        """Have the workers begin to send an array, or say that this is jaxlib's to do."""
        if session.closed or array._npy_value is not None:
            return not session.closed
        if transfers.brings(array):
            return transfers.start(array)
        return together.want(array)

    def read(array: Any) -> np.ndarray[Any, Any] | None:
        if session.closed:
            return None
        if (found := together.read(array)) is not None:
            return found
        found = transfers.read(array) if transfers.brings(array) else transfers.elements(array)
        if found is not None:
            array._polypath_is_there = True
        return found

    def array(original: Any, self: Any, dtype: Any = None, context: Any = None, copy: bool | None = None) -> Any:
        big = copy and dtype in (None, self.dtype) and self._npy_value is None and self.nbytes >= _COPY
        found = transfers.read(self) if big and not session.closed and transfers.brings(self) else None
        return original(self, dtype, context, copy) if found is None else found

    def value(original: Any, self: Any) -> Any:
        if self._npy_value is None and (found := read(self)) is not None:
            found.flags.writeable = False
            self._npy_value = found
        elif self._npy_value is None and session.interrupts.may_wait_for_functions() and not self.is_deleted():
            with contextlib.suppress(_errors.JaxRuntimeError):  # Which is told of below.
                self.block_until_ready()  # Hears of Ctrl-C, as what follows does not.
        return original(self)

    def copy_to_host_async(original: Any, self: Any) -> None:
        if self.is_deleted() or not copies(self):
            original(self)

    def batched_copy_to_host_async(original: Any, arrays: Sequence[Any]) -> None:
        left = [array for array in arrays if array.is_deleted() or not copies(array)]
        if left:
            original(left)

    return [
        Patch(_ARRAYS, "__array__", array, shortcut=True, why="A copy of a big array comes over links."),
        Patch(
            _ARRAYS,
            "_value",
            getter(value),
            why="An array's elements come over links, and Ctrl-C ends the wait for them.",
        ),
        Patch(_ARRAYS, "copy_to_host_async", copy_to_host_async, shortcut=True, why="Begins a transfer over links."),
        Patch(
            "jax._src.interpreters.pxla:_jax",
            "batched_copy_to_host_async",
            batched_copy_to_host_async,
            seen_on="0.11-0.12",
            shortcut=True,
            why="Begins transfers over links.",
        ),
    ]


@contextlib.contextmanager
def _told_as_elsewhere() -> Any:
    """Raise what jaxlib's other clients raise of a deleted array."""
    try:
        yield
    except _errors.JaxRuntimeError as error:
        if "lready deleted" not in str(error):  # "Array already deleted", "Already deleted array"
            raise
        raise _errors.JaxRuntimeError(_DELETED) from None


def _is_there(array: Any) -> bool:
    """Whether somebody has heard of it."""
    return hasattr(array, "_polypath_is_there") and not array.is_deleted()
