"""One Python process drives every device of a cluster, with stock JAX.

import polypath

with polypath.start(hosts=2, devices_per_host=4) as cluster:
    ...  # ordinary JAX

`polypath.torch` is imported when it is first used: it needs PyTorch, and nothing else does.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from polypath.client.cluster import Cluster, connect, start
from polypath.errors import (
    AlreadyRunning,
    ClusterError,
    ForkedProcess,
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
    "ForkedProcess",
    "NotRunning",
    "PolypathError",
    "ProtocolError",
    "UnsupportedVersion",
    "__version__",
    "connect",
    "start",
]


def __getattr__(name: str) -> ModuleType:
    if name != "torch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("torch") is None:
        raise ModuleNotFoundError(
            "polypath.torch needs PyTorch, which is not installed: pip install 'polypath[torch]'.", name="torch"
        )
    return import_module("polypath.torch")
