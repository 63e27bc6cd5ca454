"""Run as a process: a worker over pipes. Frames are a kind, a length and a body.

In: commands, and messages from peers. Out: reports, and messages to peers.
"""

from __future__ import annotations

import os
import queue
import struct
import sys
import threading

import msgspec

from polypath import messages as m
from polypath.transport.keys import WorkerLink
from polypath.worker import executors
from polypath.worker.__main__ import die_with_parent, take_links
from polypath.worker.config import decode_config
from polypath.worker.server import Worker
from polypath.worker.waits import Waits

HEAD = struct.Struct("<cI")


class Pipes:
    """Both the channel and the link to peers."""

    def __init__(self, host: int) -> None:
        self.me = m.Peer(host, "")
        self.peers = self
        self._lock = threading.Lock()
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._commands: queue.SimpleQueue = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while head := sys.stdin.buffer.read(HEAD.size):
            kind, size = HEAD.unpack(head)
            body = sys.stdin.buffer.read(size)
            if kind == b"P":
                self._on_peer(*msgspec.msgpack.decode(body))
            elif kind == b"X":
                self.worker.cancel(body.decode())
            else:
                self._commands.put(m.decode_command(body))
        self._commands.put(None)

    def receive(self) -> m.Command:
        if (command := self._commands.get()) is None:
            os._exit(0)
        return command

    def listen(self, on_peer, _) -> None:
        self._on_peer = on_peer

    def drain(self, _, then) -> None:
        then()

    def connect(self, peers) -> None:
        pass

    def _write(self, kind: bytes, body: bytes) -> None:
        with self._lock:
            self._out.write(HEAD.pack(kind, len(body)) + body)
            self._out.flush()

    def send(self, *args) -> None:
        if len(args) == 1:
            self._write(b"R", m.encode(args[0]))
        else:
            host, tag, header, data = args
            self._write(b"P", msgspec.msgpack.encode([host, tag, header, bytes(data)]))


def main() -> None:
    die_with_parent()
    config = decode_config(sys.stdin.buffer.readline())
    if config.platform == "fast":
        from pretend import pretend

        pretend(config.platform, config.devices)
    pipes = Pipes(config.host)
    waits = Waits()
    links = take_links(msgspec.json.decode(config.control, type=WorkerLink))
    worker = Worker(config, pipes, executors.make(config, waits), waits, links)
    pipes.worker = worker
    pipes.start()
    worker.run()
    os._exit(0)


if __name__ == "__main__":
    main()
