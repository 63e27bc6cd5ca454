"""Another user of the machine, who tries what is open. Run by root as `python outsider.py UID`.

Reads what to try as JSON from stdin, becomes that user, and prints as JSON what it could do: nothing, if all is well.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds that a worker gets to close a connection."""
IDLE = 200
"""Connections at a time that say nothing."""
NUMBERS = 64
"""gloo's numbers of connections begin at 0."""

_jax: Any = importlib.import_module("jaxlib._jax")  # As root: another user may not read where it is installed.


def become(user: int) -> None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def allowed(what: str, tried: Callable[[], object]) -> Iterator[str]:
    """`what` if it was not refused."""
    try:
        tried()
    except PermissionError:
        return
    except OSError as error:
        yield f"{what}, which failed for another reason ({error})"
        return
    yield what


def connect(path: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as stream:
        stream.settimeout(PATIENCE)
        stream.connect(path)


def try_paths(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from allowed(f"look at {path}", lambda path=path: Path(path).stat())
        yield from allowed(f"read {path}", lambda path=path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
        yield from allowed(f"write {path}", lambda path=path: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            yield from allowed(f"connect to {path}", lambda path=path, kind=kind: connect(path, kind))


def try_folders(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        yield from allowed(f"list {folder}", lambda folder=folder: list(Path(folder).iterdir()))
        yield from allowed(f"put a file into {folder}", lambda folder=folder: Path(folder, "mine").mkdir())


def try_processes(pids: Iterable[int]) -> Iterator[str]:
    for pid in pids:
        for number in (signal.SIGTERM, signal.SIGSTOP):
            yield from allowed(f"send {number} to {pid}", lambda pid=pid, number=number: os.kill(pid, number))
        for name in ("environ", "mem", "maps"):
            path = f"/proc/{pid}/{name}"
            yield from allowed(f"read {path}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
        yield from allowed(f"see what {pid} has open", lambda pid=pid: list(Path(f"/proc/{pid}/fd").iterdir()))


def try_group(address: str) -> Iterator[str]:
    """Join the hosts' group in place of one of them, in a process of its own: jaxlib ends one that cannot."""
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        member = _jax.get_distributed_runtime_client(
            address, 0, init_timeout=5, shutdown_timeout=1, shutdown_on_destruction=False, use_compression=True
        )
        member.connect()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        yield f"join {address}"


def try_ports(ports: Iterable[int]) -> Iterator[str]:
    """Stand in for a host, or use up a worker's descriptors: each connection has to be closed without a word."""
    sayings = [b"", b"x", b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 4096, *[b""] * IDLE]
    sayings += [struct.pack("=q", number) for number in range(NUMBERS)]
    for port in ports:
        streams: list[socket.socket] = []
        for said in sayings:
            stream = socket.socket()  # Not create_connection, which imports what another user may not read.
            stream.settimeout(PATIENCE)
            stream.connect(("127.0.0.1", port))
            streams.append(stream)
            try:
                stream.sendall(said)
            except ConnectionError:
                continue  # It is closed already.
        for stream in streams:
            try:
                heard = stream.recv(1)
            except ConnectionError:
                heard = b""
            except TimeoutError:
                yield f"stay connected to port {port}"
                return
            if heard:
                yield f"be told something on port {port}"
                return
            stream.close()


def main() -> None:
    given = json.load(sys.stdin)
    become(int(sys.argv[1]))
    could = [
        *try_paths(given["paths"]),
        *try_folders(given["folders"]),
        *try_processes(given["pids"]),
        *try_ports(given["ports"]),
        *try_group(given["group"]),
    ]
    json.dump(could, sys.stdout)


if __name__ == "__main__":
    main()
