"""`python -m polypath.worker.rendezvous`: the service through which an island's workers form their group.

A process of its own, because a worker aborts when the service goes away: no worker's death
may take it along. Reads `{"address": ..., "nodes": ...}` from standard input and ends when that
does, which must be after the last worker of the group has ended.

It needs one function of jaxlib's and is on the way of every start, so it does not import all of
JAX by way of `polypath.worker.jaxlib`: the one exception to that file's rule.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from polypath.files import sentence
from polypath.worker.__main__ import die_with_parent


class RendezvousConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of JSON on standard input."""

    address: str
    """Where to listen: `unix:PATH`, in a folder that only this user may enter. Whoever connects is asked for no key,
    and can end the group by joining it."""
    nodes: int


def _check_free(path: Path) -> None:
    """See that one can listen there: where jaxlib cannot, it crashes.

    Raises:
        OSError: one cannot.
    """
    path.unlink(missing_ok=True)  # The service of an earlier group left it.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(path))
    path.unlink()


def main() -> None:
    """Serve until standard input ends."""
    die_with_parent()
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=RendezvousConfig)
    jax: Any = importlib.import_module("jaxlib._jax")
    path = Path(config.address.removeprefix("unix:"))
    try:
        _check_free(path)
    except OSError as error:
        sys.exit(sentence(error, path))
    service = jax.get_distributed_runtime_service(
        config.address,
        config.nodes,
        heartbeat_timeout=100,
        cluster_register_timeout=60,
        shutdown_timeout=1,
        recoverable=True,
    )
    while sys.stdin.buffer.readline():
        pass
    # Not the orderly end, which would wait for members that are gone.
    assert service is not None
    os._exit(0)


if __name__ == "__main__":
    main()
