"""What a user's script sees when a process of the cluster is stopped (SIGSTOP): the script gets an error, and goes on.

There are three islands of one host; hosts 0 and 1 are below one relay, host 2 is below another. Prints `ok` at the end.
"""

from __future__ import annotations

import os
import select
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import psutil
from jax.experimental import colocated_python

import polypath

SILENT = "did not answer for 3 s: is it stopped, or its network cut?"


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    raise AssertionError("nothing went wrong where it should have")


def put() -> list[jax.Array]:
    """A value on each host, which is there."""
    values = [jax.device_put(np.float32(host), device) for host, device in enumerate(jax.devices())]
    return jax.block_until_ready(values)


def check_works() -> None:
    assert [float(value + 1) for value in put()] == [1, 2, 3]


def check_comes_back() -> None:
    """The head hears of each end by itself: a host that it has started again is lost again with its relay."""
    for _ in range(4):
        try:
            check_works()
            return
        except jax.errors.JaxRuntimeError as error:
            if "was lost" not in str(error):
                raise
    raise AssertionError("the cluster does not come back")


def pids(cluster: polypath.Cluster) -> list[int]:
    return [host.pid for host in cluster.status().controller.hosts]


def stop_a_worker_beside_a_busy_one(cluster: polypath.Cluster, folder: Path) -> None:
    """One worker runs Python without a pause for longer than the patience, and is not given up."""
    over = str(folder / "over")

    def spin(x: jax.Array) -> jax.Array:
        while not os.path.exists(over):  # noqa: PTH110  # Without a path's import, in the worker.
            pass
        return x

    function = colocated_python.colocated_python(spin).specialize(out_specs_fn=lambda x: x)
    busy = function(jax.device_put(np.float32(5), jax.devices()[0]))
    stop_a_worker(cluster)
    Path(over).touch()
    assert float(busy) == 5


def stop_a_worker(cluster: polypath.Cluster) -> None:
    """Its values are lost; the other islands do not notice."""
    before, values = pids(cluster), put()
    os.kill(before[1], signal.SIGSTOP)
    message = error_of(lambda: float(values[1]))
    assert message.startswith("DATA_LOSS"), message
    assert f"Host 1 of island 1 was lost ({SILENT})" in message, message
    assert [float(values[0]), float(values[2] + 1)] == [0, 3]
    check_works()
    after = pids(cluster)
    assert [before[host] == after[host] for host in range(3)] == [True, False, True]


def stop_a_relay(cluster: polypath.Cluster, head: psutil.Process) -> None:
    """What is below it is lost; the rest does not notice."""
    before, values = pids(cluster), put()
    (relay,) = (p for p in head.children() if Path(f"/proc/{p.pid}/fd/1").readlink().name == "relay-1.log")
    relay.suspend()
    message = error_of(lambda: float(values[2] + 1))
    # The head may give up the relay first, or the worker: it then ends by itself, and is lost again with the relay.
    assert "Host 2 of island 2 was lost (" in message, message
    assert f"lost its relay ({SILENT})" in message or "or the relay above, did not answer for 3 s" in message, message
    assert [float(values[0]), float(values[1] + 1)] == [0, 2]
    check_comes_back()
    after = pids(cluster)
    assert [before[host] == after[host] for host in range(3)] == [True, True, False]


def stop_the_head(cluster: polypath.Cluster, head: psutil.Process) -> None:
    """Its workers end by themselves. Should it go on, it starts them again."""
    values, ends = put(), [os.pidfd_open(pid) for pid in pids(cluster)]
    head.suspend()
    for end in ends:
        assert select.select([end], [], [], 60)[0], "a worker stays without its head"
        os.close(end)
    head.resume()
    for host, value in enumerate(values):
        message = error_of(lambda value=value: float(value))
        assert f"Host {host} of island {host} was lost" in message, message
    check_comes_back()


def cut_a_stream(cluster: polypath.Cluster) -> None:
    """A host cannot reach another, though both live: who waits for its array hears of it, and the next one arrives."""
    here, there = jax.devices()[:2]
    before, values = pids(cluster), put()
    (socket,) = Path(cluster._head.config.runtime_dir).glob("w1.*.shards")
    away = socket.rename(socket.with_suffix(".away"))
    copy = jax.device_put(values[0], there)
    needs_it = copy + values[1]
    for value in (copy, needs_it):
        message = error_of(lambda value=value: float(value))
        assert message.startswith("DATA_LOSS: Host 0 of island 0 could not send to host 1 of island 1 ("), message
        assert "No such file" in message, message
    away.rename(socket)
    assert float(jax.device_put(values[0], there) + values[1]) == 1
    assert float(jax.device_put(values[1], here) + values[0]) == 1
    assert pids(cluster) == before


def lose_a_source(cluster: polypath.Cluster) -> None:
    """A host dies before it sends an array to another island: who waits for that hears of it, and goes on."""
    here, there = jax.devices()[:2]
    called, go = threading.Event(), threading.Event()

    def late(x: np.ndarray) -> np.ndarray:
        called.set()
        go.wait()
        return x

    shape = jax.ShapeDtypeStruct((), np.float32)
    before, kept = pids(cluster), put()[1]
    copy = jax.device_put(jax.jit(lambda x: jax.pure_callback(late, shape, x))(jax.device_put(1.0, here)), there)
    needs_it = copy + kept  # For this the worker's apply loop waits.
    beside = kept + 1
    assert called.wait(60)
    os.kill(before[0], signal.SIGKILL)
    for value in (copy, needs_it):
        message = error_of(lambda value=value: float(value))
        assert message.startswith("DATA_LOSS"), message
        assert "Host 0 of island 0 was lost (killed by SIGKILL)" in message, message
    assert float(beside) == 2
    go.set()
    check_works()
    after = pids(cluster)
    assert [before[host] == after[host] for host in range(3)] == [False, True, True]


def stop_simulated_hosts() -> None:
    """Those of one process, before they send an array to those of the other: the others hear of it, and go on."""
    with polypath.start(hosts=4, devices_per_host=1, islands=2, platform="simulated", fanout=2) as cluster:
        here, there = jax.devices()[0], jax.devices()[2]
        value, kept = jax.device_put(np.float32(1), here), jax.device_put(np.float32(2), there)
        jax.block_until_ready((value, kept + kept))
        os.kill(pids(cluster)[0], signal.SIGSTOP)
        copy = jax.device_put(value, there)
        needs_it = copy + kept
        beside = kept + kept
        for lost in (copy, needs_it):
            message = error_of(lambda lost=lost: float(lost))
            assert f"Host 0 of island 0 was lost ({SILENT})" in message, message
        float(beside)
        float(jax.device_put(np.float32(1), here) + 1)


def main() -> None:
    stop_simulated_hosts()
    with polypath.start(hosts=3, devices_per_host=1, islands=3, platform="cpu", fanout=2) as cluster:
        head = psutil.Process(cluster._head.pid)
        check_works()
        cut_a_stream(cluster)
        lose_a_source(cluster)
        with tempfile.TemporaryDirectory() as folder:
            stop_a_worker_beside_a_busy_one(cluster, Path(folder))
        stop_a_relay(cluster, head)
        stop_the_head(cluster, head)
    print("ok")


if __name__ == "__main__":
    main()
