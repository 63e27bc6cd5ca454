"""What a user of `pathwaysutils` does, unmodified. Run as `python pathways_client.py CASE [FOLDER]`."""

from __future__ import annotations

import datetime
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if sys.argv[1] != "plain":
    os.environ["ENABLE_PATHWAYS_PERSISTENCE"] = "1"

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


def mesh(*sizes: int, reverse: bool = False) -> Mesh:
    devices = np.array(jax.devices())
    return Mesh((devices[::-1] if reverse else devices).reshape(sizes), ("a", "b")[: len(sizes)])


def put(where: Mesh, array: Any, *spec: Any) -> jax.Array:
    return jax.device_put(array, NamedSharding(where, P(*spec)))


def check_equal(found: Any, wanted: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim), (one.sharding, other.sharding)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


# --- Meshes -------------------------------------------------------------------------------------


def case_reshard() -> None:
    """By a program (experimental) and by IFRT's own request: to other meshes, on both islands and on one."""
    from pathwaysutils import reshard
    from pathwaysutils.experimental import reshard as experimental

    a, b = np.arange(64.0, dtype=np.float32).reshape(8, 8), np.arange(10, dtype=np.int32)
    old, new = mesh(2, 4), mesh(4, 2, reverse=True)
    one = Mesh(np.array(jax.devices()[4:]), ("a",))
    for function, options in (
        (reshard.reshard, {}),
        (experimental.reshard, {}),
        (experimental.reshard, {"cache_resharding_plans": True}),
    ):
        for _ in range(2):
            x = {"a": put(old, a, "a", "b"), "b": put(old, b), "none": 3.0}
            for where, spec in ((new, P("b", "a")), (one, P(None, "a"))):
                target = {"a": NamedSharding(where, spec), "b": NamedSharding(where, P())}
                target["none"] = target["b"]
                found = function(x, target, **options)
                check_equal(found, {"a": put(where, a, *spec), "b": put(where, b), "none": put(where, np.float32(3))})
    x = put(old, a, "a", "b")
    y = experimental.reshard(x, NamedSharding(new, P("b")), donate=True)
    check_equal(y, put(new, a, "b"))
    assert "deleted" in str(_raised(lambda: np.asarray(x)))


def _raised(work: Callable[[], object]) -> Exception:
    try:
        work()
    except (RuntimeError, ValueError) as error:
        return error
    raise AssertionError("nothing went wrong where it should have")


def case_split() -> None:
    """By an axis, and put together again, without moving anything."""
    from pathwaysutils.experimental.concatenate_by_mesh_axis import concatenate_by_mesh_axis
    from pathwaysutils.experimental.split_by_mesh_axis import split_by_mesh_axis

    whole = mesh(2, 4)
    a, b = np.arange(64.0, dtype=np.float32).reshape(8, 8), np.arange(10, dtype=np.int32)
    x = {"a": put(whole, a, "a", "b"), "b": put(whole, b)}
    halves, columns = np.split(a, 2), np.split(a, 2, axis=1)
    for axis, sections, pieces in (
        ("a", None, halves),
        ("b", 2, columns),
        ("b", [1], np.split(a, [2], axis=1)),
    ):
        parts = split_by_mesh_axis(x, axis, sections)
        assert len(parts) == 2
        for part, piece in zip(parts, pieces, strict=True):
            np.testing.assert_array_equal(np.asarray(part["a"]), piece)
            np.testing.assert_array_equal(np.asarray(part["b"]), b)
        check_equal(concatenate_by_mesh_axis(parts, axis), x)


# --- Slices -------------------------------------------------------------------------------------


def case_elastic() -> None:
    """The manager sees both slices, takes a lost worker for a lost slice, and tries again."""
    from pathwaysutils.elastic import elastic, manager

    pids = list(map(int, sys.argv[3:]))
    slices = manager.Manager()
    assert slices.all_slice_indices == slices.active_slice_indices == {0, 1}
    assert {k: len(v) for k, v in slices.slice_to_devices.items()} == {0: 4, 1: 4}
    attempts: list[Any] = []

    @slices.elastic_retry(max_retries=3, minimum_slice_count=1, poll_interval=1, timeout=60)
    def train() -> list[float]:
        attempts.append(slices.active_slice_indices)
        xs = [jax.device_put(np.float32(1), devices[0]) for devices in slices.slice_to_devices.values()]
        jax.block_until_ready(xs)
        if len(attempts) == 1:
            os.kill(pids[1], signal.SIGKILL)
        return [float(jax.jit(lambda x: x + 1)(x)) for x in xs]

    assert train() == [2.0, 2.0]
    assert len(attempts) == 2
    assert elastic.get_active_slice_indices() == {0, 1}
    # What a user got wrong is no lost slice: it would be tried for ever.
    for wrong in (lambda: case_missing(FOLDER / "none"), lambda: np.asarray(_deleted())):
        error = _raised(wrong)
        assert not elastic.is_error_due_to_slice_down(error), error


def _deleted() -> jax.Array:
    x = jax.device_put(np.float32(1))
    x.delete()
    return x


def case_missing(folder: Path) -> None:
    from pathwaysutils.persistence import helper

    where = mesh(2, 4)
    sharding = NamedSharding(where, P())
    second = datetime.timedelta(seconds=30)
    _, end = helper.read_arrays(str(folder), ["x"], [np.dtype("float32")], [(3,)], [sharding], where.devices, second)
    end.result()
    raise AssertionError("something was read where nothing is")


# --- Checkpoints --------------------------------------------------------------------------------


def state(where: Mesh) -> dict[str, Any]:
    kernel = np.arange(96, dtype=np.float32).reshape(8, 12)
    return {
        "layer": {"kernel": put(where, kernel, "a", "b"), "bias": put(where, np.arange(12, dtype=np.int32), "b")},
        "half": put(where, np.arange(24).reshape(8, 3).astype(jax.numpy.bfloat16), "b"),
        "step": put(where, np.int32(7)),
        "zeros": put(where, np.zeros(16, np.float32), "a"),
    }


def save(where: Mesh, **formats: dict[str, bool]) -> None:
    import orbax.checkpoint as ocp

    for name, options in formats.items():
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
            checkpointer.save(FOLDER / name, args=ocp.args.PyTreeSave(state(where)))


def restore(where: Mesh) -> None:
    import orbax.checkpoint as ocp

    wanted = state(where)
    args = ocp.checkpoint_utils.construct_restore_args(wanted)
    for path in FOLDER.iterdir():
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            check_equal(checkpointer.restore(path, args=ocp.args.PyTreeRestore(wanted, restore_args=args)), wanted)
        print("restored", path.name)


def case_save() -> None:
    save(mesh(2, 4), zarr={"use_ocdbt": False})
    # While it is written, what was saved is donated to the next step.
    import orbax.checkpoint as ocp

    saved = state(mesh(2, 4))
    one = NamedSharding(Mesh(np.array(jax.devices()[:4]), ("a",)), P("a"))
    saved["donated"] = jax.device_put(np.arange(8, dtype=np.float32), one)
    with ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(FOLDER.parent / "async", args=ocp.args.PyTreeSave(saved))
        step = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
        after = step(saved["donated"])
        checkpointer.wait_until_finished()
    assert float(after.sum()) == -8
    found = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
        FOLDER.parent / "async",
        args=ocp.args.PyTreeRestore(
            {"donated": after},
            restore_args=ocp.checkpoint_utils.construct_restore_args({"donated": after}),
            partial_restore=True,
        ),
    )
    np.testing.assert_array_equal(np.asarray(found["donated"]), np.arange(8))


def case_restore() -> None:
    from orbax.checkpoint._src.serialization import cloud_pathways_helper as helper

    read, asked = helper.read_arrays, []
    helper.read_arrays = lambda *args, **more: (asked.append(args[1]), read(*args, **more))[1]
    restore(mesh(4, 2, reverse=True))
    assert len(asked) == len(list(FOLDER.iterdir())), "it was not the workers who read"


# --- Traces -------------------------------------------------------------------------------------


def case_trace() -> None:
    """The module's own requests; its `start_trace` insists on a bucket, which is a URL for the workers."""
    from pathwaysutils import profiling

    options = jax.profiler.ProfileOptions()
    options.session_id = "run"
    options.python_tracer_level = 0
    request = profiling._create_profile_request(FOLDER, options, max_num_hosts=2)
    for _ in range(2):
        profiling._start_pathways_trace_from_profile_request(request)
        for device in jax.devices()[::4]:
            x = jax.device_put(np.ones((8, 8), np.float32), device)
            (x @ x).block_until_ready()
        profiling._profile_state.call_profile_executable()
        profiling._profile_state.reset()
        request = profiling._create_profile_request(FOLDER, None, max_num_hosts=1)
    told = str(_raised(lambda: jax.profiler.start_trace("relative")))
    assert "must be a GCS path" in told, told
    told = str(_raised(lambda: profiling._start_pathways_trace_from_profile_request({"traceLocation": "relative"})))
    assert "A trace cannot be in 'relative': give an absolute path that all hosts share" in told, told


def case_bucket() -> None:
    """The public functions. The workers' parts are in the bucket although the client's own cannot be."""
    jax.profiler.start_trace(os.environ["BUCKET"], max_num_hosts=2)
    jax.device_put(np.float32(1)).block_until_ready()
    from pathwaysutils import profiling

    profiling._original_stop_trace = jax._src.profiler._profile_state.reset
    jax.profiler.stop_trace()


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", 8)
        if sys.argv[3] == "save":
            formats = [(ocdbt, zarr3) for ocdbt in (False, True) for zarr3 in (False, True)]
            save(mesh(2, 4), **{f"{o}{z}": {"use_ocdbt": o, "use_zarr3": z} for o, z in formats})
        else:
            restore(mesh(4, 2, reverse=True))
    else:
        import pathwaysutils

        pathwaysutils.initialize()
        globals()[f"case_{sys.argv[1]}"]()
    print("ok")
