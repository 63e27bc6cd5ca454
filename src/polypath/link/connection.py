"""One end of a link on its stream: frames in, on a thread of its own; frames out, from any thread.

What is `sent` goes at once, and waits where the other end does not read. What is `posted` never waits: what the socket
does not take goes later, on another thread of the connection.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from polypath.link import elements, protocol
from polypath.link.protocol import HEAD_BYTES, Head, Kind
from polypath.link.state import WINDOW, Due, LinkState
from polypath.link.streams import Stream

_BUFFER: Final = 1 << 16
"""Bytes that are read at once where frames are small."""


class Incoming:
    """What comes, frame by frame. A thread of its own reads it."""

    def __init__(self, stream: Stream) -> None:
        self.stream: Final = stream
        self.received = 0
        """Bytes so far; also of the frame that is being read, which may take long."""
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0

    def head(self) -> Head | None:
        """The head of the next frame, which must be read to its end before the one after it; None at the end.

        Raises:
            OSError: the stream broke.
            ValueError: what came is no frame.
        """
        if self._start == self._end and not self._more():
            return None
        return protocol.unpack(self.bytes(HEAD_BYTES))

    def bytes(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self._end - self._start >= size:
            self._start += size
            return bytes(self._buffer[self._start - size : self._start])
        found = bytearray(size)
        self.fill(memoryview(found))
        return bytes(found)

    def fill(self, memory: memoryview) -> None:
        """Read the next bytes to where they stay."""
        at = 0
        while at < len(memory):
            count = self.recv_into(memory[at:])
            if not count:
                raise ConnectionResetError("it ended amid a frame")
            at += count

    def recv_into(self, memory: memoryview, /) -> int:
        """As a socket's."""
        if self._start == self._end:
            if len(memory) >= _BUFFER:
                return self._receive(memory)
            if not self._more():
                return 0
        count = min(len(memory), self._end - self._start)
        memory[:count] = self._buffer[self._start : self._start + count]
        self._start += count
        return count

    def skip(self, size: int) -> None:
        """Read what nobody wants."""
        while size:
            size -= len(self.bytes(min(size, _BUFFER)))

    def _more(self) -> bool:
        self._start, self._end = 0, self._receive(self._buffer)
        return self._end > 0

    def _receive(self, memory: memoryview) -> int:
        count = self.stream.recv_into(memory)
        self.received += count
        return count


class Connection:
    """One end of a link.

    Args:
        incoming: what comes on its stream, of which the first frame may have been read.
        take: is given each frame but beats, and reads what follows its head. ValueError tells that it makes no sense.
        ended: is told, once, that the link is over and why.
    """

    def __init__(
        self,
        incoming: Incoming,
        state: LinkState,
        take: Callable[[Head, Incoming], None],
        ended: Callable[[str], None],
    ) -> None:
        self.told = False
        """Whether the other end told why it ended the link."""
        self._stream = incoming.stream
        self._state = state
        self._take = take
        self._ended = ended
        self._incoming = incoming
        self._heard = 0
        """Of what has been received, in bytes: all at the last look at the clock."""
        self._writing = threading.Lock()
        self._queue: collections.deque[tuple[bytes, npt.NDArray[Any] | None]] = collections.deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._is_over = False  # The state may be of a later connection by now.
        self._writer: threading.Thread | None = None

    # --- In

    def read(self) -> None:
        """Take what comes, until the link is over. A thread does this."""
        reason = "it closed the link"
        try:
            while (head := self._incoming.head()) is not None:
                if head.kind is Kind.BYE:
                    self.told, reason = True, self._incoming.bytes(head.note).decode(errors="replace")
                    break
                if head.kind is not Kind.BEAT:
                    self._take(head, self._incoming)
        except (OSError, ValueError) as error:
            reason = str(error)
        self.end(reason)
        self._stream.close()

    # --- Out

    def send(self, frame: bytes, array: npt.NDArray[Any] | None = None) -> None:
        """Send a frame and its elements.

        Raises:
            OSError: the link is over, or this was interrupted, which ends it.
        """
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: not self._queue or self._is_over)
                with self._writing:
                    if not self._queue or self._is_over:
                        return self._write(frame, array)
        except BaseException as error:
            self.end(str(error) or type(error).__name__)
            raise

    def post(self, frame: bytes, array: npt.NDArray[Any] | None = None) -> None:
        """Send a frame and its elements, which must stay as they are, without waiting; nothing after the end."""
        with self._changed:
            if self._is_over:
                return
            if array is None and not self._queue and self._writing.acquire(blocking=False):
                try:
                    frame = self._stream.offer(frame)
                except OSError:  # The reader tells of it.
                    return
                finally:
                    self._writing.release()
                if not frame:
                    self._state.sent(time.monotonic())
                    return
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_posted, name="polypath-link-out", daemon=True)
                self._writer.start()
            self._queue.append((frame, array))
            self._queued += 0 if array is None else array.nbytes
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Return when what is posted and not sent is little enough for more."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued < WINDOW or self._is_over)

    def _write_posted(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue) or self._is_over)
                if self._is_over:
                    self._queue.clear()
                    return
                frame, array = self._queue[0]  # It stays, so that nothing overtakes it.
            try:
                with self._writing:
                    self._write(frame, array)
            except OSError as error:
                self.end(str(error))
            size, array = 0 if array is None else array.nbytes, None
            with self._changed:
                if self._queue:
                    self._queue.popleft()
                self._queued -= size
                self._changed.notify_all()

    def _write(self, frame: bytes, array: npt.NDArray[Any] | None) -> None:
        if self._is_over:
            raise ConnectionResetError(self._state.reason or "the link is over")
        if array is None:
            self._stream.sendall(frame)
        elif array.nbytes < _BUFFER:
            self._stream.sendall(frame + np.ascontiguousarray(array).tobytes())
        else:
            self._stream.sendall(frame)
            elements.send(self._stream, array)
        self._state.sent(time.monotonic())

    # --- The end

    def tick(self) -> None:
        """Do what the clock makes necessary; a thread calls this several times within the patience."""
        now, received = time.monotonic(), self._incoming.received
        if received != self._heard:
            self._heard = received
            self._state.heard(now)
        match self._state.due(now):
            case Due.BREAK:
                self.end(
                    f"it did not answer for {self._state.patience:g} s: is it stopped, or the network between cut?"
                )
            case Due.BEAT if not self._queue:  # Else something goes anyway.
                self.post(protocol.pack(Kind.BEAT))
            case _:
                pass

    def end(self, reason: str) -> None:
        """The link is over; from any thread."""
        if self._finish() and self._state.broke(reason):
            self._stream.shutdown()
            self._ended(reason)

    def close(self, reason: str = "") -> None:
        """End the link in order: nobody is told at this end, and the other end is told why."""
        was_open = self._finish()
        if not self._state.close(reason):
            return
        if was_open and self._writing.acquire(blocking=False):
            with contextlib.suppress(OSError):
                self._stream.offer(protocol.pack(Kind.BYE, note=reason.encode()[: protocol.MOST_NOTE]))
            self._writing.release()
        self._stream.shutdown()

    def abandon(self) -> None:
        """In a forked child: close this process's descriptor alone."""
        self._is_over = True
        self._state.close()
        self._stream.close()

    def _finish(self) -> bool:
        """Have all who wait here go on; whether this was not over yet."""
        with self._changed:
            was_over, self._is_over = self._is_over, True
            self._changed.notify_all()
            return not was_over
