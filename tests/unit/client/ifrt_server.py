"""A server that knows enough of the IFRT proxy's protocol for `jax.devices()`, and no more.

`python ifrt_server.py <config as JSON> <platform>`: prints a line once it listens.
"""

import asyncio
import concurrent.futures
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec

from polypath.frontend.links import HeadLinks
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.launch import runtime_dir
from polypath.launch.config import HeadConfig
from polypath.transport.keys import BulkKeys

DEVICES = 8


def init(op_id: int, platform: str) -> pb.IfrtResponse:
    response = pb.IfrtResponse()
    response.response_metadata.op_id = op_id
    answer = response.init_response
    answer.session_id = 7
    answer.platform_name = platform
    answer.platform_version = platform
    answer.runtime_type = "polypath"
    for number in range(DEVICES):
        device = answer.all_devices.add()
        device.id = device.local_device_id = device.local_hardware_id = device.default_memory_id = number
        device.platform_name = device.device_kind = platform
        device.memory_ids.append(number)
        answer.addressable_device_ids.append(number)
        answer.primary_device_ids.append(number)
        memory = answer.memories.add()
        memory.id = number
        memory.memory_space_kind = "device"
        memory.device_ids.append(number)
    return response


class Service(grpc.GenericRpcHandler):
    def __init__(self, platform: str) -> None:
        self._platform = platform

    def service(self, handler_call_details: Any) -> Any:
        match handler_call_details.method.rpartition("/")[2]:
            case "GetVersion":
                version = pb.GrpcGetVersionResponse()
                version.version.protocol_version = 20
                version.version.ifrt_serdes_version_number = 3
                return grpc.unary_unary_rpc_method_handler(lambda *_: version.SerializeToString())
            case "IfrtSession":
                return grpc.stream_stream_rpc_method_handler(self._session)
            case _:
                return None

    def _session(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for name, value in context.invocation_metadata():
            if name.endswith("-session-metadata-bin"):
                told = pb.GrpcIfrtSessionMetadata.FromString(value).initialization_data.attributes
                print("told", *sorted(f"{key}={told[key].string_value.decode()}" for key in told), flush=True)
        for data in requests:
            request = pb.IfrtRequest.FromString(data)
            if request.HasField("init_request"):
                yield init(request.request_metadata.op_id, self._platform).SerializeToString()


async def serve_links(path: Path) -> None:
    await HeadLinks(lambda: BulkKeys.new(network=False), 60.0).serve(path)
    await asyncio.Event().wait()


def main() -> None:
    config = msgspec.json.decode(sys.argv[1], type=HeadConfig)
    links = Path(config.socket).with_name("link")
    threading.Thread(target=lambda: asyncio.run(serve_links(links)), daemon=True).start()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Service(sys.argv[2])])
    server.add_insecure_port(f"unix:{config.socket}")
    server.start()
    runtime_dir.mark_ready(config, sys.argv[2], DEVICES)
    print("up", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
