"""Runs contenders in turns and prints their table: what all benchmarks that compare have in common.

Each contender runs in processes of its own, once per round, in turns, so that what else the
machine does meets all of them alike. A contender that fails keeps its row, with the error, and the
exit status is 1. Ray is not among Polypath's dependencies: `pip install --group bench` (pip 25.1 or
newer), or name the Python of another environment that has `ray[cgraph]`.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import machine
import typer
from lineup import Contender
from rich.console import Console, RenderableType
from runner import ContenderFailed, adopt_orphans, run
from table import render

NOT_INSTALLED: Final = "not installed: pip install --group bench"

Rounds = Annotated[int | None, typer.Option(min=1, help="Times that each is run: 5, or 1 if quick.")]
Quick = Annotated[bool, typer.Option("--quick", help="Less of everything: a glance.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write each round there.")]
RayPython = Annotated[str, typer.Option(help="A Python that has ray[cgraph].")]
Only = Annotated[str, typer.Option(help="Leave out the contenders without this in their name or group.")]
Limit = Annotated[float, typer.Option(min=1, help="Seconds that one run of a contender may take.")]


@dataclass
class Row:
    """One contender and what its rounds brought."""

    contender: Contender
    rounds: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    missing: str = ""
    error: str = ""
    said: str = ""

    def measure(self, limit: float) -> None:
        try:
            line = run(self.contender.commands(), limit)
        except (ContenderFailed, OSError) as error:
            self.error = str(error)
            self.said = error.said if isinstance(error, ContenderFailed) else ""
            return
        if "missing" in line:
            self.missing = NOT_INSTALLED
            return
        self.rounds.append(line["samples"])
        self.versions = line["versions"]

    def report(self) -> dict[str, Any]:
        return {
            "name": self.contender.name,
            "group": self.contender.group,
            "rounds": self.rounds,
            "note": self.error or self.missing,
        }


def compare(
    title: str,
    contenders: Sequence[Contender],
    metrics: Mapping[str, str],
    caption: str,
    *,
    rounds: int,
    warm_up: bool = False,
    only: str = "",
    limit: float = 120,
    json_file: Path | None = None,
) -> None:
    """Measure, print, and end the process with 1 if a contender failed.

    `metrics` are the headings of the table's columns by the names of samples; with `warm_up` a
    first round counts for nothing.
    """
    facts = machine.describe()
    rows = [Row(each) for each in contenders if only.lower() in f"{each.name} {each.group}".lower()]
    if not rows:
        raise typer.BadParameter(f"No contender has {only!r} in its name.", param_hint="--only")
    progress = Console(stderr=True)
    adopt_orphans()
    # A SIGTERM takes the contenders down as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in range(0 if warm_up else 1, rounds + 1):
        for row in rows:
            if not (row.error or row.missing):
                name = f"{row.contender.name}, {row.contender.group}"
                progress.print(f"round {number} of {rounds}: {name}", style="dim")
                row.measure(limit)
                if number == 0:
                    row.rounds.clear()

    versions = machine.versions("polypath", "jax", "jaxlib", "grpcio", "pyzmq")
    for row in rows:
        versions = row.versions | versions
    results = [(row.contender, row.rounds, row.error or row.missing) for row in rows]
    command = conclude(render(title, metrics, results, f"{_how(rounds)}\n{caption}"), facts, versions)
    if json_file:
        report = {"command": command, "machine": facts, "versions": versions, "rounds": [row.report() for row in rows]}
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    failed = [row for row in rows if row.error]
    for row in failed:
        progress.print(f"\n{row.contender.name}, {row.contender.group}: {row.error}", style="red", markup=False)
        progress.print(row.said, style="dim", markup=False, highlight=False)
    raise typer.Exit(bool(failed))


def conclude(result: RenderableType, facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Print a result with the command, the machine and the versions that it was made with; the command."""
    command = shlex.join(sys.orig_argv)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(result)
    console.print(f"Command: {command}", highlight=False, soft_wrap=True)
    for title, group in (("Machine", facts), ("Versions", versions)):
        text = ", ".join(f"{name} {value}" for name, value in group.items())
        console.print(f"{title}: {text}", highlight=False, soft_wrap=True)
    return command


def _how(rounds: int) -> str:
    how = f"Medians of {rounds} rounds, in turns; dim: min–max." if rounds > 1 else "One round."
    return f"{how} Each in new processes. ×: divided by Polypath's of the same group."
