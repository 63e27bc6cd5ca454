"""Whether memory stays flat: an hour's worth of steps and transfers in minutes, and what every process then holds.

    python benchmarks/soak.py [--quick] [--dispatches N] [--transfers N] [--programs N] [--hosts N]

With `--programs`, the work is instead to compile and drop that many different programs: of one device and
of all, some with host callbacks, some exported, and arrays that are resharded. (Not of colocated Python,
which JAX keeps for good in the client.)

A first part counts for nothing: pools fill and caches warm up in it. What is said of memory is
anonymous memory, as what processes share with others changes with those.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import machine
import psutil
import typer
from report import conclude
from rich import box
from rich.table import Table

SAMPLES: Final = 10
WARM_UP: Final = 0.3
"""Of the work, before what counts."""
ALLOWED: Final = 0.02
KIB: Final = 1024


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A twentieth of the work.")] = False,
    dispatches: Annotated[int, typer.Option(min=100, help="Programs started.")] = 100_000,
    transfers: Annotated[int, typer.Option(min=100, help="Arrays moved up and down.")] = 10_000,
    programs: Annotated[int, typer.Option(min=0, help="Programs compiled and dropped, instead of all else.")] = 0,
    hosts: Annotated[int, typer.Option(min=1)] = 2,
    devices_per_host: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Run many steps and transfers, and print what memory and handles did."""
    facts = machine.describe()
    if quick:
        dispatches, transfers, programs = dispatches // 20, transfers // 20, programs // 20
    import polypath

    with polypath.start(hosts=hosts, devices_per_host=devices_per_host, platform="cpu") as cluster:
        work = make_programs() if programs else make_work()
        amounts = (programs,) if programs else (dispatches, transfers)
        look = Look(cluster)
        work(*(int(amount * WARM_UP) for amount in amounts))
        look.now(0.0)
        start = time.perf_counter()
        for _ in range(SAMPLES):
            work(*(amount // SAMPLES for amount in amounts))
            look.now(time.perf_counter() - start)
        did = (
            f"{programs:,} programs compiled and dropped"
            if programs
            else f"{dispatches:,} dispatches, a fifth of them over all {hosts * devices_per_host} devices, and "
            f"{transfers:,} transfers of up to 1 MiB"
        )
        caption = (
            f"{did}, after {WARM_UP:.0%} as many that do not count. MiB of anonymous memory. growth: last against "
            "first; line: by the straight line through all samples."
        )
        conclude(look.table(), caption, facts, machine.versions("polypath", "jax", "jaxlib"))
        raise typer.Exit(look.leaks())


def make_work() -> Callable[[int, int], None]:
    """What takes (dispatches, transfers) and does them, leaving nothing behind."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.devices()
    cut = NamedSharding(Mesh(np.array(devices), ("x",)), PartitionSpec("x"))
    add = jax.jit(lambda x: x + 1)
    donating = jax.jit(lambda x: x * 2, donate_argnums=0)
    total = jax.jit(lambda x: x - x.sum(), in_shardings=cut, out_shardings=cut)
    sizes = [4, 1 * KIB, 16 * KIB, 64 * KIB, 1024 * KIB]
    chosen = np.random.default_rng(0)

    def work(dispatches: int, transfers: int) -> None:
        one = jnp.zeros((), jnp.int32)
        over_all = jax.device_put(np.zeros(4 * len(devices), np.float32), cut)
        each = max(1, dispatches // max(1, transfers // 2))
        for number in range(dispatches):
            if number % 5 == 4:
                over_all = total(over_all)
            else:
                one = donating(one) if number % 2 else add(one)
            if number % 20 == 19:
                over_all.block_until_ready()
            if number % each == 0:
                up = np.ones(int(chosen.choice(sizes)) // 4, np.float32)
                placed = jax.device_put(up, devices[number % len(devices)])
                if np.asarray(placed).sum() != up.size:
                    raise AssertionError("An array came back otherwise than it went.")
        one.block_until_ready()
        over_all.block_until_ready()

    return work


def make_programs() -> Callable[[int], None]:
    """What takes a number of programs, and compiles, runs and drops as many that nobody has compiled before."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("x",))
    cut, whole = NamedSharding(mesh, PartitionSpec("x")), NamedSharding(mesh, PartitionSpec())
    unique = time.time()  # In no run's compile cache.
    numbers = itertools.count(1)

    def one(number: int) -> None:
        shape = (len(devices) * (1 + number % 7), 1 + number % 5)
        up = np.ones(shape, np.float32)
        place = cut if number % 3 else devices[number % len(devices)]
        x = jax.device_put(up, place)
        if number % 10 == 0:
            x = jax.device_put(x, whole)
        if number % 8 == 0:
            like = jax.ShapeDtypeStruct((), np.float32)
            step = jax.jit(lambda y: y + jax.pure_callback(lambda z: z + unique, like, np.float32(number)))
        elif number % 50 == 1:
            exported = jax.export.export(jax.jit(lambda y: y * unique + number))(x)
            step = exported.call
        else:
            step = jax.jit(lambda y: (y * unique + number).sum())
        jax.block_until_ready(step(x))

    def work(programs: int) -> None:
        for number in itertools.islice(numbers, programs):
            one(number)
            if number % 20 == 0:
                jax.clear_caches()
        jax.clear_caches()

    return work


class Look:
    """What all processes have, again and again."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        status = cluster.status()
        self._processes = {"client": os.getpid(), "head": status.pid}
        self._processes |= {f"worker {host.host}": host.pid for host in status.controller.hosts}
        self._at: list[float] = []
        self._memory: dict[str, list[float]] = {name: [] for name in self._processes}
        self._counts: list[dict[str, int]] = []

    def now(self, at: float) -> None:
        import gc

        from polypath.frontend import control_client

        gc.collect()
        self._at.append(at)
        for name, pid in self._processes.items():
            self._memory[name].append(memory(pid))
        status = self._cluster.status()
        of = status.controller
        counts = {
            "values": of.values,
            "futures": sum(session.futures for session in of.sessions),
            "executables": of.executables,
            "pending": of.pending,
            "buffers": status.frontend.host_buffers,
        }
        address = self._cluster.address.removeprefix("grpc://")
        workers = [control_client.holdings(address, host.host) for host in of.hosts]
        for name in ("values", "programs", "questions"):
            counts[f"workers' {name}"] = sum(worker[name] for worker in workers)
        processes = [psutil.Process(pid) for pid in self._processes.values()]
        counts["threads"] = sum(process.num_threads() for process in processes)
        counts["files"] = sum(process.num_fds() for process in processes)
        self._counts.append(counts)
        print(f"{at:.0f} s", {k: round(v[-1], 1) for k, v in self._memory.items()}, counts, file=sys.stderr)

    def table(self) -> Table:
        table = Table(title="What the processes hold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("", "at first", "half way", "at last", "growth", "line"):
            table.add_column(heading, justify="right" if heading else "left")
        middle = len(self._at) // 2
        for name, values in self._memory.items():
            figures = [f"{values[place]:.1f}" for place in (0, middle, -1)]
            table.add_row(name, *figures, f"{values[-1] / values[0] - 1:+.1%}", f"{growth(values):+.1%}")
        table.add_section()
        for name in self._counts[0]:
            table.add_row(name, *(str(self._counts[place][name]) for place in (0, middle, -1)))
        return table

    def leaks(self) -> bool:
        return any(growth(values) > ALLOWED for values in self._memory.values())


def memory(pid: int) -> float:
    """What is its own, MiB: what it shares with others changes with them."""
    found = re.search(r"^Anonymous:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / KIB


def growth(values: list[float]) -> float:
    """From the first to the last, on the straight line that is nearest to all: one outlier says little."""
    import numpy as np

    slope, begin = np.polyfit(np.arange(len(values)), values, 1)
    return float(slope * (len(values) - 1) / begin)


if __name__ == "__main__":
    typer.run(main)
