"""Which versions of the protocol are spoken.

The protocol's version says which requests exist and who makes handles; 25 is what jaxlib 0.10
to 0.12 speak, and the older variants are not served. The serialization's version says in which
form programs and shardings are written: no newer than what the workers' jaxlib reads.
"""

from __future__ import annotations

from typing import Final

from polypath.frontend.refused import Refused
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Code

PROTOCOL: Final = (25, 25)
SERIALIZATION: Final = (2, 3)


def negotiate(request: pb.GrpcGetVersionRequest) -> pb.IfrtProxyVersion:
    """The newest versions that both sides speak.

    Raises:
        Refused: there are none.
    """
    low, high = request.min_version, request.max_version
    theirs = (low.protocol_version, high.protocol_version)
    their_serialization = (low.ifrt_serdes_version_number, high.ifrt_serdes_version_number)
    protocol, serialization = min(theirs[1], PROTOCOL[1]), min(their_serialization[1], SERIALIZATION[1])
    if protocol < max(theirs[0], PROTOCOL[0]) or serialization < max(their_serialization[0], SERIALIZATION[0]):
        older = protocol < PROTOCOL[0] or serialization < SERIALIZATION[0]
        raise Refused(
            Code.FAILED_PRECONDITION,
            f"This client speaks IFRT proxy protocol {_range(theirs)} with serialization "
            f"{_range(their_serialization)}, this cluster protocol {_range(PROTOCOL)} with serialization "
            f"{_range(SERIALIZATION)}: install "
            + ("jax>=0.10.2 where the client runs." if older else "a newer polypath where the cluster runs."),
        )
    return pb.IfrtProxyVersion(protocol_version=protocol, ifrt_serdes_version_number=serialization)


def check(version: pb.IfrtProxyVersion) -> None:
    """A session begins with the versions that `negotiate` chose.

    Raises:
        Refused: it does not.
    """
    negotiate(pb.GrpcGetVersionRequest(min_version=version, max_version=version))


def _range(bounds: tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]} to {bounds[1]}"
