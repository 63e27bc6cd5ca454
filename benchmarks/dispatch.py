"""What one call costs: Polypath beside JAX in process, multi-controller JAX and Ray.

    python benchmarks/dispatch.py [--quick] [--rounds N] [--json OUT] [--ray-python PYTHON] [--only NAME]

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import machine
import typer
from lineup import Contender, Effort, lineup
from rich.console import Console
from runner import ContenderFailed, adopt_orphans, run
from table import render

FULL: Final = Effort(calls=1000, burst=2400)
QUICK: Final = Effort(calls=200, burst=480)
NOT_INSTALLED: Final = "not installed: pip install --group bench"


@dataclass
class Row:
    """One contender and what its rounds brought."""

    contender: Contender
    rounds: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    missing: str = ""
    error: str = ""
    said: str = ""

    def measure(self, effort: Effort, limit: float) -> None:
        try:
            line = run(self.contender.commands(effort), limit)
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
            "devices": self.contender.devices,
            "rounds": self.rounds,
            "note": self.error or self.missing,
        }


def main(
    *,
    rounds: Annotated[int | None, typer.Option(min=1, help="Times that each is run: 5, or 1 if quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer calls: a glance, in under 90 s.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write each round there.")] = None,
    ray_python: Annotated[str, typer.Option(help="A Python that has ray[cgraph].")] = sys.executable,
    only: Annotated[str, typer.Option(help="Leave out the contenders without this in their name.")] = "",
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one run of a contender may take.")] = 120,
) -> None:
    """Compare what one call costs on Polypath with what it costs elsewhere."""
    effort = QUICK if quick else FULL
    rounds = rounds or (1 if quick else 5)
    facts = machine.describe()
    rows = [Row(contender) for contender in lineup(ray_python) if only.lower() in contender.name.lower()]
    if not rows:
        raise typer.BadParameter(f"No contender has {only!r} in its name.", param_hint="--only")
    progress = Console(stderr=True)
    adopt_orphans()
    # A SIGTERM takes the contenders down as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in range(1, rounds + 1):
        for row in rows:
            if not (row.error or row.missing):
                progress.print(
                    f"round {number} of {rounds}: {row.contender.name}, {row.contender.devices}", style="dim"
                )
                row.measure(effort, limit)

    versions = machine.versions("polypath", "jax", "jaxlib", "grpcio", "pyzmq")
    for row in rows:
        versions = row.versions | versions
    command = shlex.join(sys.orig_argv)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(render([(r.contender, r.rounds, r.error or r.missing) for r in rows], rounds, effort))
    console.print(f"Command: {command}", highlight=False, soft_wrap=True)
    for title, group in (("Machine", facts), ("Versions", versions)):
        text = ", ".join(f"{name} {value}" for name, value in group.items())
        console.print(f"{title}: {text}", highlight=False, soft_wrap=True)
    if json_file:
        report = {"command": command, "machine": facts, "versions": versions, "rounds": [row.report() for row in rows]}
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    failed = [row for row in rows if row.error]
    for row in failed:
        progress.print(f"\n{row.contender.name}, {row.contender.devices}: {row.error}", style="red", markup=False)
        progress.print(row.said, style="dim", markup=False, highlight=False)
    raise typer.Exit(bool(failed))


if __name__ == "__main__":
    typer.run(main)
