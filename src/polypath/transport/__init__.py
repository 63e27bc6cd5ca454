"""Ordered, authenticated messages between the head and the workers.

`head` and `worker` are the two ends, `links` what they need of what is below: `streams` on one
machine, `curve` over networks, where all is encrypted. Shards go from worker to worker.

Owns sockets and keys. Knows messages only through their codec, and nothing of what they mean.
"""

from polypath.transport.head import HeadChannel
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.worker import WorkerChannel, connect_worker

__all__ = ["HeadChannel", "KeyPair", "WorkerChannel", "WorkerLink", "connect_worker"]
