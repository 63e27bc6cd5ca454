"""orbax: sharded arrays saved, while the program goes on, and restored onto other shardings."""

import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
line = jax.sharding.Mesh(np.array(jax.devices())[::-1], ("i",))


@jax.jit(
    out_shardings={
        "params": {"w": NamedSharding(mesh, P("x", "y")), "b": NamedSharding(mesh, P("y"))},
        "step": NamedSharding(mesh, P()),
    }
)
def make():
    w = jnp.arange(16 * 32, dtype=jnp.float32).reshape(16, 32)
    return {"params": {"w": w, "b": jnp.arange(32, dtype=jnp.bfloat16)}, "step": jnp.int32(0)}


@jax.jit(donate_argnums=0)
def train(state):
    return {"params": jax.tree.map(lambda x: x * 2 + 1, state["params"]), "step": state["step"] + 1}


def like(sharding_of):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding_of(x)), jax.eval_shape(make))


def told(state):
    """Contents, and which device has which part."""
    w = state["params"]["w"]
    return {
        "sums": [float(np.asarray(x, np.float64).sum()) for x in jax.tree.leaves(state)],
        "w": np.asarray(w)[::5, ::7].tolist(),
        "where": [[shard.device.id, str(shard.index)] for shard in w.addressable_shards],
    }


found = {}
with tempfile.TemporaryDirectory() as folder:
    options = ocp.CheckpointManagerOptions(max_to_keep=3, save_interval_steps=2, enable_async_checkpointing=True)
    with ocp.CheckpointManager(Path(folder) / "run", options=options) as manager:
        state = make()
        for step in range(8):
            # The next step takes the arrays away while they are being written.
            manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave({"step": step})),
            )
            state = train(state)
        manager.wait_until_finished()
        found["steps"] = sorted(manager.all_steps())
        found["about"] = manager.restore(4, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        wanted = {
            "same": like(lambda x: NamedSharding(mesh, P(*("x", "y")[2 - x.ndim :]) if x.ndim else P())),
            "turned": like(lambda x: NamedSharding(mesh, P(*("y", "x")[2 - x.ndim :]) if x.ndim else P())),
            "reversed line": like(lambda x: NamedSharding(line, P("i") if x.ndim else P())),
            "one device": like(lambda x: jax.sharding.SingleDeviceSharding(jax.devices()[5])),
        }
        for name, target in wanted.items():
            back = manager.restore(6, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
            found[name] = told(back["state"])

    with ocp.StandardCheckpointer() as saver:
        saver.save(Path(folder) / "once", state)
        state = train(state)
        saver.wait_until_finished()
        # Without a target the arrays come back as they were saved.
        found["as saved"] = told(saver.restore(Path(folder) / "once"))
        found["files"] = sorted(path.name for path in (Path(folder) / "once").iterdir())
    with ocp.PyTreeCheckpointer() as saver:
        saver.save(
            Path(folder) / "tree",
            {"numpy": np.arange(4), "number": 3, "text": "words", "key": jax.random.key_data(jax.random.key(7))},
        )
        tree = saver.restore(Path(folder) / "tree")
        found["tree"] = jax.tree.map(lambda x: x if isinstance(x, str | int) else np.asarray(x).tolist(), tree)
print(json.dumps(found))
