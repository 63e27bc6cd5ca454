"""The head: one process that joins frontend, controller, transport and launcher.

`python -m polypath.head` reads a `HeadConfig` as one line of JSON on stdin, brings the cluster
up, prints a `HeadReply` as one line on stdout, and ends on SIGTERM, SIGINT, or (if it is tied) the
end of its stdin.

Owns the process and its loop: every event reaches the controller here, every effect is done
here. Decides nothing about arrays or programs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvloop

from polypath import messages
from polypath.aio import TaskSet
from polypath.controller import events
from polypath.controller.controller import Controller
from polypath.controller.events import AnyEvent
from polypath.errors import ClusterError, PolypathError
from polypath.files import explained
from polypath.launch import runtime_dir
from polypath.launch.base import Launcher, WorkerExit, WorkerSpec
from polypath.launch.config import HeadConfig, HeadReply
from polypath.launch.local import LocalLauncher
from polypath.launch.simulated import SimulatedLauncher
from polypath.processes import raise_file_limit
from polypath.relays import Relays
from polypath.transport import HeadChannel
from polypath.transport.beats import patience
from polypath.transport.bulk import TCP
from polypath.transport.frames import FIRST_RELAY
from polypath.transport.tree import Tree
from polypath.types import HostId
from polypath.worker.config import MOST_DEVICES, WorkerConfig

if TYPE_CHECKING:
    from polypath.frontend import ClusterView, Frontend, HeadLinks
    from polypath.status import Status

log = logging.getLogger(__name__)

_LEAVING: Final = 30.0
"""Seconds until a host that is told to leave must have begun to."""


class Head:
    """One cluster. `run()` is its whole life."""

    def __init__(self, config: HeadConfig) -> None:
        self._config = config
        size = config.hosts // config.islands
        hosts = range(config.hosts)
        self._controller = Controller(
            [hosts[at : at + size] for at in range(0, config.hosts, size)], f"{config.shared_dir}/snapshots"
        )
        self._tasks = TaskSet(self._broke)
        self._incarnations: dict[HostId, int] = {}
        self._first_cause = ""
        self._failed = False
        self._up = asyncio.Event()
        self._over = asyncio.Event()
        self._channel = HeadChannel(
            f"unix:{config.runtime_dir}/workers",
            self.handle,
            self._told_of_end,
            self._silent,
            elsewhere=bool(config.addresses),
        )
        self._launcher = self.make_launcher(config, self._exited, self._relay_ended)
        tree = Tree(config.hosts, config.fanout, always=config.simulates is not None)
        self._relays = Relays(tree, self._channel, self._launcher, f"ipc://{config.runtime_dir}/r", self._cut_off)
        self._frontend: Frontend | None = None
        self._links: HeadLinks | None = None
        self._effects: dict[type, Callable[[Any], object]] = {
            events.Send: self._send,
            events.Start: lambda effect: self._tasks.start(self._start(effect)),
            events.Stop: lambda effect: self._tasks.start(self._launcher.kill(effect.host)),
        }

    def make_launcher(
        self, config: HeadConfig, exited: Callable[[WorkerExit], None], relay_ended: Callable[[int, str], None]
    ) -> Launcher:
        """What starts the workers: on this machine, unless a subclass knows others."""
        if config.simulates is not None:
            return SimulatedLauncher(exited, relay_ended, log_dir=Path(config.log_dir))
        return LocalLauncher(exited, relay_ended, log_dir=Path(config.log_dir), platform=config.platform)

    async def run(self, announce: Callable[[HeadReply], None]) -> None:
        """Bring the cluster up, announce it (or why not), serve until the end, take it down."""
        try:
            for effect in self._controller.start():
                self._effects[type(effect)](effect)
            await asyncio.sleep(0)  # The workers' processes are made; they load what they need while we do.
            frontend, links = self._make_frontend()
            up, over = self._tasks.start(self._up.wait()), self._tasks.start(self._over.wait())
            await asyncio.wait((up, over), return_when=asyncio.FIRST_COMPLETED)
            if self._controller.given_up or self._failed:
                announce(HeadReply(error=self._why_not()))
                return
            if self._over.is_set():
                return
            gc.freeze()  # What was imported stays, and is not looked through again and again.
            gc.set_threshold(10_000)  # Nor are the handles of each step with hundreds of arrays.
            with explained(self._config.link):
                await links.serve(Path(self._config.link))
            with explained(self._config.socket):
                await frontend.serve(f"unix:{self._config.socket}")
            view = self._view()
            runtime_dir.mark_ready(self._config, view.platform.name, len(view.primary))
            announce(
                HeadReply(
                    ready=True,
                    address=self._config.address,
                    platform=view.platform.name,
                    devices=len(view.primary),
                )
            )
            await self._over.wait()
        except PolypathError as error:
            announce(HeadReply(error=str(error)))
        finally:
            if self._links is not None:
                await self._links.stop()  # Before sessions end, as they do for no other reason now.
            if self._frontend is not None:
                await self._frontend.stop()
            await self._launcher.stop()
            await self._tasks.cancel()
            self._channel.close()

    def _make_frontend(self) -> tuple[Frontend, HeadLinks]:
        from polypath.frontend import Control, Frontend, HeadLinks

        self._links = links = HeadLinks(lambda: self._channel.bulk, patience())
        self._frontend = frontend = Frontend(
            self.handle,
            self._view,
            control=Control(self.status),
            links=links,
        )
        self._effects |= {
            events.Reply: frontend.deliver,
            events.Call: frontend.call,
            events.Release: frontend.release,
            events.Unanswerable: lambda effect: links.fail(effect.link, effect.number),
            events.Located: lambda effect: links.locate(effect.host),
        }
        return frontend, links

    def end(self) -> None:
        """Have `run()` return soon."""
        self._over.set()

    def _broke(self, error: BaseException) -> None:
        """A bug of ours: better no head than one that waits for what will never come."""
        log.error("The head failed.", exc_info=error)
        self._failed = True
        self._first_cause = self._first_cause or f"the head itself failed ({error!r}); please report it"
        self.end()

    def handle(self, event: AnyEvent) -> None:
        """Tell the controller, and do what it wants done."""
        for effect in self._controller.handle(event):
            self._effects[type(effect)](effect)
        if not self._up.is_set() and (self._controller.complete or self._controller.given_up):
            self._up.set()

    def status(self) -> Status:
        from polypath.status import Status

        assert self._frontend is not None, "only a client asks"
        platform = self._controller.platform
        return Status(
            self._config.name,
            self._config.address,
            os.getpid(),
            platform.name if platform else "",
            platform.jaxlib if platform else "",
            self._controller.statistics(),
            self._channel.statistics(),
            self._frontend.statistics(),
        )

    # --- Effects ------------------------------------------------------------------------------

    def _send(self, effect: events.Send) -> None:
        self._channel.send(effect.hosts, effect.sequence, effect.command)
        if isinstance(effect.command, messages.Snapshot):
            for host in effect.hosts:
                self._expect_to_leave(host, effect.command)

    def _expect_to_leave(self, host: HostId, command: messages.Snapshot) -> None:
        """End a host that does not take the command: its apply loop may be held up in XLA behind a lost host."""
        incarnation, told = self._incarnations[host], time.time()

        def look() -> None:
            if self._incarnations[host] == incarnation and not _changed_since(command.path, told):
                cause = f"was told to leave, as its island lost another host, and had not begun to after {_LEAVING:g} s"
                log.warning("Host %d is ended: it %s.", host, cause)
                self._tasks.start(self._launcher.kill(host, cause))

        asyncio.get_running_loop().call_later(_LEAVING, look)

    async def _start(self, effect: events.Start) -> None:
        """Start an island's workers as one group, with the service through which they form it."""
        try:
            pids = await self._launch(effect)
        except ClusterError as error:
            self._first_cause = self._first_cause or str(error)
            for host in effect.hosts:
                self.handle(events.WorkerLost(host, str(error)))
            return
        for host, pid in pids.items():
            self.handle(events.WorkerStarted(host, effect.island, pid))

    async def _launch(self, effect: events.Start) -> dict[HostId, int]:
        config = self._config
        # No port: the service asks nobody for a key, and a port of 127.0.0.1 is open to every user of the machine.
        address = f"unix:{config.runtime_dir}/g{effect.island}"
        simulates = config.simulates
        platform = config.platform or "" if simulates is None else "null"
        stride = config.devices_per_host or (1 if platform in ("cpu", "null") else MOST_DEVICES)
        specs: list[WorkerSpec] = []
        await self._relays.start_for(effect.hosts)
        for node, host in enumerate(effect.hosts):
            incarnation = self._incarnations[host] = self._incarnations.get(host, 0) + 1
            beside = f"ipc://{config.runtime_dir}/w{host}.{incarnation}"
            listen = f"{TCP}{config.addresses[host]}" if config.addresses else beside
            link = self._channel.link(host, incarnation, listen, self._relays.of(host))
            worker = WorkerConfig(
                host=host,
                island=effect.island,
                node=node,
                nodes=len(effect.hosts),
                islands=config.islands,
                first_device=host * stride,
                platform=platform,
                simulates=simulates or "",
                devices=config.devices_per_host or 0,
                group_address=address,
                cache_dir=config.cache_dir,
                snapshot=effect.snapshots.get(host, ""),
                control=msgspec.Raw(msgspec.json.encode(link)),
            )
            specs.append(WorkerSpec(host, msgspec.json.encode(worker)))
        grouped = len(specs) > 1 and platform != "null"
        rendezvous = msgspec.json.encode({"address": address, "nodes": len(specs)}) if grouped else None
        await self._channel.settled()
        return await self._launcher.start(effect.island, specs, rendezvous)

    def _exited(self, exit_: WorkerExit) -> None:
        self._first_cause = self._first_cause or f"host {exit_.host}'s worker {exit_.cause}"
        log.warning("Host %d's worker (pid %d) ended: %s", exit_.host, exit_.pid, exit_.cause)
        self._channel.drop(exit_.host)
        _remove_sockets(self._config.runtime_dir, exit_.host)
        self.handle(events.WorkerLost(exit_.host, exit_.cause))

    def _told_of_end(self, host: HostId, words: bytes) -> None:
        self._launcher.told_of_end(host, words)

    def _relay_ended(self, relay: int, cause: str) -> None:
        self._first_cause = self._first_cause or f"a relay {cause}"
        self._relays.ended(relay, cause)

    def _cut_off(self, host: HostId, cause: str) -> None:
        """A host below a lost relay is of no use: its end is told of as any other's."""
        self._tasks.start(self._launcher.kill(host, cause))

    def _silent(self, node: int, seconds: float) -> None:
        """End a worker or a relay that gives no sign of life. That ends also a process that is stopped."""
        cause = f"did not answer for {seconds:g} s: is it stopped, or its network cut?"
        if node < FIRST_RELAY:
            log.warning("Host %d is ended: it %s", node, cause)
            self._tasks.start(self._launcher.kill(node, cause))
        else:
            log.warning("Relay %d is ended: it %s", node - FIRST_RELAY, cause)
            self._tasks.start(self._launcher.kill_relay(node, cause))

    def _view(self) -> ClusterView:
        from polypath.frontend import ClusterView

        platform = self._controller.platform
        assert platform is not None, "the frontend serves once the workers are up"
        return ClusterView(self._config.name, platform, self._controller.devices)

    def _why_not(self) -> str:
        return (
            f"Cluster {self._config.name} did not come up: {self._first_cause.rstrip('.?')}; "
            "`polypath doctor` looks for what is wrong on this machine."
        )


def _changed_since(folder: str, moment: float) -> bool:
    """Whether something was made in a folder since then; file systems are a few milliseconds behind the clock."""
    with contextlib.suppress(FileNotFoundError):
        return Path(folder).stat().st_mtime > moment - 1
    return False


def _remove_sockets(folder: str, host: HostId) -> None:
    for path in Path(folder).glob(f"w{host}.*"):
        path.unlink(missing_ok=True)


def _announce(reply: HeadReply) -> None:
    with contextlib.suppress(BrokenPipeError):  # Whoever started us is gone; if we are tied, so are we.
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


async def _main(config: HeadConfig, make: Callable[[HeadConfig], Head]) -> None:
    loop = asyncio.get_running_loop()
    try:
        with explained(config.runtime_dir):
            head = make(config)
    except ClusterError as error:
        _announce(HeadReply(error=str(error)))
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, head.end)
    if config.tied:
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else head.end())
    await head.run(_announce)


def main(make: Callable[[HeadConfig], Head] = Head) -> None:
    """The process, of the head that `make` makes."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=HeadConfig)
    raise_file_limit()
    logging.basicConfig(
        level=logging.DEBUG if config.debug else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        uvloop.run(_main(config, make))
    finally:
        runtime_dir.remove(config)


if __name__ == "__main__":
    main()
