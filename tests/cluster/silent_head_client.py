"""What a user's script sees when the head is stopped (SIGSTOP): each of its waits ends with an error.

One has begun earlier. Prints each with the error that ended it, and "over" once the cluster was taken down.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from raised import error_of

import polypath

BIG = 4 << 20
"""Elements: more than sockets hold."""
PATIENCE = 120


def main() -> None:
    with polypath.start(hosts=1, platform="cpu") as cluster:
        began, over = threading.Event(), threading.Event()

        def called(x: Any) -> Any:
            began.set()
            over.wait()
            return np.asarray(x)

        add = jax.jit(lambda x: x + 1)
        ask = jax.jit(lambda x: jax.pure_callback(called, jax.ShapeDtypeStruct((), np.float32), x))
        small, big = jax.device_put(np.float32(1)), jax.device_put(np.ones(BIG, np.float32))
        assert float(add(small)) == 2
        assert float(np.asarray(add(big).block_until_ready())[-1]) == 2
        (sums,) = jax.block_until_ready([add(big)])
        waits: dict[str, Callable[[], object]] = {
            "float": lambda: float(add(small)),
            "block_until_ready": lambda: add(small).block_until_ready(),
            "read": lambda: np.asarray(sums),
            "put": lambda: jax.device_put(np.zeros(BIG, np.float32)).block_until_ready(),
            "small put": lambda: jax.device_put(np.zeros(3, np.float32)).block_until_ready(),
            "compile": lambda: jax.jit(lambda x: x * 3).lower(small).compile(),
        }

        errors: dict[str, str] = {}

        def check(name: str, wait: Callable[[], object]) -> None:
            errors[name] = error_of(wait, jax.errors.JaxRuntimeError)

        assert cluster._head is not None
        earlier = threading.Thread(target=check, args=("earlier", lambda: float(ask(small))), daemon=True)
        earlier.start()
        assert began.wait(PATIENCE)
        cluster._head._process.send_signal(signal.SIGSTOP)
        try:
            threads = [threading.Thread(target=check, args=each, daemon=True) for each in waits.items()]
            for thread in threads:
                thread.start()
            threads.append(earlier)
            for thread in threads:
                thread.join(PATIENCE)
                assert not thread.is_alive(), "a wait does not end"
            check("afterwards", lambda: float(add(small)))
        finally:
            over.set()
            cluster._head._process.send_signal(signal.SIGCONT)
    for name, error in errors.items():
        print(f"{name}: {error.splitlines()[0]}")
    print("over")


main()
