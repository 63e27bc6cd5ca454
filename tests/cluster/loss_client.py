"""What a user's script sees when a worker dies. Run as `python loss_client.py CASE`; fails by an assertion."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import polypath


def kill(cluster: polypath.Cluster, host: int) -> None:
    os.kill(cluster.status().controller.hosts[host].pid, signal.SIGKILL)


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    raise AssertionError("nothing went wrong where it should have")


def check_told(message: str) -> None:
    """It says which host of which island was lost, why, and what to do."""
    for part in ("DATA_LOSS", "Host 1 of island", "killed by SIGKILL", "put the data there again"):
        assert part in message, message


def whole_mesh() -> jax.sharding.NamedSharding:
    return jax.NamedSharding(jax.make_mesh((len(jax.devices()),), ("x",)), jax.P("x"))


def case_one_island() -> None:
    """Values that need the lost host fail; those beside it live on; then all devices work again."""
    with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
        first, *_, last = jax.devices()
        spread = jax.device_put(np.arange(8.0), whole_mesh())
        kept, gone = (jax.device_put(np.arange(5.0), device) for device in (first, last))
        add = jax.jit(lambda x: x + 1)
        kept_too = add(kept)
        gone_too = add(gone)
        jax.block_until_ready((spread, kept, gone, kept_too, gone_too))
        kill(cluster, 1)
        for value in (gone, gone_too, spread):
            check_told(error_of(lambda value=value: np.asarray(value)))
        check_told(error_of(lambda: np.asarray(gone_too.addressable_shards[0].data)))
        np.testing.assert_array_equal(np.asarray(kept), np.arange(5.0))
        np.testing.assert_array_equal(np.asarray(kept_too), np.arange(5.0) + 1)
        np.testing.assert_array_equal(np.asarray(add(kept_too)), np.arange(5.0) + 2)
        spread = jax.device_put(np.arange(8.0), whole_mesh())
        assert float(jax.jit(lambda x: x.sum() * 2)(spread)) == 56.0
        assert [host.state for host in cluster.status().controller.hosts] == ["up", "up"]


def case_partitioned() -> None:
    """A program that the user's functions partitioned is loaded anew without asking them again."""
    with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
        here = jax.NamedSharding(jax.make_mesh((2,), ("x",), devices=jax.devices()[:2]), jax.P("x"))
        seen: list[object] = []

        @jax.jit
        def inspected(x: jax.Array) -> jax.Array:
            jax.debug.inspect_array_sharding(x, callback=seen.append)
            return x + 1

        value = inspected(jax.device_put(np.arange(4.0), here))
        gone = jax.device_put(1.0, jax.devices()[-1])
        jax.block_until_ready((value, gone))
        kill(cluster, 1)
        check_told(error_of(lambda: np.asarray(gone)))
        np.testing.assert_array_equal(np.asarray(inspected(value)), np.arange(4.0) + 2)
        assert len(seen) == 1


def case_other_island() -> None:
    """The other islands do not notice: their workers are the same processes."""
    with polypath.start(hosts=2, devices_per_host=1, islands=2, platform="cpu") as cluster:
        here, there = jax.devices()
        assert (here.slice_index, there.slice_index) == (0, 1)
        kept, gone = jax.device_put(np.arange(3.0), here), jax.device_put(np.arange(3.0), there)
        jax.block_until_ready((kept, gone))
        before = cluster.status().controller.hosts[0].pid
        kill(cluster, 1)
        check_told(error_of(lambda: np.asarray(gone)))
        np.testing.assert_array_equal(np.asarray(kept * 2), np.arange(3.0) * 2)
        np.testing.assert_array_equal(np.asarray(jax.device_put(kept, there)), np.arange(3.0))
        assert cluster.status().controller.hosts[0].pid == before


def case_in_flight() -> None:
    """Steps of collectives are under way when a host dies: the loop gets the error and does not hang."""
    with polypath.start(hosts=2, devices_per_host=2, platform="cpu") as cluster:
        step = jax.jit(lambda x: x / x.sum() + 1, donate_argnums=0)
        state = jax.device_put(np.ones(8), whole_mesh())
        jax.block_until_ready(state)

        def train() -> None:
            nonlocal state
            for number in range(2000):
                state = step(state)
                if number == 100:
                    kill(cluster, 1)
                if number % 50 == 49:
                    state.block_until_ready()

        check_told(error_of(train))
        fresh = jax.jit(lambda x: x.sum())(jax.device_put(np.ones(8), whole_mesh()))
        assert float(fresh) == 8.0


def case_twice() -> None:
    """A host may die again, and another one with it."""
    with polypath.start(hosts=2, devices_per_host=1, platform="cpu") as cluster:
        for hosts in ((1,), (0,), (0, 1)):
            values = [jax.device_put(np.arange(4.0), device) for device in jax.devices()]
            jax.block_until_ready(values)
            for host in hosts:
                kill(cluster, host)
            # The second of two may have left in order, with its value in a snapshot, before it was killed.
            message = error_of(lambda value=values[hosts[0]]: np.asarray(value))
            assert message.startswith("DATA_LOSS"), message
            assert f"Host {hosts[0]} of island 0 was lost" in message, message
        value = jax.device_put(jnp.arange(4.0), whole_mesh())
        assert float(jax.jit(jnp.sum)(value)) == 6.0


def case_stuck() -> None:
    """The host beside a lost one takes no command any more: it is ended, and its values are lost too."""
    with polypath.start(hosts=2, devices_per_host=1, platform="cpu") as cluster:
        values = [jax.device_put(np.arange(4.0), device) for device in jax.devices()]
        jax.block_until_ready(values)
        os.kill(cluster.status().controller.hosts[0].pid, signal.SIGSTOP)
        kill(cluster, 1)
        for host in (1, 0):
            message = error_of(lambda host=host: np.asarray(values[host]))
            assert f"Host {host} of island 0 was lost" in message, message
        value = jax.device_put(jnp.arange(4.0), whole_mesh())
        assert float(jax.jit(jnp.sum)(value)) == 6.0


if __name__ == "__main__":
    globals()[f"case_{sys.argv[1]}"]()
    print("ok")
