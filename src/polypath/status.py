"""What a head tells about its cluster, for `polypath status` and `Cluster.status()`."""

from __future__ import annotations

import msgspec

from polypath.controller.controller import Statistics
from polypath.frontend.service import FrontendStatistics
from polypath.transport.head import Traffic


class Status(msgspec.Struct, frozen=True):
    """A cluster, as it is now."""

    name: str
    address: str
    pid: int
    platform: str
    version: str
    """Of the workers' jaxlib."""
    controller: Statistics
    transport: Traffic
    frontend: FrontendStatistics
