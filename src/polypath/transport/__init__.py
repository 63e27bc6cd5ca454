"""Ordered, authenticated, encrypted frames between the head and the workers.

ZeroMQ carries them: one ordered PUSH/PULL pair per worker for commands, one PULL at the head
for all reports, one PULL at each worker for shards from its peers. CURVE keys guard every
socket; who does not hold a key of this cluster is refused in the handshake.

Owns sockets and keys. Knows messages only through their codec, and nothing of what they mean.
"""

from polypath.transport.head import HeadChannel
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.worker import WorkerChannel, connect_worker

__all__ = ["HeadChannel", "KeyPair", "WorkerChannel", "WorkerLink", "connect_worker"]
