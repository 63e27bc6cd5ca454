"""A session's host buffers: bytes on their way up to an array or down to the client, by handle.

Owns the bytes (or the files they are in) until a request takes them or the session ends. Knows
nothing of arrays. A client that shares memory with us writes `lt_<handle>` into its folder and
names the handle; the file is at once renamed to one that only we know, since the client's name
has no session in it and the folder may go away before a worker has read the file. What others
send goes into such a file as it comes, so that workers map it and nobody copies it again.

Names of such files are no `Path`s: pathlib interns every part of a name, and the interpreter's table
of interned strings grows by what passes through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from polypath.frontend.refused import Buffer, Refused, invalid
from polypath.messages import Bytes, Shared
from polypath.types import SERVER_HANDLES, Code

CHUNK: Final = 1 << 20
"""Bytes in one message of a download: what the client itself uses for uploads."""
_INLINE: Final = 64 << 10
"""Bytes of an upload from which on it goes into a file."""
_SCARCE: Final = 2
"""A file is made where so many of its size have room."""


class SharedMemory:
    """The folder that clients of this machine may write large buffers to.

    Each client needs a folder of its own, inside; one at a time may use the folder itself.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root.resolve() if root else None
        self._claimed: set[Path] = set()

    def claim(self, wanted: str | None) -> Path | None:
        """The folder for a new session, or None where it gets none.

        Raises:
            Refused: `wanted` is not a folder inside ours, or another session uses it.
        """
        if wanted is None:
            if self._root is None or self._root in self._claimed:
                return None
            folder = self._root
        else:
            try:
                folder = Path(wanted).resolve()
            except (OSError, ValueError, RuntimeError) as error:
                raise invalid(f"The client's folder {wanted!r} cannot be found: {error}.") from error
            if self._root is None or not folder.is_relative_to(self._root) or not folder.is_dir():
                raise invalid(
                    f"The client's folder {wanted!r} is not inside the cluster's shared folder "
                    f"{str(self._root)!r}: take the folder from `polypath env`."
                )
            if folder in self._claimed:
                raise invalid(f"The client's folder {wanted!r} is in use: each client needs its own.")
        self._claimed.add(folder)
        return folder

    def release(self, folder: Path | None) -> None:
        """End a claim: remove what the client left in the folder, and the folder if it was its own."""
        if folder is None:
            return
        self._claimed.discard(folder)
        if folder != self._root:
            shutil.rmtree(folder, ignore_errors=True)  # The client may just be removing it as well.
            return
        for file in folder.glob("lt_*"):
            file.unlink(missing_ok=True)

    def adopt(self, file: str) -> str:
        """Give a client's file a name of ours."""
        if self._root is None:
            raise AssertionError("a session has a shared folder and the cluster has none")
        ours = _new_name(self._root)
        os.rename(file, ours)
        return ours

    def new_file(self, size: int) -> str | None:
        """A name for a file of `size` bytes; None where there is no room for it."""
        if self._root is None or size < _INLINE or shutil.disk_usage(self._root).free < _SCARCE * size:
            return None
        return _new_name(self._root)


class Upload:
    """A buffer whose bytes come one after another. To be closed, also after `taken`."""

    def __init__(self, handle: int, size: int, path: str | None) -> None:
        self.received = 0
        self._handle = handle
        self._size = size
        self._path = path
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._chunks: list[Buffer] = []

    def add(self, chunk: Buffer) -> None:
        """The next bytes.

        Raises:
            Refused: there are more than were announced, or no room for them.
        """
        self.received += len(chunk)
        if self.received > self._size:
            raise self._lost("more")
        if self._file is None:
            self._chunks.append(chunk)
            return
        try:
            while chunk := memoryview(chunk)[os.write(self._file, chunk) :]:
                pass
        except OSError as error:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                f"Shared memory has no room for a buffer of {self._size} bytes ({error.strerror}): free some there.",
            ) from error

    def taken(self) -> Bytes:
        """All of it, which is the caller's from here on.

        Raises:
            Refused: it has fewer bytes than were announced.
        """
        if self.received != self._size:
            raise self._lost(self.received)
        if self._path is None:
            return bytes(self._chunks[0]) if len(self._chunks) == 1 else b"".join(self._chunks)
        path, self._path = self._path, None
        return Shared(path, self._size)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            _unlink(self._path)

    def _lost(self, found: object) -> Refused:
        return Refused(
            Code.DATA_LOSS,
            f"Host buffer {self._handle} came with {found} bytes where the client announced "
            f"{self._size}: the connection lost some.",
        )


class HostBuffers:
    """The buffers of one session."""

    def __init__(self, shared: SharedMemory, folder: Path | None) -> None:
        self._shared = shared
        self._folder = folder
        self._buffers: dict[int, Bytes] = {}
        self._expected: dict[int, asyncio.Future[None]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._buffers)

    def store(self, handle: int, data: Bytes) -> None:
        """Keep `data`, and wake the request that waits for it.

        Raises:
            Refused: the handle is no client's, or taken.
        """
        self.check_new(handle)
        self._buffers[handle] = data
        if waiting := self._expected.pop(handle, None):
            waiting.set_result(None)

    def upload(self, handle: int, size: int) -> Upload:
        """Begin to take a buffer of `size` bytes, for `store`.

        Raises:
            Refused: `store` would refuse its handle.
        """
        self.check_new(handle)
        return Upload(handle, size, self._shared.new_file(size))

    def store_upload(self, handle: int, upload: Upload) -> None:
        """Keep all that came.

        Raises:
            Refused: it is not what was announced, or the handle is taken by now.
        """
        self.check_new(handle)
        self.store(handle, upload.taken())

    def check_new(self, handle: int) -> None:
        """Refuse a handle that `store` would refuse."""
        if self._closed:
            raise Refused(Code.NOT_FOUND, "The session of this host buffer has ended: connect anew.")
        if not _is_clients(handle):
            raise invalid(f"{handle} cannot be the handle of a host buffer.")
        if handle in self._buffers:
            raise Refused(Code.ALREADY_EXISTS, f"Host buffer {handle} exists already.")

    def store_file(self, handle: int, size: int) -> None:
        """Keep the file that the client wrote for `handle`.

        Raises:
            Refused: there is none, or it is not what the client said.
        """
        self.check_new(handle)
        file = f"{self._own_folder()}/lt_{handle}"
        try:
            found = os.lstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                raise Refused(
                    Code.DATA_LOSS,
                    f"Host buffer {handle} has {found.st_size} bytes in shared memory where the client "
                    f"announced {size}: is the shared folder full, or used by two clients?",
                )
            ours = self._shared.adopt(file)
        except OSError as error:
            raise Refused(
                Code.NOT_FOUND,
                f"Host buffer {handle} cannot be read from the shared folder: {error}.",
            ) from error
        self.store(handle, Shared(ours, size))

    def _own_folder(self) -> Path:
        """The folder through which the client and the workers share memory.

        Raises:
            Refused: there is none.
        """
        if self._folder is None:
            raise Refused(
                Code.FAILED_PRECONDITION,
                "This session has no shared folder to read from: unset "
                "IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY, or give each client its own.",
            )
        return self._folder

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

    def get(self, handle: int) -> Bytes:
        """A buffer, which stays ours.

        Raises:
            Refused: there is none of that handle.
        """
        try:
            return self._buffers[handle]
        except KeyError:
            raise Refused(Code.NOT_FOUND, f"There is no host buffer {handle}.") from None

    def hand_over(self, handles: Iterable[int]) -> None:
        """Forget buffers that are now someone else's."""
        for handle in handles:
            self._buffers.pop(handle, None)

    def drop(self, handles: Iterable[int]) -> None:
        """Free buffers that will not be used, as far as they exist."""
        for handle in handles:
            if (data := self._buffers.pop(handle, None)) is not None:
                discard(data)

    def chunks(self, handle: int) -> Iterator[memoryview]:
        """A buffer's bytes in pieces, at least one, which may be empty.

        Raises:
            Refused: there is none of that handle, or its file is gone.
        """
        match data := self.get(handle):
            case Shared():
                try:
                    with open(data.path, "rb") as file:
                        whole = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
                except (OSError, ValueError) as error:
                    raise Refused(Code.DATA_LOSS, f"Host buffer {handle} is lost: {error}.") from error
            case bytes():
                whole = memoryview(data)
        for start in range(0, max(len(whole), 1), CHUNK):
            yield whole[start : start + CHUNK]

    def delete(self, handle: int) -> None:
        """Free a buffer.

        Raises:
            Refused: there is none of that handle.
        """
        discard(self.get(handle))
        del self._buffers[handle]

    def close(self) -> None:
        """Free everything, and the folder. The session has ended."""
        for data in self._buffers.values():
            discard(data)
        self._buffers.clear()
        self._shared.release(self._folder)
        self._folder = None
        self._closed = True


def _new_name(folder: Path) -> str:
    return f"{folder}/hb_{secrets.token_hex(12)}"


def _is_clients(handle: int) -> bool:
    return 0 < handle < SERVER_HANDLES


def discard(data: Bytes) -> None:
    """Free bytes that nobody will read."""
    if isinstance(data, Shared):
        _unlink(data.path)


def _unlink(file: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file)
