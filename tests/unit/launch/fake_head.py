"""A head without a cluster: keeps a head's promises to whoever starts it.

`python fake_head.py ready|silent|refuse|crash|garbage|deaf`
"""

import os
import select
import signal
import socket
import sys
from pathlib import Path

import msgspec

from polypath.launch import runtime_dir
from polypath.launch.config import HeadConfig, HeadReply


def reply(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    mode = sys.argv[1]
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=HeadConfig)
    if mode == "crash":
        sys.exit("the sky fell")
    if mode == "garbage":
        reply(b"hello")
    elif mode == "refuse":
        reply(msgspec.json.encode(HeadReply(error="Port 1 is in use: choose another.")))
    stop, stopped = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(stopped, b"x"))
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(config.socket)
        listener.listen()
        if mode in ("ready", "deaf"):
            (Path(config.log_dir) / "worker-0.log").write_text("one\ntwo\nthree\n")
            runtime_dir.mark_ready(config, "cpu", 8)
            reply(msgspec.json.encode(HeadReply(ready=True, address=config.address, platform="cpu", devices=8)))
        wanted = [stop, *([sys.stdin] if config.tied and mode != "deaf" else [])]
        select.select(wanted, [], [])
    runtime_dir.remove(config)


if __name__ == "__main__":
    main()
