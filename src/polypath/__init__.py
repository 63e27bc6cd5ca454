"""One Python process drives every device of a cluster, with stock JAX.

import polypath

with polypath.start(hosts=2, devices_per_host=4) as cluster:
    ...  # ordinary JAX
"""

from polypath.client.cluster import Cluster, connect, start
from polypath.errors import (
    AlreadyRunning,
    ClusterError,
    NotRunning,
    PolypathError,
    ProtocolError,
    UnsupportedVersion,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyRunning",
    "Cluster",
    "ClusterError",
    "NotRunning",
    "PolypathError",
    "ProtocolError",
    "UnsupportedVersion",
    "__version__",
    "connect",
    "start",
]
