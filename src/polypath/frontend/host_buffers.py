"""A session's host buffers: bytes on their way up to an array or down to the client, by handle.

Owns the bytes until a request takes them or the session ends. Knows nothing of arrays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.messages import MOST_INLINE
from polypath.transport.bulk import room
from polypath.types import SERVER_HANDLES, Code

CHUNK: Final = 1 << 20
"""Bytes in one message of a download: what the client itself uses for uploads."""


class TooLarge(Refused):
    """A buffer is larger than a worker can be sent."""

    def __init__(self, size: int) -> None:
        super().__init__(
            Code.RESOURCE_EXHAUSTED,
            f"A host buffer of {size} bytes is too large for a cluster, which takes at most {MOST_INLINE} at once: "
            "put the array in parts, or shard it over more devices.",
        )


class Upload:
    """A buffer of `size` bytes, which come one after another.

    Raises:
        TooLarge: it cannot be taken.
    """

    def __init__(self, handle: int, size: int) -> None:
        if not 0 <= size <= MOST_INLINE:
            raise TooLarge(size)
        self.received = 0
        self._handle = handle
        self._size = size
        self._data = memoryview(b"")

    def add(self, chunk: Buffer) -> None:
        """The next bytes, which nobody changes afterwards.

        Raises:
            Refused: there are more than were announced.
        """
        start, self.received = self.received, self.received + len(chunk)
        if self.received > self._size:
            raise self._lost("more")
        if len(chunk) == self._size:
            self._data = memoryview(chunk)
            return
        if not start:
            self._data = memoryview(room(self._size))
        self._data[start : self.received] = chunk

    def whole(self) -> memoryview:
        """All of it.

        Raises:
            Refused: it has fewer bytes than were announced.
        """
        if self.received != self._size:
            raise self._lost(self.received)
        return self._data

    def _lost(self, found: object) -> Refused:
        return Refused(
            Code.DATA_LOSS,
            f"Host buffer {self._handle} came with {found} bytes where the client announced "
            f"{self._size}: the connection lost some.",
        )


class HostBuffers:
    """The buffers of one session."""

    def __init__(self) -> None:
        self._buffers: dict[int, Buffer | Refused] = {}
        """The bytes, or why they were not taken."""
        self._expected: dict[int, asyncio.Future[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._buffers)

    def store(self, handle: int, data: Buffer | Refused) -> None:
        """Keep `data`, or why there is none, and wake the request that waits for it.

        Raises:
            Refused: `check_new` refuses the handle.
        """
        self.check_new(handle)
        self._buffers[handle] = data
        if waiting := self._expected.pop(handle, None):
            waiting.set_result(None)

    def refuse(self, handle: int, why: Refused) -> None:
        """There will be no such buffer: a request that waits for it, or will need it, is refused for that reason."""
        with contextlib.suppress(Refused):  # The handle is taken, or can be nobody's: nothing waits for it.
            self.store(handle, why)

    def check_new(self, handle: int) -> None:
        """Check that a buffer can be stored under `handle`.

        Raises:
            Refused: the handle is no client's, or taken, or the session has ended.
        """
        if self._closed:
            raise Refused(Code.NOT_FOUND, "The session of this host buffer has ended: connect anew.")
        if not _is_clients(handle):
            raise invalid(f"{handle} cannot be the handle of a host buffer.")
        if handle in self._buffers:
            raise Refused(Code.ALREADY_EXISTS, f"Host buffer {handle} exists already.")

    def has_all(self, handles: Iterable[int]) -> bool:
        """Whether `wait_stored` would return at once."""
        return all(handle in self._buffers or not _is_clients(handle) for handle in handles)

    async def wait_stored(self, handles: Iterable[int]) -> None:
        """Return once all of them are here. The caller is the session's only one to wait.

        A handle that can never be stored is not waited for: `get` will refuse it.
        """
        for handle in handles:
            if _is_clients(handle) and handle not in self._buffers:
                self._expected[handle] = asyncio.get_running_loop().create_future()
                try:
                    await self._expected[handle]
                finally:  # If we are cancelled, an upload that is under way must not wake us.
                    self._expected.pop(handle, None)

    def get(self, handle: int) -> memoryview:
        """A buffer, which stays ours.

        Raises:
            Refused: there is none of that handle, or it was not taken.
        """
        try:
            data = self._buffers[handle]
        except KeyError:
            raise _unknown(handle) from None
        if isinstance(data, Refused):
            raise data
        return memoryview(data)

    def drop(self, handles: Iterable[int]) -> None:
        """Forget buffers that are someone else's now, or will not be used, as far as they exist."""
        for handle in handles:
            self._buffers.pop(handle, None)

    def chunks(self, handle: int) -> Iterator[memoryview]:
        """A buffer's bytes in pieces, at least one, which may be empty.

        Raises:
            Refused: there is none of that handle.
        """
        whole = self.get(handle)
        for start in range(0, max(len(whole), 1), CHUNK):
            yield whole[start : start + CHUNK]

    def delete(self, handle: int) -> None:
        """Free a buffer.

        Raises:
            Refused: there is none of that handle.
        """
        if self._buffers.pop(handle, None) is None:
            raise _unknown(handle)

    def close(self) -> None:
        """Free everything. The session has ended."""
        self._buffers.clear()
        self._closed = True


def _unknown(handle: int) -> Refused:
    return Refused(Code.NOT_FOUND, f"There is no host buffer {handle}.")


def _is_clients(handle: int) -> bool:
    return 0 < handle < SERVER_HANDLES
