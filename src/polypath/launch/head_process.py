"""Starts a head as a process of its own, hears whether it is up, and ends it.

Used by whoever wants a cluster: `polypath.start`, `polypath up`, `polypath run`. A tied head
ends when its stdin does, so nothing outlives the process that started it, however that ends.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

import msgspec

from polypath.errors import ClusterError
from polypath.files import explained
from polypath.launch import runtime_dir
from polypath.launch.config import HeadConfig, HeadReply, check_shape
from polypath.processes import Family, describe_exit, last_words

HEAD_COMMAND: Final = (sys.executable, "-P", "-m", "polypath.head")
START_TIMEOUT: Final = 180.0
"""Seconds; a first start compiles and loads much."""
STOP_GRACE: Final = 10.0
"""Seconds that a head and its workers get to end by themselves."""


class HeadProcess:
    """A head that was started from here. Use as a context manager, or `close()` it."""

    def __init__(self, config: HeadConfig, claim: runtime_dir.Claim, process: subprocess.Popen[bytes]) -> None:
        self.config = config
        self.reply = HeadReply()
        self._claim = claim
        self._process = process
        self._detached = False

    @classmethod
    def start(
        cls,
        name: str,
        *,
        hosts: int,
        devices_per_host: int | None,
        islands: int,
        platform: str | None,
        fanout: int | None = None,
        tied: bool,
        debug: bool = False,
        command: Sequence[str] = (),
    ) -> Self:
        """Start a head and return at once; `wait_ready()` says whether it came up.

        Raises:
            AlreadyRunning: the name is taken.
            ClusterError: such a cluster cannot be, or there is no place for it.
        """
        check_shape(hosts, devices_per_host, islands, platform, fanout)
        claim = runtime_dir.claim(name)
        try:
            config = claim.config(hosts, devices_per_host, islands, platform, fanout=fanout, tied=tied, debug=debug)
            process = _spawn(command or HEAD_COMMAND, Path(config.log_dir) / "head.log", claim.fd)
            try:
                runtime_dir.publish(runtime_dir.record_of(config, process.pid))
                _tell(process, config)
            except BaseException:
                process.kill()
                process.wait()
                raise
        except BaseException:
            claim.remove()
            raise
        return cls(config, claim, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> HeadReply:
        """Wait until the cluster is up. On an error nothing is left of it.

        Raises:
            ClusterError: it did not come up; the message is the head's own sentence where it had one.
        """
        try:
            line = _read_line(_pipe(self._process.stdout), timeout)
            self.reply = self._understand(line, timeout)
            if self.reply.error:
                raise ClusterError(self.reply.error)
        except BaseException:
            self.close()
            raise
        return self.reply

    def detach(self) -> None:
        """Let the head go on without us. Only for one that is not tied."""
        self._detached = True
        self._claim.release()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()
        self._process.returncode = 0  # It is nobody's to wait for: keeps Popen from warning.

    def abandon(self) -> None:
        """Let go of the head in a forked child, so that it is tied to the parent alone: `close()` does nothing here."""
        self._detached = True
        self._claim.release()
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            for pipe in (self._process.stdin, self._process.stdout):
                if not _pipe(pipe).closed:
                    os.dup2(nothing.fileno(), _pipe(pipe).fileno(), inheritable=False)
        self._process.returncode = 0  # It is not this process's to wait for: keeps Popen from warning.

    def poll(self) -> str | None:
        """None while the head runs, else how it ended."""
        status = self._process.poll()
        return None if status is None else describe_exit(status)

    def wait(self) -> str:
        """Wait for the head to end; how it ended, with its last words if it failed."""
        status = self._process.wait()
        words = last_words(Path(self.config.log_dir) / "head.log") if status else ""
        return describe_exit(status) + (f"; its last words: {words}" if words else "")

    def close(self) -> None:
        """End the head and its workers and remove their files, unless detached. May be called again."""
        if self._detached:
            return
        members = Family(self._process.pid) if self._process.returncode is None else None
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()
        if members is not None:
            if not self.config.tied:
                self._process.terminate()
            try:
                self._process.wait(STOP_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            members.end(STOP_GRACE / 2)
        self._claim.remove()

    def _understand(self, line: bytes | None, timeout: float) -> HeadReply:
        if line is None:
            raise ClusterError(
                f"The cluster did not come up within {timeout:.0f} seconds: see what the machine is busy with, "
                "and run `polypath doctor`."
            )
        try:
            return msgspec.json.decode(line, type=HeadReply)
        except msgspec.DecodeError:
            if line:
                raise ClusterError(f"The head answered {line[:200]!r}, which is no reply of a head.") from None
        how = self.wait()
        raise ClusterError(f"The cluster's head {how}: run `polypath doctor` to see what is wrong here.")


def _spawn(command: Sequence[str], log: Path, lock: int) -> subprocess.Popen[bytes]:
    with explained():
        output = log.open("ab")
    with output:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for us: we take the head down in order.
            )
        except OSError as error:
            raise ClusterError(
                f"The cluster's head could not be started with {command[0]} ({error.strerror or error}): see that it "
                "is there, or free memory or processes on this machine."
            ) from error


def _tell(process: subprocess.Popen[bytes], config: HeadConfig) -> None:
    stdin = _pipe(process.stdin)
    try:
        stdin.write(msgspec.json.encode(config) + b"\n")
        stdin.flush()
    except BrokenPipeError:
        pass  # It ended before it read: `wait_ready` says how.


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _read_line(pipe: IO[bytes], timeout: float) -> bytes | None:
    """A line; what there is of one at the end of the stream; None if neither comes in time."""
    line = b""
    deadline = time.monotonic() + timeout
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return None
        chunk = os.read(pipe.fileno(), 65536)
        if not chunk:
            return line
        line += chunk
    return line
