"""Prints what a benchmark found, whole, and what it was made with: the command, the machine and the versions."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table

_WORDS: Final = 120
_TABLE: Final = 10_000
"""Columns at most: a table takes what it needs, on whatever terminal, as what is left out of one is lost."""


def conclude(table: Table, caption: str, facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Print a table, what one has to know to read it, and what it was made with; the command."""
    command = shlex.join(sys.orig_argv)
    Console(width=_TABLE).print(table)
    console = Console(width=_WORDS)
    console.print(caption, style="dim", markup=False, highlight=False)
    console.print(f"Command: {command}", highlight=False, soft_wrap=True)
    for title, group in (("Machine", facts), ("Versions", versions)):
        text = ", ".join(f"{name} {value}" for name, value in group.items())
        console.print(f"{title}: {text}", highlight=False, soft_wrap=True)
    return command
