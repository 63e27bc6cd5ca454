"""What moving an array costs: Polypath beside JAX in process and one TCP stream.

    python benchmarks/transfers.py [--rounds N] [--most BYTES] [--before CHECKOUT]

Each contender runs in processes of its own, once per round, in turns. One that fails keeps its row, with the
error, and the exit status is 1.
"""

from __future__ import annotations

import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import machine
import typer
from lineup import cluster_of, environment
from report import conclude
from rich import box
from rich.console import Console
from rich.table import Table
from runner import Command, ContenderFailed, adopt_orphans, run

_SCRIPTS: Final = Path(__file__).parent / "contenders"
_SIZES: Final = {"1 KiB": 1 << 10, "64 KiB": 1 << 16, "1 MiB": 1 << 20, "64 MiB": 64 << 20, "1 GiB": 1 << 30}
_CAPTION: Final = (
    "Medians in ms. up: device_put of an ordinary numpy array, waited for; aligned: of one that begins at a multiple "
    "of 64 bytes, which JAX in process does not copy. down: np.asarray of a computed array, which JAX in process "
    "does not copy either; copied: np.array of it, which it does. Every result is dropped before the next transfer."
)
_METRICS: Final = {"put": "up", "put aligned": "up, aligned", "get": "down", "get copied": "down, copied"}

Make = Callable[[Sequence[int], int], Command]


def _jax(variables: dict[str, str], cluster: bool, *more: str) -> Make:
    def make(sizes: Sequence[int], times: int) -> Command:
        script = [str(_SCRIPTS / "jax_transfers.py"), *more, f"--times={times}", "--sizes", *map(str, sizes)]
        return Command([*cluster_of(1, 1), *script] if cluster else [sys.executable, *script], environment(**variables))

    return make


def _tcp(sizes: Sequence[int], times: int) -> Command:
    script = str(_SCRIPTS / "tcp_stream.py")
    return Command([sys.executable, script, f"--times={times}", "--sizes", *map(str, sizes)], environment())


_CONTENDERS: Final[dict[str, Make]] = {
    "Polypath": _jax({}, True),
    "JAX in process": _jax({"JAX_PLATFORMS": "cpu"}, False),
    "Polypath, jaxlib's client": _jax({}, True, "--stock"),
    "TCP stream": _tcp,
}


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each is run.")] = 3,
    times: Annotated[int, typer.Option(min=7, help="Transfers of each size in a run; fewer of the largest.")] = 9,
    most: Annotated[int, typer.Option(help="Leave out sizes above this.")] = 1 << 30,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one run of a contender may take.")] = 200,
    before: Annotated[Path | None, typer.Option(help="An earlier checkout of Polypath to compare with.")] = None,
) -> None:
    """Compare what moving an array costs on Polypath with what it costs elsewhere."""
    sizes = {name: size for name, size in _SIZES.items() if size <= most}
    facts = machine.describe()
    progress = Console(stderr=True)
    adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    contenders = dict(_CONTENDERS)
    if before is not None:
        contenders["Polypath before"] = _jax({"PYTHONPATH": str(before / "src")}, True)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    errors: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name, make in contenders.items():
            if name in errors:
                continue
            progress.print(f"round {number} of {rounds}: {name}", style="dim")
            # What is slow by a hundred times is not waited for at the largest size.
            chosen = [size for size in sizes.values() if size < 1 << 30 or "jaxlib" not in name]
            try:
                found[name].append(run([make(chosen, times)], limit)["samples"])
            except (ContenderFailed, OSError) as error:
                errors[name] = str(error)
    conclude(_table(sizes, found, errors), _CAPTION, facts, machine.versions("polypath", "jax", "jaxlib", "pyzmq"))
    raise typer.Exit(bool(errors))


def _table(sizes: dict[str, int], found: dict[str, list[dict[str, float]]], errors: dict[str, str]) -> Table:
    table = Table(title="What moving an array costs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("contender")
    table.add_column("")
    for size in sizes:
        table.add_column(size, justify="right", no_wrap=True)
    for contender, rounds in found.items():
        table.add_section()
        for metric, label in _METRICS.items():
            cells: list[str] = []
            for size in sizes.values():
                figures = [each[f"{metric} {size}"] for each in rounds if f"{metric} {size}" in each]
                cells.append(f"{statistics.median(figures) * 1e3:,.3f}" if figures else "—")
            if any(cell != "—" for cell in cells):
                table.add_row(contender, label, *cells)
        if contender in errors:
            table.add_row(f"[red]{contender}", errors[contender])
    return table


if __name__ == "__main__":
    typer.run(main)
