"""`python -m polypath.worker`: one worker, told what to be by a line of JSON on standard input.

Standard input stays open as long as the launcher lives; its end is the worker's end.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import msgspec

from polypath.worker.config import decode_config

if TYPE_CHECKING:
    from polypath.link.worker import LinkServer
    from polypath.transport.keys import WorkerLink

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_stdin() -> None:
    """End this process when standard input ends."""

    def watch() -> None:
        while sys.stdin.buffer.readline():
            pass
        os._exit(0)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def take_links(link: WorkerLink) -> LinkServer:
    """Take clients' links beside where this process takes shards."""
    from polypath.link.worker import LinkServer

    beside = link.listen.startswith("ipc://")
    address = f"unix:{link.listen.removeprefix('ipc://')}.link" if beside else link.listen
    return LinkServer(address, link.bulk, link.patience)


def end_alone(reason: str) -> None:
    """End this process, whatever its threads wait for: nobody is there to tell it anything any more."""
    logging.getLogger(__name__).error("The process ends: %s", reason)
    os._exit(1)


def main() -> None:
    """Run until told to end."""
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    status = 1
    try:
        run()
        status = 0
    except BaseException as error:
        traceback.print_exc()
        print(error, file=sys.stderr, flush=True)  # The launcher hands the last line on.
    finally:
        # Not sys.exit: threads may hang in collectives whose peers are gone, or in reading stdin.
        os._exit(status)


def run() -> None:
    """Be the worker that standard input describes."""
    config = decode_config(sys.stdin.buffer.readline())
    watch_stdin()
    from polypath.transport.keys import WorkerLink
    from polypath.transport.worker import WorkerChannel
    from polypath.worker import executors
    from polypath.worker.waits import Waits

    waits = Waits()
    executor = executors.make(config, waits)
    # Not before `make` has looked which jax this is: it imports jaxlib's internals.
    from polypath.worker.server import Worker

    link = msgspec.json.decode(config.control, type=WorkerLink)
    channel = WorkerChannel(link, end_alone)
    waits.watch_with(channel.wait)
    clients = take_links(link)
    worker = Worker(config, channel, executor, waits, clients)
    channel.on_out_of_turn(worker.take_out_of_turn)
    gc.freeze()  # What was imported stays, and is not looked through again and again.
    gc.set_threshold(10_000)  # Nor are the results of each step that has hundreds.
    try:
        worker.run()
    finally:
        clients.close()
        channel.close()


if __name__ == "__main__":
    main()
