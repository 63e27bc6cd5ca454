"""Executors: what a worker's devices can do. `make` picks one by the platform's name."""

from __future__ import annotations

from importlib import metadata

from polypath.versions import check_worker
from polypath.worker.config import WorkerConfig
from polypath.worker.executors.base import Executor
from polypath.worker.waits import Waits


def make(config: WorkerConfig, waits: Waits) -> Executor:
    """The executor of the config's platform. Only a real one imports jax."""
    if config.platform == "null":
        from polypath.worker.executors.null import NullExecutor

        return NullExecutor(config)
    check_worker(metadata.version("jax"))  # With another, what is imported now may not be there.
    from polypath.worker.executors.pjrt import PjrtExecutor

    return PjrtExecutor(config, waits)
