"""Contender: one TCP stream on the loopback, from a process to another, as iperf measures it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import time

MOST = 1 << 20


def read(stream: socket.socket, memory: memoryview) -> None:
    at = 0
    while at < len(memory):
        at += stream.recv_into(memory[at : at + MOST])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--times", type=int, required=True)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        stream = socket.create_connection(listener.getsockname())
        for size in options.sizes:
            data = bytes(size)
            while stream.recv(1) == b"m":
                stream.sendall(data)
        os._exit(0)
    stream, _ = listener.accept()
    samples: dict[str, float] = {}
    for size in options.sizes:
        memory, seconds = memoryview(bytearray(size)), list[float]()
        for _ in range(max(7, min(options.times, (1 << 29) // size))):
            start = time.perf_counter()
            stream.send(b"m")
            read(stream, memory)
            seconds.append(time.perf_counter() - start)
        stream.send(b"n")
        samples[f"get {size}"] = statistics.median(seconds[1:])
    os.waitpid(child, 0)
    print(json.dumps({"versions": {}, "samples": samples}))


if __name__ == "__main__":
    main()
