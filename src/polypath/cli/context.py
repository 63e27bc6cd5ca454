"""What the commands share: options, the consoles, whether to show stack traces."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Final

import msgspec
import typer

_DEBUG: Final = "POLYPATH_DEBUG"

Name = Annotated[str | None, typer.Option(help="The cluster's name; the one that runs if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Hosts = Annotated[int, typer.Option(help="Worker processes.")]
DevicesPerHost = Annotated[
    int | None,
    typer.Option(help="Devices of each host: virtual ones on CPU (default 1), else its share of the machine's."),
]
Islands = Annotated[int, typer.Option(help="Equal groups of hosts; a program runs within one.")]
Platform = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, rocm, tpu, a PJRT plugin's name, or simulated (runs nothing); what jaxlib finds if not given."
    ),
]
Fanout = Annotated[
    int | None,
    typer.Option(
        help="Hosts below one process (64): more get relays. Of simulated hosts, those that share a process (1250)."
    ),
]


def debugging() -> bool:
    """Whether errors come with their stack traces."""
    return os.environ.get(_DEBUG, "0") not in ("", "0")


def set_debugging() -> None:
    """Turn stack traces on, here and in what is started from here."""
    os.environ[_DEBUG] = "1"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
