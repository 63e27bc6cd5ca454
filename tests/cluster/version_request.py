"""Asks a head for a version of the protocol: `version_request.py SOCKET OLDEST NEWEST`. Says how it refuses."""

from __future__ import annotations

import sys
from typing import Any

import grpc

from polypath.frontend.wire import ifrt_pb2 as pb

METHOD = "/xla.ifrt.proxy.GrpcIfrtService/GetVersion"


def version(number: str) -> Any:
    return pb.IfrtProxyVersion(protocol_version=int(number), ifrt_serdes_version_number=3)


path, oldest, newest = sys.argv[1:]
with grpc.insecure_channel("unix:" + path) as channel:
    request = pb.GrpcGetVersionRequest(min_version=version(oldest), max_version=version(newest))
    try:
        channel.unary_unary(METHOD)(request.SerializeToString(), timeout=10)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
