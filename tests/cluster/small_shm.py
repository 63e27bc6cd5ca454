"""Runs a client on a machine whose /dev/shm has 64 MB, as Docker's has. Run under `unshare --mount`.

Usage: `python small_shm.py NAME`. The client is this file, once more: with Polypath's hooks, then with jaxlib alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHAPE = ("--hosts", "2", "--devices-per-host", "4")


def machine(name: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm"], check=True)
    command = [sys.executable, "-m", "polypath.cli", "run", "--name", name, *SHAPE, __file__, "client"]
    subprocess.run(command, check=True)
    assert list(Path("/dev/shm").iterdir()) == []


def client() -> None:
    import jax
    import numpy as np

    array = np.ones(70 << 18, np.float32)  # 70 MiB
    put = jax.device_put(array)
    print(float(put.sum()), float(jax.jit(lambda x: x.sum())(array)), float(np.asarray(put + 1).sum()), flush=True)


def use_stock_client() -> None:
    from jax._src import xla_bridge
    from jax.extend import backend

    xla_bridge.discover_pjrt_plugins = lambda: None
    options = backend.ifrt_proxy.ClientConnectionOptions()
    target = os.environ["JAX_BACKEND_TARGET"]
    backend.register_backend_factory("proxy", lambda: backend.ifrt_proxy.get_client(target, options))


def main() -> None:
    match sys.argv[1]:
        case "client":
            client()
            subprocess.run([sys.executable, __file__, "stock"], check=True)
        case "stock":
            use_stock_client()
            client()
        case name:
            machine(name)


if __name__ == "__main__":
    main()
