"""The table of `dispatch.py`: medians of the rounds, ratios to Polypath, and the spread in a dim line."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from lineup import Contender, Effort
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

AWAIT_EVERY: Final = 24
"""As in `contenders/jax_steps.py`."""

METRICS: Final = {
    "add_blocked_us": "add\nblocked, µs",
    "add_per_s": "add\ncalls/s",
    "psum_blocked_us": "psum\nblocked, µs",
    "psum_per_s": "psum\ncalls/s",
}

Rounds = Sequence[dict[str, float]]


def render(rows: Sequence[tuple[Contender, Rounds, str]], rounds: int, effort: Effort) -> Group:
    """The table and what one has to know to read it; `rows` are contenders, their rounds and a note."""
    table = Table(title="What one call costs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("contender", max_width=32)
    for heading in METRICS.values():
        table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("\n×", justify="right", no_wrap=True)
    polypath: dict[str, float] = {}
    devices = ""
    for contender, measured, note in rows:
        if contender.devices != devices:
            devices = contender.devices
            # Polypath opens each section; where it has no figures there is nothing to compare with.
            polypath = _medians(measured) if contender.name.startswith("Polypath") else {}
            table.add_section()
            table.add_row(f"[italic]{devices}")
        cells = [cell for metric in METRICS for cell in _cells(metric, measured, polypath)]
        table.add_row(contender.name, *cells)
        if note:
            table.add_row(f"[red]{escape(note)}")
    return Group(table, Text(_caption(rounds, effort), style="dim"))


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
    ratio = _ratio(median / polypath[metric]) if metric in polypath else ""
    spread = f"\n[dim]{_figure(min(figures))}–{_figure(max(figures))}" if len(figures) > 1 else ""
    return _figure(median) + spread, ratio


def _figure(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _ratio(value: float) -> str:
    digits = 3 if value < 0.1 else 2 if value < 10 else 0
    return f"{value:,.{digits}f}"


def _caption(rounds: int, effort: Effort) -> str:
    how = f"Medians of {rounds} rounds, in turns; dim: min–max." if rounds > 1 else "One round."
    return "\n".join(
        (
            f"{how} Each in new processes. ×: divided by Polypath's on the same devices.",
            "add: a jitted int32 scalar + 1. psum: a jitted shard_map that psums one float32 per device. CPU devices.",
            f"blocked: median of {effort.calls:,} calls, each awaited. calls/s: {effort.burst:,} calls, each on the "
            "result before, awaited at the end;",
            f"psum also every {AWAIT_EVERY} calls, for every contender alike: about 32 unawaited deadlock XLA's "
            "CPU collectives.",
            "Multi-controller: figures of the first of its processes; its add runs in that process alone.",
            "Ray: an actor's method that adds two floats, without JAX: a lower bound. Its compiled graph has at most "
            "10 calls in flight.",
        )
    )
