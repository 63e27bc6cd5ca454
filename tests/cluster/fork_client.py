"""Forks while it uses a cluster, in each way; no child may harm what is the parent's, hang, or be left without a word.

Prints the ways that were tried. A child that does not end within `_PATIENCE` seconds is killed, and fails its way.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import polypath
from polypath.errors import ForkedProcess

_PATIENCE = 60
_SENTENCE = (
    "This process was forked from one that uses the cluster {!r}, and has no session of its own: start it with "
    "multiprocessing's 'spawn' or 'forkserver', or use the cluster in the parent only."
)


class Held:
    """What the parent has on the cluster."""

    def __init__(self) -> None:
        mesh = jax.make_mesh((4,), ("x",))
        self.arrays = [jnp.full(8, i, jnp.float32) * 2 for i in range(50)]
        self.cut = jax.device_put(np.arange(8.0, dtype=np.float32), NamedSharding(mesh, P("x")))
        self.jitted = jax.jit(lambda v: v * 2 + 1)
        self.over_all = jax.jit(lambda v: v - v.sum())
        self.compiled = jax.jit(lambda v: v * 3).lower(self.arrays[0]).compile()
        self.calls = jax.jit(lambda v: jax.pure_callback(lambda u: np.asarray(u) + 1, v, v))
        self.donated = jax.jit(lambda v: v + 1, donate_argnums=0)(jnp.ones(8))
        self.check()

    def check(self) -> None:
        """All is as it was, and there."""
        assert sum(float(x[0]) for x in self.arrays) == 2450
        assert float(self.jitted(self.arrays[1]).sum()) == 40
        assert float(self.compiled(self.arrays[1]).sum()) == 48
        assert float(self.over_all(self.cut).sum()) == 28 - 8 * 28
        assert np.asarray(self.calls(self.arrays[2])).tolist() == [5] * 8
        assert np.asarray(self.donated).tolist() == [2] * 8
        jax.effects_barrier()


def fork(child: Callable[[], object]) -> int:
    """Run `child` in a forked process, which then goes on to its end; its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except Exception:
            traceback.print_exc()
            os._exit(99)
        sys.exit(7)
    ended = os.pidfd_open(pid)
    if not select.select([ended], [], [], _PATIENCE)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def drop(held: Held) -> None:
    """Free all that is held."""
    held.__dict__.clear()
    gc.collect()
    jax.clear_caches()
    gc.collect()


def drop_and_end_at_once(held: Held) -> None:
    drop(held)
    os._exit(7)


def drop_and_end(held: Held) -> None:
    drop(held)


def only_end(_: Held) -> None:
    """The interpreter's end frees all."""


def end_by_an_exception(_: Held) -> None:
    sys.excepthook = lambda *_: None
    raise SystemExit(7)


def clear_backends(held: Held) -> None:
    drop(held)
    jax.extend.backend.clear_backends()


def close(held: Held) -> None:
    """JAX in the child has this process's own devices again."""
    cluster.close()
    drop(held)
    assert "proxy" not in str(jax.config.jax_platforms)
    atexit.register(cluster.close)


def delete(held: Held) -> None:
    refused(held.arrays[0].delete)
    drop(held)


def end_from_a_thread(held: Held) -> None:
    thread = threading.Thread(target=drop, args=(held,))
    thread.start()
    thread.join()


def fork_again(held: Held) -> None:
    assert fork(lambda: (refused(lambda: held.jitted(held.arrays[0])), drop(held))) == 7


def touch(held: Held) -> None:
    """Whatever would need the session says why there is none."""
    x, cut = held.arrays[3], held.cut
    for act in (
        lambda: held.jitted(x),
        lambda: held.over_all(cut),
        lambda: held.compiled(x),
        lambda: held.calls(x),
        lambda: jax.jit(lambda v: v + 2)(x),
        lambda: x + 1,
        lambda: x[0],
        lambda: -x,
        lambda: float(held.arrays[4][0]),
        lambda: np.asarray(x),
        lambda: np.array(cut),
        lambda: list(x),
        x.tolist,
        lambda: repr(x),
        x.block_until_ready,
        lambda: jax.block_until_ready([x, cut]),
        lambda: jax.device_get([x, cut]),
        x.copy_to_host_async,
        x.is_ready,
        x.copy,
        lambda: x.addressable_shards,
        lambda: cut.addressable_shards,
        lambda: cut.addressable_data(1),
        x.unsafe_buffer_pointer,
        lambda: np.from_dlpack(x),
        lambda: x.format,
        lambda: jnp.ones(3),
        lambda: jnp.float32(1),
        lambda: jax.device_put(np.ones(3), jax.devices()[1]),
        lambda: jax.device_put(x, jax.devices()[1]),
        lambda: jax.device_put(cut, x.sharding),
        lambda: jax.make_array_from_callback((4,), x.sharding, lambda _: np.ones(4)),
        lambda: jax.make_array_from_single_device_arrays((8,), x.sharding, [x]),
        lambda: jax.random.key(0),
        lambda: jax.jit(lambda v: v * 5).lower(x).compile(),
        held.compiled.as_text,
        jax.devices()[0].memory_stats,
        cluster.status,
        polypath.connect,
        polypath.start,
    ):
        refused(act)


def refused(act: Callable[[], object]) -> None:
    said = None
    try:
        act()
    except ForkedProcess as error:
        said = str(error)
    assert said == _SENTENCE.format(cluster.name), f"{act}: {said}"


def children_of_multiprocessing(held: Held) -> None:
    """Not in a child: a pool of forked processes that compute with numpy, and one that touches an array."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(np.sum, [np.arange(4), np.arange(5)]) == [6, 10]
        assert pool.apply(touched, (3,)) == _SENTENCE.format(cluster.name)
        pool.close()
        pool.join()
    process = context.Process(target=drop, args=(held,))
    process.start()
    process.join(_PATIENCE)
    assert process.exitcode == 0, process.exitcode


def touched(index: int) -> str:
    try:
        return str(HELD.arrays[index])
    except ForkedProcess as error:
        return str(error)


def programs_that_are_started(_: Held) -> None:
    for more in ({}, {"preexec_fn": lambda: None}):
        done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True, check=True, **more)
        assert done.stdout == "1\n"


def workers_of_a_data_loader(_: Held) -> None:
    """With tensors of the device in reach, some of which wait to be made."""
    import torch

    import polypath.torch
    from polypath.torch.errors import TorchError

    class Squares(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor(float(index**2))

    class Touching(Squares):
        def __getitem__(self, index: int) -> Any:
            # What a worker raises has DataLoader wait ten seconds for the others: torch's own affair.
            try:
                return there[index].cpu()
            except TorchError as error:
                return str(error)

    there = torch.arange(8.0, device=polypath.torch.device())
    waits = there * 2
    loaded = [batch.tolist() for batch in torch.utils.data.DataLoader(Squares(), batch_size=4, num_workers=2)]
    assert loaded == [[0, 1, 4, 9], [16, 25, 36, 49]]
    (said,) = torch.utils.data.DataLoader(Touching(), batch_size=8, num_workers=2)
    assert len(said) == 8
    assert all(each.startswith("This process was forked from one that uses the cluster") for each in said), said
    assert waits.sum().item() == 56


def use_after_close(left: list[Any]) -> None:
    refused(polypath.connect)
    for act in (left[0].block_until_ready, left[0].delete, lambda: np.asarray(left[1]), lambda: left[2] + 1):
        refused(act)
    left.clear()
    gc.collect()


IN_A_CHILD = (
    drop_and_end_at_once,
    drop_and_end,
    only_end,
    end_by_an_exception,
    clear_backends,
    close,
    delete,
    end_from_a_thread,
    fork_again,
    touch,
)
IN_THE_PARENT = (children_of_multiprocessing, programs_that_are_started, workers_of_a_data_loader)

if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*fork", RuntimeWarning)  # JAX warns of every fork,
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # and so does Python, from 3.12 on.
    wanted = sys.argv[1:]
    with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
        HELD = Held()
        for way in (*IN_A_CHILD, *IN_THE_PARENT):
            if wanted and way.__name__ not in wanted:
                continue
            if way in IN_A_CHILD:
                status = fork(lambda way=way: way(HELD))
                assert status == 7, f"{way.__name__}: {status}"
            else:
                way(HELD)
            HELD.check()
            print(way.__name__, flush=True)
        left = HELD.arrays
    # A session that is closed is the parent's, too: its arrays live on, and gRPC's threads are not in the child.
    status = fork(lambda: use_after_close(left))
    assert status == 7, status
    print("after the cluster was closed")
