"""One end of a network whose cable is pulled. Run as `python cable_end.py head ADDRESS ADDRESS` or `... worker`.

The head's end also has a worker, host 0, which sends shards to host 1, the worker at the other end. Both say by lines
what happens, and are told by lines what they need of each other.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import msgspec

from polypath.messages import Peer
from polypath.transport import HeadChannel, WorkerChannel, WorkerLink


def say(*words: object) -> None:
    print(*words, flush=True)


async def head(here: str, there: str) -> None:
    channel = HeadChannel(
        f"tcp://{here}:*", lambda _: None, on_silent=lambda host, seconds: say("silent", host, seconds)
    )
    worker = WorkerChannel(channel.link(0, 1, f"tcp://{here}"), lambda reason: say("wrong", reason))
    worker.peers.listen(lambda *_: None, lambda peer, reason: say("lost", peer.host, reason))
    say(msgspec.json.encode(channel.link(1, 1, f"tcp://{there}")).decode())

    def send_shards() -> None:
        worker.peers.connect([msgspec.json.decode(sys.stdin.readline(), type=Peer)])
        worker.peers.send(1, "first", b"", bytes(1 << 20))
        sys.stdin.readline()
        worker.peers.send(1, "second", b"", bytes(1 << 20))

    threading.Thread(target=send_shards, daemon=True).start()
    await asyncio.Event().wait()


def worker() -> None:
    over = threading.Event()

    def alone(reason: str) -> None:
        say("alone", reason)
        over.set()

    channel = WorkerChannel(msgspec.json.decode(sys.stdin.readline(), type=WorkerLink), alone)
    channel.peers.listen(lambda tag, header, data: say("shard", tag, len(data)), lambda *_: None)
    say(msgspec.json.encode(channel.peers.me).decode())
    over.wait()
    os._exit(0)  # Without waiting for the network.


if __name__ == "__main__":
    if sys.argv[1] == "head":
        asyncio.run(head(*sys.argv[2:]))
    else:
        worker()
