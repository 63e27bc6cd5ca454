"""`polypath env`, `status` and `logs`: what there is, without changing it."""

from __future__ import annotations

import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Final

import typer

from polypath.cli.context import Json, Name, print_json
from polypath.client.environment import client_environment
from polypath.errors import ClusterError
from polypath.launch import runtime_dir
from polypath.launch.runtime_dir import ClusterRecord

_FOLLOW_EVERY: Final = 0.2
"""Seconds."""
_NUMBERED: Final = ("relay", "rendezvous", "worker")
"""What has a log for each of its processes, by its number: an island's, of a rendezvous."""


def env(name: Name = None, json: Json = False) -> None:
    """Print what a JAX script needs to use the cluster: eval "$(polypath env)"."""
    variables = client_environment(_ready(name).address)
    if json:
        print_json(variables)
    else:
        for key, value in variables.items():
            typer.echo(f"export {key}={shlex.quote(value)}")


def status(name: Name = None, json: Json = False) -> None:
    """Show what the cluster consists of and holds."""
    from polypath.client.status import read_status

    found = read_status(_ready(name).address)
    if json:
        print_json(found)
    else:
        from rich.console import Console

        from polypath.cli.render import status_view

        Console().print(status_view(found))


def logs(
    name: Name = None,
    host: Annotated[int | None, typer.Option(help="Only this host's worker.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines of each.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is written.")] = False,
) -> None:
    """Print what the head, the workers, their relays and their rendezvous wrote."""
    record = runtime_dir.read(name) if name is not None else None  # A dead cluster's logs are worth most.
    if record is None:
        record = runtime_dir.find(name)
    folder = Path(record.log_dir)
    if host is not None and not 0 <= host < record.hosts:
        raise ClusterError(f"Cluster {record.name!r} has no host {host}: its hosts are 0 to {record.hosts - 1}.")
    offsets: dict[Path, int] = {}
    for path in _files(folder, host):
        data = _read(path)
        offsets[path] = len(data)
        for line in deque(data.decode(errors="replace").splitlines(), maxlen=lines):
            _print_line(path, host, line)
    if follow:
        _follow(record, folder, host, offsets)


def _follow(record: ClusterRecord, folder: Path, host: int | None, offsets: dict[Path, int]) -> None:
    while True:
        over = record.stale or not folder.exists()
        for path in _files(folder, host):
            data = _read(path, offsets.get(path, 0))
            whole = data[: data.rfind(b"\n") + 1]
            offsets[path] = offsets.get(path, 0) + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                _print_line(path, host, line)
        sys.stdout.flush()
        if over:
            return
        time.sleep(_FOLLOW_EVERY)


def _files(folder: Path, host: int | None) -> list[Path]:
    if host is not None:
        path = folder / f"worker-{host}.log"
        return [path] if path.exists() else []
    numbered = [path for kind in _NUMBERED for path in sorted(folder.glob(f"{kind}-*.log"), key=_number)]
    return [path for path in (folder / "head.log", *numbered) if path.exists()]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _read(path: Path, offset: int = 0) -> bytes:
    """What a log has from `offset` on; nothing if the cluster has just ended and removed it."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""


def _print_line(path: Path, host: int | None, line: str) -> None:
    typer.echo(line if host is not None else f"{path.stem}: {line}")


def _ready(name: str | None) -> ClusterRecord:
    record = runtime_dir.find(name)
    if not record.ready:
        raise ClusterError(f"Cluster {record.name!r} is still starting: try again in a moment.")
    return record
