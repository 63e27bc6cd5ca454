"""Turns a question into a command line, puts it to its contenders in turns and prints their table.

    python benchmarks/NAME.py --help

Each contender runs in processes of its own, once per round, in turns, so that what else the
machine does meets all of them alike. A contender that fails keeps its row, with the error, and the
exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from lineup import Contender, Peer
from report import conclude
from rich.console import Console
from runner import ContenderFailed, adopt_orphans, run
from table import render


@dataclass(frozen=True)
class Asked:
    """What the command line says that contenders may heed."""

    quick: bool
    switches: frozenset[str]
    pythons: Mapping[Peer, str]


@dataclass(frozen=True)
class Question:
    """What a benchmark asks, whom, and how one reads the answers."""

    title: str
    contenders: Callable[[Asked], Sequence[Contender]]
    metrics: Mapping[str, str]
    """Headings of the table's columns, by the names of samples."""
    caption: Callable[[Asked], str]
    rounds: int = 5
    limit: float = 120
    """Seconds."""
    warm_up: bool = False
    """A first round counts for nothing."""
    peers: Sequence[Peer] = ()
    switches: Mapping[str, str] = field(default_factory=dict[str, str])
    """Options of this question alone, and what they do."""

    def ask(self) -> None:
        """Ask as the command line says, print, and end the process with 1 if a contender failed."""
        parser = self._parser()
        options = parser.parse_args()
        asked = Asked(
            quick=options.quick,
            switches=frozenset(switch for switch in self.switches if vars(options)[switch]),
            pythons={peer: vars(options)[peer.option] for peer in self.peers},
        )
        wanted: str = options.only
        contenders = [c for c in self.contenders(asked) if wanted.lower() in f"{c.name} {c.group}".lower()]
        if not contenders:
            parser.error(f"no contender has {wanted!r} in its name or group: give --only another part of one")
        rounds = options.rounds or (1 if asked.quick else self.rounds)
        sys.exit(_answer(self, asked, contenders, rounds, options.limit, options.json))

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(description=f"{self.title}.", allow_abbrev=False)
        parser.add_argument("--quick", action="store_true", help="less of everything: a glance")
        parser.add_argument(
            "--rounds", type=_positive, metavar="N", help=f"times that each is run ({self.rounds}, or 1 if quick)"
        )
        parser.add_argument(
            "--only", default="", metavar="PART", help="leave out contenders without this in their name or group"
        )
        parser.add_argument(
            "--limit",
            type=float,
            default=self.limit,
            metavar="SECONDS",
            help=f"what one run of a contender may take ({self.limit:g})",
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write each round there")
        for peer in self.peers:
            parser.add_argument(
                f"--{peer.option}",
                dest=peer.option,
                default=sys.executable,
                metavar="PYTHON",
                help=f"a Python that has {peer.requirement}",
            )
        for switch, meaning in self.switches.items():
            parser.add_argument(f"--{switch}", dest=switch, action="store_true", help=meaning)
        return parser


@dataclass
class Row:
    """One contender and what its rounds brought."""

    contender: Contender
    rounds: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    note: str = ""
    """Why it has no figures; without a note it has."""
    failed: bool = False
    said: str = ""

    def measure(self, limit: float) -> None:
        try:
            line = run(self.contender.commands(), limit)
        except (ContenderFailed, OSError) as error:
            self.note, self.failed = str(error), True
            self.said = error.said if isinstance(error, ContenderFailed) else ""
            return
        if "missing" in line:
            peer = self.contender.peer
            self.note = f"not installed: {peer.how_to_install if peer else line['missing']}"
            return
        self.rounds.append(line["samples"])
        self.versions = line["versions"]

    def report(self) -> dict[str, Any]:
        return {
            "name": self.contender.name,
            "group": self.contender.group,
            "rounds": self.rounds,
            "note": self.note,
        }


def _answer(
    question: Question,
    asked: Asked,
    contenders: Sequence[Contender],
    rounds: int,
    limit: float,
    json_file: Path | None,
) -> bool:
    """Measure and print; whether a contender failed."""
    facts = machine.describe()
    rows = [Row(each) for each in contenders]
    progress = Console(stderr=True)
    adopt_orphans()
    # A SIGTERM takes the contenders down as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in range(0 if question.warm_up else 1, rounds + 1):
        for row in rows:
            if not row.note:
                name = f"{row.contender.name}, {row.contender.group}"
                progress.print(f"round {number} of {rounds}: {name}", style="dim")
                row.measure(limit)
                if number == 0:
                    row.rounds.clear()

    versions = machine.versions("polypath", "jax", "jaxlib", "grpcio", "pyzmq")
    for row in rows:
        versions = row.versions | versions
    table = render(question.title, question.metrics, [(row.contender, row.rounds, row.note) for row in rows])
    command = conclude(table, f"{_how(rounds)}\n{question.caption(asked)}", facts, versions)
    if json_file:
        report = {"command": command, "machine": facts, "versions": versions, "rounds": [row.report() for row in rows]}
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for row in rows:
        if row.note:
            name = f"{row.contender.name}, {row.contender.group}"
            progress.print(f"\n{name}: {row.note}", style="red", markup=False, soft_wrap=True)
            progress.print(row.said, style="dim", markup=False, highlight=False)
    return any(row.failed for row in rows)


def _how(rounds: int) -> str:
    how = f"Medians of {rounds} rounds, in turns; dim: min–max." if rounds > 1 else "One round."
    return f"{how} Each in new processes. ×: divided by Polypath's of the same group."


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
