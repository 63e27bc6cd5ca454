"""`polypath up` and `polypath down`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Generator
from typing import Annotated, Any, Final

import typer

from polypath.cli.context import DevicesPerHost, Fanout, Hosts, Islands, Json, Name, Platform, debugging, print_json
from polypath.errors import ClusterError, NotRunning
from polypath.launch import runtime_dir
from polypath.launch.config import HeadReply
from polypath.launch.head_process import STOP_GRACE, HeadProcess
from polypath.processes import Family

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    *,
    hosts: Hosts = 1,
    devices_per_host: DevicesPerHost = None,
    platform: Platform = None,
    islands: Islands = 1,
    fanout: Fanout = None,
    name: Annotated[str, typer.Option(help="The cluster's name.")] = runtime_dir.DEFAULT_NAME,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the cluster is up; `polypath down` ends it.")
    ] = False,
    json: Json = False,
) -> None:
    """Start a cluster on this machine."""
    with (
        interruptible(),
        starting(hosts, devices_per_host, platform, islands, name, fanout=fanout, tied=not detach) as head,
    ):
        reply = head.reply
        address = reply.address or head.config.address
        if json:
            print_json({"name": name, "address": address, "platform": reply.platform, "devices": reply.devices})
        elif detach:
            typer.echo(address)
        else:
            typer.echo(_banner(name, address, reply), err=True)
        sys.stdout.flush()
        if detach:
            head.detach()
        else:
            _stay(head)


@contextlib.contextmanager
def starting(
    hosts: int,
    devices_per_host: int | None,
    platform: str | None,
    islands: int,
    name: str,
    *,
    fanout: int | None,
    tied: bool,
) -> Generator[HeadProcess]:
    """A cluster that is up, taken down at the end unless it was detached."""
    head = HeadProcess.start(
        name,
        hosts=hosts,
        devices_per_host=devices_per_host,
        islands=islands,
        platform=platform,
        fanout=fanout,
        tied=tied,
        debug=debugging(),
    )
    try:
        with spinner(f"Starting {hosts} host{'s' * (hosts != 1)} ..."):
            head.wait_ready()
        yield head
    finally:
        with spinner("Taking the cluster down ..."), uninterrupted():
            head.close()


def down(
    name: Name = None,
    everything: Annotated[bool, typer.Option("--all", help="Every cluster of this user.")] = False,
) -> None:
    """Take a cluster down, and remove what a dead one left."""
    names = [record.name for record in runtime_dir.records()] if everything else [name or runtime_dir.any_name()]
    for each in names:
        _take_down(each)
    if everything and not names:
        typer.echo("No cluster runs.", err=True)


def _take_down(name: str) -> None:
    path = runtime_dir.root_path() / name
    record = runtime_dir.read(name) if not _is_damaged(name) else None
    if record is None and not path.exists():
        raise NotRunning(f"No cluster named {name!r} runs: see `polypath status`.")
    if record is not None and not record.stale:
        members = Family(record.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        with spinner(f"Taking {name!r} down ..."):
            members.end(STOP_GRACE)
        done = f"Cluster {name!r} is down."
    else:
        done = f"Cluster {name!r} was dead already; what it left is removed."
    # The head removed its files; this is for one that could not.
    if path.exists():
        runtime_dir.remove_stale(name)
    typer.echo(done, err=True)


def _is_damaged(name: str) -> bool:
    try:
        runtime_dir.read(name)
    except runtime_dir.DamagedRecord:
        return True
    return False


def _banner(name: str, address: str, reply: HeadReply) -> str:
    flag = "" if name == runtime_dir.DEFAULT_NAME else f" --name {name}"
    return (
        f"Cluster {name!r} is up with {reply.devices} {reply.platform} devices at {address}\n"
        f'In another shell: eval "$(polypath env{flag})" and run any JAX script. Ctrl-C ends the cluster.'
    )


def _stay(head: HeadProcess) -> None:
    """Until the head ends (`polypath down`), or we are interrupted."""
    how = head.wait()
    if how != "exited with status 0":
        raise ClusterError(f"The cluster's head {how}: start it again with `polypath up`.")


@contextlib.contextmanager
def interruptible() -> Generator[None]:
    """SIGTERM and SIGHUP interrupt as Ctrl-C does; all three then end the command as they would have."""

    def interrupt(number: int, _: Any) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    except Interrupted as error:
        raise typer.Exit(128 + error.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted(BaseException):
    """One of `STOP_SIGNALS` came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def uninterrupted() -> Generator[None]:
    """Clean-up is bounded in time; a second Ctrl-C would only leave things behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def spinner(text: str) -> Generator[None]:
    """A status line on stderr, if a person looks at it."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
