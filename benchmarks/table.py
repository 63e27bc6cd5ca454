"""The table of a comparison: medians of the rounds, ratios to Polypath, and the spread in a dim line."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from lineup import Contender
from rich import box
from rich.markup import escape
from rich.table import Table

Rounds = Sequence[dict[str, float]]


def render(title: str, metrics: Mapping[str, str], rows: Sequence[tuple[Contender, Rounds, str]]) -> Table:
    """`rows` are contenders, their rounds and a note."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("contender", min_width=22, max_width=32, overflow="fold")
    # What only Polypath has is compared with nothing.
    compared = {metric for contender, measured, _ in rows if not _is_ours(contender) for metric in _medians(measured)}
    for metric, heading in metrics.items():
        table.add_column(heading, justify="right", no_wrap=True)
        if metric in compared:
            table.add_column("×", justify="right", no_wrap=True)
    polypath: dict[str, float] = {}
    group = ""
    for contender, measured, note in rows:
        if contender.group != group:
            group = contender.group
            # Polypath opens each group; where it has no figures there is nothing to compare with.
            polypath = _medians(measured) if _is_ours(contender) else {}
            table.add_section()
            table.add_row(f"[italic]{group}")
        cells: list[str] = []
        for metric in metrics:
            figure, ratio = _cells(metric, measured, polypath)
            cells += [figure, ratio] if metric in compared else [figure]
        table.add_row(contender.name, *cells)
        if note:
            table.add_row(f"[red]{escape(note)}")
    return table


def _is_ours(contender: Contender) -> bool:
    return contender.name.startswith("Polypath")


def _medians(measured: Rounds) -> dict[str, float]:
    return {
        metric: statistics.median(each[metric] for each in measured) for metric in (measured[0] if measured else ())
    }


def _cells(metric: str, measured: Rounds, polypath: dict[str, float]) -> tuple[str, str]:
    """The figure over its spread, and its ratio."""
    figures = [each[metric] for each in measured if metric in each]
    if not figures:
        return "—", ""
    median = statistics.median(figures)
    ratio = _ratio(median / polypath[metric]) if polypath.get(metric) else ""
    spread = f"\n[dim]{_figure(min(figures))}–{_figure(max(figures))}" if len(figures) > 1 else ""
    return _figure(median) + spread, ratio


def _figure(value: float) -> str:
    digits = 0 if value >= 100 or value == 0 else 1 if value >= 1 else 2
    return f"{value:,.{digits}f}"


def _ratio(value: float) -> str:
    digits = 3 if value < 0.1 else 2 if value < 10 else 0
    return f"{value:,.{digits}f}"
