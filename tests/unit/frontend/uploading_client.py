"""Opens a session and uploads a big buffer, until it is killed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import grpc

from polypath.frontend.wire import ifrt_pb2 as pb

SERVICE = "/xla.ifrt.proxy.GrpcIfrtService/"


def chunks() -> Iterator[bytes]:
    chunk = pb.GrpcHostBufferStoreRequest(data=bytes(1 << 20)).SerializeToString()
    for number in itertools.count():
        if number == 8:
            print("uploading", flush=True)
        yield chunk


def main() -> None:
    channel = grpc.insecure_channel(sys.argv[1])
    version = pb.IfrtProxyVersion(protocol_version=25, ifrt_serdes_version_number=3)
    metadata = pb.GrpcIfrtSessionMetadata(version=version).SerializeToString()
    requests = [pb.IfrtRequest(request_metadata=pb.RequestMetadata(op_id=1), init_request=pb.InitRequest())]
    wire = (request.SerializeToString() for request in itertools.chain(requests, iter(input, "")))
    header = "ifrt-proxy-grpc-ifrt-session-metadata-bin"
    session = channel.stream_stream(SERVICE + "IfrtSession")(wire, metadata=[(header, metadata)])
    id_ = pb.IfrtResponse.FromString(next(session)).init_response.session_id
    told = pb.GrpcHostBufferStoreMetadata(session_id=id_, handle=1, buffer_size=1 << 30).SerializeToString()
    header = "ifrt-proxy-grpc-host-buffer-store-metadata-bin"
    channel.stream_unary(SERVICE + "HostBufferStore")(chunks(), metadata=[(header, told)])


main()
