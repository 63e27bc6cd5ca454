"""What a cluster tells about itself. Imported only by who asks: it brings gRPC along."""

from __future__ import annotations

import msgspec

from polypath.client.environment import socket_path
from polypath.errors import NotRunning
from polypath.frontend import control_client
from polypath.status import Status

__all__ = ["Status", "read_status"]


def read_status(address: str) -> Status:
    """The cluster at `address`, as it is now.

    Raises:
        NotRunning: none answers there.
    """
    path = socket_path(address)
    if path is None:
        raise NotRunning(f"{address} is no cluster's address: those begin with grpc://unix: (see `polypath status`).")
    return msgspec.json.decode(control_client.status(f"unix:{path}"), type=Status)
