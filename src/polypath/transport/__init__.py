"""Ordered, authenticated messages between the head and the workers.

`head` and `worker` are the two ends, `links` what they need of what is below: `streams` on one
machine, `curve` over networks, where all is encrypted. Where there are many workers, a `relay` is to the head
as a worker and to workers as the head. Shards go from worker to worker.

Owns sockets and keys. Knows messages only through their codec, and of what they mean only which reports answer
one question to several hosts.
"""

from polypath.transport.head import HeadChannel
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.worker import WorkerChannel

__all__ = ["HeadChannel", "KeyPair", "WorkerChannel", "WorkerLink"]
