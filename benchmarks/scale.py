"""What a step costs as hosts are added: one client, 1 to 2,500 simulated hosts of 4 devices each.

    python benchmarks/scale.py [--hosts N ...] [--fanout N] [--calls N] [--burst N]

The hosts are simulated: they get every command and answer it, and run nothing, so what is left is what
Polypath adds to a step. They share this machine's cores with the client and the head, which on a real cluster
they would not: what hosts of one process do alike is done once, and the CPU of head and hosts is given apart.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import machine
import typer
from lineup import environment
from report import conclude
from rich import box
from rich.table import Table
from runner import Command, ContenderFailed, adopt_orphans, run

DEVICES_PER_HOST: Final = 4
_SCRIPT: Final = Path(__file__).parent / "contenders" / "scale_steps.py"
COLUMNS: Final = {
    "up_s": "up\ns",
    "first_s": "first\nstep, s",
    "put_s": "put\ns",
    "get_s": "get\ns",
    "enqueue_us": "enqueue\nµs",
    "enqueue_mean_us": "mean\nµs",
    "unblocked_ms": "step\nms",
    "blocked_ms": "blocked\nms",
    "head_ms": "head's\nCPU, ms",
    "head_mib": "head\nMiB",
    "host_us": "a host's\nCPU, µs",
    "below_mib": "hosts\nMiB",
    "processes": "processes",
}


def main(
    *,
    hosts: Annotated[list[int] | None, typer.Option(min=1, help="Once for each number of hosts.")] = None,
    fanout: Annotated[int | None, typer.Option(help="Hosts that share a process; as many as fit if not given.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Blocked calls.")] = 100,
    burst: Annotated[int, typer.Option(min=1, help="Unblocked calls.")] = 1000,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one size may take.")] = 200,
) -> None:
    """Measure a step over 1 to 2,500 simulated hosts."""
    facts = machine.describe()
    adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    table = Table(title="What a step costs over many hosts", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("hosts", "devices", *COLUMNS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    failed = False
    for count in hosts or (1, 10, 100, 1000, 2500):
        shape = [f"--hosts={count}", f"--devices-per-host={DEVICES_PER_HOST}", f"--calls={calls}", f"--burst={burst}"]
        shape += [] if fanout is None else [f"--fanout={fanout}"]
        try:
            samples = run([Command([sys.executable, str(_SCRIPT), *shape], environment())], limit)["samples"]
        except ContenderFailed as error:
            failed = True
            table.add_row(f"{count:,}", f"{count * DEVICES_PER_HOST:,}", str(error))
            continue
        figures = (samples[name] for name in COLUMNS)
        table.add_row(f"{count:,}", f"{count * DEVICES_PER_HOST:,}", *(_figure(figure) for figure in figures))
    caption = (
        "A step: a jitted shard_map that psums one float32 per device.\n"
        f"blocked: median of {calls} calls, each awaited; CPU is of these, per call, and per host and call.\n"
        f"enqueue: what the client's call takes, median and mean of {burst:,} calls, each on the result before, "
        "awaited at the end; step: the time of one of these."
    )
    conclude(table, caption, facts, machine.versions("polypath", "jax", "jaxlib", "pyzmq"))
    raise typer.Exit(failed)


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    typer.run(main)
