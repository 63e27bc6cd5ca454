"""The variables with which a script of stock JAX finds a cluster.

How arrays travel is not among them: a client with Polypath has links to the workers, others send bytes over gRPC. Our
plugin tells the frontend in the session's `initialization_data`:

    link: bytes     the name by which the head knows this session's links
    client: bytes   who it is, for people
    python: bytes   its version of Python, such as 3.11
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

INSECURE_CREDENTIALS: Final = "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS"

LINK_ATTRIBUTE: Final = "link"
CLIENT_ATTRIBUTE: Final = "client"
PYTHON_ATTRIBUTE: Final = "python"

SOCKET_NAME: Final = "ifrt.sock"
LINK_NAME: Final = "link"
"""The head's socket for links, in the same folder."""


def client_environment(address: str) -> dict[str, str]:
    """The variables of a client of the cluster at `address`."""
    return {
        "JAX_PLATFORMS": "proxy",
        "JAX_BACKEND_TARGET": address,
        # A unix socket in a private folder: there is nobody to hide from on the way.
        INSECURE_CREDENTIALS: "true",
        # jaxlib's client warns of just that at every start, and logs what it raises anyway.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def socket_path(target: str) -> str | None:
    """The unix socket in a target, without JAX: None if the target is of another kind."""
    _, _, address = target.rpartition("://")
    scheme, colon, path = address.partition(":")
    return path if colon and scheme == "unix" else None


def cluster_name(target: str) -> str:
    """The name of the cluster at `target`; the target itself where it is not ours."""
    path = socket_path(target)
    return target if path is None else PurePath(path).parent.name


def is_ours(target: str) -> bool:
    """Whether a target is a cluster of Polypath, rather than another proxy's server."""
    path = socket_path(target)
    return path is not None and PurePath(path).name == SOCKET_NAME
