"""A child process on this machine that is told its config through stdin, and whose end is noticed.

Its stdin stays open (its end tells the process that the head is gone; the kernel kills it should it
not listen). The exit is seen through a pidfd, without polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from polypath.processes import describe_exit, last_words


def tied(module: str) -> Sequence[str]:
    """The command of `python -m module` in a process that ends with this one."""
    # Without -P the folder that the user happens to be in could shadow modules.
    return (sys.executable, "-P", "-m", "polypath.launch.child", str(os.getpid()), module)


def spawn(
    module: str, log: Path, environment: Mapping[str, str], through: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a module as a tied process that writes to `log`, `through` a command that becomes the one after it.

    Raises:
        OSError: it cannot be started.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [*through, *tied(module)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the head, which ends workers in order.
        )


def tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Send a process a line. One that has ended already is found out by its exit."""
    with contextlib.suppress(BrokenPipeError):
        stdin = _pipe(process.stdin)
        stdin.write(line + b"\n")
        stdin.flush()


def close(process: subprocess.Popen[bytes]) -> None:
    """Close what is left of an ended process."""
    with contextlib.suppress(BrokenPipeError):
        _pipe(process.stdin).close()


class Child:
    """One process, from start to `gone`."""

    def __init__(
        self,
        module: str,
        log: Path,
        environment: Mapping[str, str],
        config: bytes,
        on_end: Callable[[Child], None],
        through: Sequence[str] = (),
    ) -> None:
        """Start it on the running loop, which calls `on_end` once it is gone. `through` is as in `spawn`.

        Raises:
            OSError: it cannot be started.
        """
        self._log = log
        self._offset = log.stat().st_size if log.exists() else 0
        self._on_end = on_end
        self.process = spawn(module, log, environment, through)
        self._pidfd = os.pidfd_open(self.process.pid)
        self.wanted = True
        """Whether its end is news."""
        self.killed_for = ""
        """Why we killed it, if we did and there is something to say; then this is how it ended."""
        self.gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        tell(self.process, config)

    def cause(self) -> str:
        """How it ended, for people."""
        if self.killed_for:
            return self.killed_for
        status = self.process.returncode
        # Of a process that was killed from outside, the last line tells nothing.
        told = status != 0 and -status not in (signal.SIGKILL, signal.SIGTERM)
        words = last_words(self._log, self._offset) if told else ""
        return describe_exit(status) + (f"; its last words: {words}" if words else "")

    def _reap(self) -> None:
        """Called by the loop once the process has ended."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.process.wait()
        self.gone.set()
        self._on_end(self)
        close(self.process)


async def end(children: Iterable[Child], grace: float) -> None:
    """End them, in order where they let us, and wait until they are gone. Their ends are no news."""
    children = list(children)
    for child in children:
        child.wanted = False
        child.process.terminate()
    try:
        async with asyncio.timeout(grace):
            for child in children:
                await child.gone.wait()
    except TimeoutError:
        for child in children:
            child.process.kill()
        for child in children:
            await child.gone.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
