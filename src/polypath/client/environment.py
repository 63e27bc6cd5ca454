"""The variables with which a script of stock JAX finds a cluster.

How big arrays travel is not among them. jaxlib's client writes a big array to a file
`lt_<handle>` in the folder that `..._DIRECTORY` names, and the name holds no session: each session
needs a folder of its own. So no shell exports one; our plugin makes it (`polypath.client.folder`)
inside the cluster's folder in shared memory, sets the variables just before it connects, and
tells the frontend in the session's `initialization_data`:

    shared_dir: bytes   where this session's `lt_<handle>` files are, and its pipe `farewell`
    client: bytes       who it is, for people
    python: bytes       its version of Python, such as 3.11

A session without the first sends its bytes over gRPC, as does one whose user set
`..._THRESHOLD_BYTES` to more than its arrays have.

`POLYPATH_SHARED_MEMORY=0` is for a process that shares no memory with the workers, such as one in a container with a
`/dev/shm` of its own: arrays then go over sockets in that folder, which both have to see.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

INSECURE_CREDENTIALS: Final = "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS"
LARGE_TRANSFER_DIRECTORY: Final = "IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY"
LARGE_TRANSFER_THRESHOLD: Final = "IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_THRESHOLD_BYTES"

SHARED_MEMORY: Final = "POLYPATH_SHARED_MEMORY"

THRESHOLD_BYTES: Final = 64 * 1024
"""Arrays from here up go through shared memory, unless the user set the variable."""

FOLDER_ATTRIBUTE: Final = "shared_dir"
CLIENT_ATTRIBUTE: Final = "client"
PYTHON_ATTRIBUTE: Final = "python"

PIPE_NAME: Final = "farewell"
"""In the folder; through it comes the frontend's word on why the session ended."""

SOCKET_NAME: Final = "ifrt.sock"


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
