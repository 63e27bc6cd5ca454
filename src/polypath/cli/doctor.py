"""`polypath doctor`: what is wrong on this machine, and how to mend it."""

from __future__ import annotations

from typing import Final

import typer

from polypath.cli import checks
from polypath.cli.context import Json, print_json

_MARKS: Final = {"ok": "[green]ok[/]     ", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}


def doctor(json: Json = False) -> None:
    """Say what is wrong on this machine, and how to mend it."""
    findings = checks.examine()
    if json:
        print_json(findings)
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False, soft_wrap=True)
        for finding in findings:
            advice = f" — {finding.advice}" if finding.advice else ""
            console.print(f"{_MARKS[finding.level]}  {escape(f'{finding.subject}: {finding.text}{advice}')}")
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
