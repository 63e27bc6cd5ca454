"""How `polypath status` looks."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polypath.client.status import Status

_COLOURS: Final = {"up": "green", "down": "red"}


def status_view(status: Status) -> RenderableType:
    """The cluster, its hosts, and its clients."""
    of = status.controller
    devices = sum(host.devices for host in of.hosts)
    islands = len({host.island for host in of.hosts})
    title = Text.assemble(
        ("Cluster ", "bold"),
        (status.name, "bold"),
        f": {_count(devices, f'{status.platform} device')} of {_count(len(of.hosts), 'host')} in "
        f"{_count(islands, 'island')}\n{status.address}\nhead's pid {status.pid}, jaxlib {status.version}\n",
    )
    held = f"\n{_count(of.values, 'array')} and {_count(of.executables, 'executable')} held"
    waiting = f", {_count(of.pending, 'answer')} awaited from workers" if of.pending else ""
    totals = Text(
        f"{held}{waiting}\n{_count(of.executions, 'execution')} so far; "
        f"{_count(of.compiled, 'program')} compiled, {of.found_compiled} found compiled\n"
        f"{_size(status.transport.command_bytes)} to workers, {_size(status.transport.report_bytes)} back"
    )
    return Group(title, _hosts(status), Text(), _sessions(status), totals)


def _hosts(status: Status) -> Table:
    table = Table("island", "host", "pid", "state", "devices", box=None, header_style="dim")
    for host in status.controller.hosts:
        state = Text(host.state, style=_COLOURS.get(host.state, "yellow"))
        table.add_row(str(host.island), str(host.host), str(host.pid), state, f"{host.devices} {host.kind}".strip())
    return table


def _sessions(status: Status) -> RenderableType:
    if not status.controller.sessions:
        return Text("No client is connected.")
    table = Table("client", "arrays", "executables", box=None, header_style="dim")
    for session in status.controller.sessions:
        table.add_row(session.client, str(session.arrays), str(session.executables))
    return table


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
