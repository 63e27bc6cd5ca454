"""How a report looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from polypath.conformance.explained import Explanation
from polypath.conformance.report import FileReport, Report, grouped

_MOST: Final = 0.99
"""A file from here up is not alarming."""


def progress_line(report: FileReport) -> str:
    """A file that is done, in a line."""
    notes = f"  {'; '.join(report.notes)}" if report.notes else ""
    times = f"{report.plain_seconds:.0f} s plain, {report.here_seconds:.0f} s here"
    return f"{report.file}: {report.passed} of {report.counted} ({times}){notes}"


def report_view(report: Report, explanations: Sequence[Explanation]) -> RenderableType:
    """The files, the tests that differ and why, and the sum."""
    parts: list[RenderableType] = [_files(report)]
    for group in grouped(report.differences, list(explanations)):
        why = group.explanation
        parts.append(Text(f"\n{why.kind.heading}: {why.why}" if why else f"\n{group.reason}", style="bold"))
        for pair in group.pairs:
            parts.append(Padding(Text(pair.name if why is None else f"{pair.name}: {pair.reason}"), (0, 0, 0, 2)))
    parts.append(Text(f"\n{summary(report)}", style="bold"))
    return Group(*parts)


def summary(report: Report) -> str:
    """The sum, in a sentence."""
    share = f" ({100 * report.passed / report.counted:.2f} %)" if report.counted else ""
    return f"{report.passed} of the {report.counted} tests that pass on plain JAX pass here{share}."


def _files(report: Report) -> Table:
    table = Table("file", "here", "plain", "notes", box=None, header_style="dim")
    for file in report.files:
        style = "green" if file.passed == file.counted else "yellow" if file.passed >= _MOST * file.counted else "red"
        table.add_row(file.file, Text(str(file.passed), style), str(file.counted), "; ".join(file.notes))
    return table
