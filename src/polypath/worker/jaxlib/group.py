"""This process's membership of its island's group.

A member aborts when its connection to the group's service breaks, whatever callback it was
given: the status cannot be cast to Python (`std::bad_cast`). So the service has a process of its
own, which outlives every member; with the service in node 0, killing that one killed all.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Collection
from typing import Any, Final

from jax._src import distributed as _distributed
from jaxlib import _jax

from polypath.worker.config import WorkerConfig

_log = logging.getLogger(__name__)

_JOINING: Final = 300
"""Seconds for all nodes to join, and to say what they have: a TPU pod takes minutes to come up."""
_COMPILING: Final = 1800
"""Seconds until the other nodes come to a program that this one is to compile with them."""


class Group:
    """This process's membership of its island's group, and what its members tell each other."""

    def __init__(self, config: WorkerConfig) -> None:
        self._node = config.node
        self._nodes = config.nodes
        self._lock = threading.Lock()
        self._asked: collections.Counter[str] = collections.Counter()
        self.client: Any = _jax.get_distributed_runtime_client(
            config.group_address,
            config.node,
            init_timeout=_JOINING,
            shutdown_timeout=1,
            heartbeat_timeout=100,
            missed_heartbeat_callback=_on_missed_heartbeat,
            shutdown_on_destruction=False,
            use_compression=True,
        )
        self.client.connect()
        _distributed.global_state.client = self.client
        _distributed.global_state.process_id = config.node
        _distributed.global_state.num_processes = config.nodes

    def exchange(self, key: str, value: str) -> list[str]:
        """What each node says under `key`, in the order of the nodes. All nodes call this, once for a key."""
        return self._exchange(key, value, range(self._nodes), _JOINING)

    def all_have(self, key: str, nodes: Collection[int], here: bool) -> bool:
        """Whether all of `nodes` have what `key` names; `here` is whether this one does.

        Each of them calls this as often as the others.
        """
        with self._lock:
            self._asked[key] += 1
            once = f"{key}/{self._asked[key]}"
        return all(each == "1" for each in self._exchange(once, str(int(here)), nodes, _COMPILING))

    def _exchange(self, key: str, value: str, nodes: Collection[int], seconds: int) -> list[str]:
        self.client.key_value_set(f"polypath/{key}/{self._node}", value)
        return [self.client.blocking_key_value_get(f"polypath/{key}/{node}", seconds * 1000) for node in nodes]


def _on_missed_heartbeat(status: object) -> None:
    # The default ends the process. The launcher sees a dead worker by its process instead.
    _log.warning("The island's group lost contact: %s", status)
