"""Which versions of the protocol are spoken.

The protocol's version says which requests exist and who makes handles. From 16 to 25 it has only
grown, by requests and fields that an older client does not send, so nothing here depends on what
was agreed. The serialization's version says in which form programs and shardings are written: no
newer than what the workers' jaxlib reads; up to 3 the forms that are read here are the same.

jax        protocol   serialization
0.8        15 to 22   0
0.9.0      16 to 22   0
0.9.2      16 to 25   0 to 1
0.10.2     16 to 25   0 to 3
0.11.2     16 to 25   0 to 6
0.12.0     16 to 25   2 to 6
"""

from __future__ import annotations

from typing import Final

from polypath.frontend.refused import Refused
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Code
from polypath.versions import CLIENTS

PROTOCOL: Final = (16, 25)
SERIALIZATION: Final = (0, 3)


def negotiate(request: pb.GrpcGetVersionRequest) -> pb.IfrtProxyVersion:
    """The newest versions that both sides speak.

    A client that is refused takes it for a server that is not up yet and asks again, until its own
    time limit (two minutes, or `PATHWAYS_PROXY_CONNECTION_TIMEOUT_SECS`); then it shows the sentence.

    Raises:
        Refused: there are none, or the client is older than those that are served.
    """
    low, high = request.min_version, request.max_version
    theirs = (low.protocol_version, high.protocol_version)
    their_serialization = (low.ifrt_serdes_version_number, high.ifrt_serdes_version_number)
    protocol, serialization = min(theirs[1], PROTOCOL[1]), min(their_serialization[1], SERIALIZATION[1])
    # The oldest that a client speaks tells its age: those that still speak 15 offer 22 too, and
    # abort at the first response that does not repeat the handles they made.
    older = min(theirs[0], protocol) < PROTOCOL[0] or serialization < SERIALIZATION[0]
    if older or protocol < theirs[0] or serialization < their_serialization[0]:
        raise Refused(
            Code.FAILED_PRECONDITION,
            f"This client speaks IFRT proxy protocol {_range(theirs)} with serialization "
            f"{_range(their_serialization)}, and its jax is too {'old' if older else 'new'} for this cluster, which "
            f"speaks protocol {_range(PROTOCOL)} with serialization {_range(SERIALIZATION)}: install {CLIENTS} where "
            f"the client runs{'' if older else ', or a newer polypath where the cluster runs'}.",
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
