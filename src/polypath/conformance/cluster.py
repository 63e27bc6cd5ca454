"""The cluster that test files are clients of, made anew when one of them damaged it.

Owns its start, its end, and the copy of its logs. Decides from the cluster's status only
whether the next file would find what the first one found.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from polypath.client.environment import client_environment
from polypath.client.status import Status, read_status
from polypath.errors import ClusterError, NotRunning
from polypath.launch import runtime_dir
from polypath.launch.head_process import HeadProcess

_REST: Final = 10.0
"""Seconds that a cluster gets to come to rest when its client has left."""
_LOOK_EVERY: Final = 0.05


class TestCluster:
    """One cluster after another, all of one shape."""

    __test__ = False  # pytest need not look into it.

    def __init__(self, hosts: int, devices_per_host: int, logs: Path) -> None:
        self._hosts = hosts
        self._devices_per_host = devices_per_host
        self._logs = logs
        self._head: HeadProcess | None = None
        self._workers: tuple[tuple[int, str], ...] = ()

    def environment(self) -> dict[str, str]:
        """What a client needs; starts a cluster if there is none.

        Raises:
            ClusterError: it did not come up.
        """
        if self._head is None:
            head = HeadProcess.start(
                f"conformance-{os.getpid()}-{secrets.token_hex(2)}",
                hosts=self._hosts,
                devices_per_host=self._devices_per_host,
                islands=1,
                platform="cpu",
                tied=True,
            )
            self._head = head  # From here on `close` ends it.
            head.wait_ready()
            self._workers = _workers(read_status(head.config.address))
        return client_environment(self._head.config.address)

    def check(self, *, clean: bool) -> str:
        """To be called after each file: what it did to the cluster, which then ends; else empty.

        Args:
            clean: whether its process ended in order.
        """
        if self._head is None:
            return ""
        trouble = self._trouble()
        if trouble or not clean:
            kept = self.close()
            trouble = f"{trouble}; the logs are in {kept}" if trouble else ""
        return trouble

    def close(self) -> Path | None:
        """End the cluster, if there is one; where its logs are now."""
        head, self._head = self._head, None
        if head is None:
            return None
        kept = self._logs / head.config.name
        try:
            with contextlib.suppress(FileNotFoundError):
                shutil.copytree(head.config.log_dir, kept, dirs_exist_ok=True)
        finally:
            head.close()
        return kept

    def _trouble(self) -> str:
        assert self._head is not None
        how = self._head.poll()
        if how is not None:
            return f"the cluster's head {how}"
        deadline = time.monotonic() + _REST
        while True:
            try:
                status = read_status(self._head.config.address)
            except NotRunning:
                return f"the cluster's head {self._head.poll() or 'does not answer'}"
            if _workers(status) != self._workers:
                return "the cluster lost a worker, and the island was made anew"
            if not status.controller.sessions and not status.controller.pending:
                return ""
            if time.monotonic() > deadline:
                return f"the workers still owed answers {_REST:.0f} s after the client had left"
            time.sleep(_LOOK_EVERY)


class GivenCluster:
    """A cluster that somebody else started, and that stays."""

    def __init__(self, name: str) -> None:
        record = runtime_dir.find(name)
        if not record.ready:
            raise ClusterError(f"Cluster {record.name!r} is still starting: try again in a moment.")
        self._address = record.address
        self._workers = _workers(read_status(record.address))

    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return client_environment(self._address)

    def check(self, *, clean: bool) -> str:
        """What became of it since the last look.

        Raises:
            NotRunning: it is gone.
        """
        before, self._workers = self._workers, _workers(read_status(self._address))
        return "" if before == self._workers else "the cluster lost a worker, and the island was made anew"

    def close(self) -> Path | None:
        """Nothing: it is not ours to end."""


def _workers(status: Status) -> tuple[tuple[int, str], ...]:
    return tuple((host.pid, host.state) for host in status.controller.hosts)
