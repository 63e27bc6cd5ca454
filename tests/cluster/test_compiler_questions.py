"""A client that goes away while compilers wait for its functions."""

from __future__ import annotations

import os
import subprocess
import sys

from cluster_tools import TIMEOUT, environment, wait_no_sessions

COMPILERS = max(2, os.cpu_count() or 2)
"""A worker's threads that compile."""

CLIENT = """
import os, sys, threading
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

programs = int(sys.argv[1])
all_asked = threading.Barrier(programs + 1)

def run(number):
    def seen(sharding):
        print("asked\\n", end="", flush=True)  # At once, beside other threads that do.
        if programs > 1:
            all_asked.wait()
            threading.Event().wait()

    @jax.jit
    def inspected(x):
        jax.debug.inspect_array_sharding(x, callback=seen)
        return x + number

    print(float(inspected(x).sum()))

x = jax.device_put(np.arange(8.0), NamedSharding(jax.make_mesh((4,), ("x",)), P("x")))
if programs == 1:
    run(1)
else:
    for number in range(programs):
        threading.Thread(target=run, args=(number,)).start()
    all_asked.wait()
    os._exit(7)
"""


def client(variables: dict[str, str], programs: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLIENT, str(programs)],
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_no_compiler_waits_for_a_client_that_is_gone(cluster: str, variables: dict[str, str]) -> None:
    gone = client(variables, COMPILERS)
    assert (gone.returncode, gone.stdout.splitlines()) == (7, ["asked"] * COMPILERS), gone.stderr
    wait_no_sessions(cluster)
    other = client(variables, 1)
    assert (other.returncode, other.stdout.splitlines()) == (0, ["asked", "36.0"]), other.stderr
