"""flax, optax and orbax, as a training script uses them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from _common import P, line, mesh_2x4, noise, place, put, ramp
from flax import linen, nnx
from jax.sharding import NamedSharding

RTOL = 2e-5  # sums over the batch, in another order on another transport


def tree() -> dict[str, Any]:
    return {
        "w": put(noise(8, 16), "x", "y"),
        "b": put(ramp(16).astype(jnp.bfloat16), "y"),
        "step": put(np.int32(7)),
        "nested": {"scale": put(ramp(8), "x")},
    }


def abstract(spec: Any = (), mesh: Any = None) -> Any:
    def describe(x: jax.Array) -> jax.ShapeDtypeStruct:
        split = P(*spec[: x.ndim])
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh or mesh_2x4(), split))

    return jax.tree.map(describe, tree())


def case_orbax_round_trip() -> Any:
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
        saver.save(Path(folder) / "state", tree())
        saver.wait_until_finished()
        back = saver.restore(Path(folder) / "state", tree())
        return [back, [place(x) for x in jax.tree.leaves(back)]]


def case_orbax_to_other_shardings() -> Any:
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
        saver.save(Path(folder) / "state", tree())
        saver.wait_until_finished()
        targets = [
            abstract(),
            abstract(("y", "x")),
            abstract(("i",), line(6, 1)),
            abstract(("i",), line(*reversed(range(8)))),
        ]
        back = [saver.restore(Path(folder) / "state", target) for target in targets]
        return [back, [place(b["w"]) for b in back]]


def case_orbax_manager() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
        with ocp.CheckpointManager(Path(folder), options=options) as manager:
            for step in range(4):
                state = jax.tree.map(lambda x, s=step: x + jnp.asarray(s, x.dtype), tree())
                manager.save(step, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
            steps = [int(s) for s in manager.all_steps()]
            return [steps, manager.restore(3, args=ocp.args.StandardRestore(abstract(("x",))))]


def regression() -> tuple[jax.Array, jax.Array]:
    x = put(noise(32, 8), "x")
    return x, put(np.sin(noise(32, 8)).sum(1, keepdims=True), "x")


def case_optax() -> Any:
    x, y = regression()
    found = {}
    for name, optimizer in {
        "sgd": optax.sgd(0.1, momentum=0.9),
        "adamw": optax.adamw(optax.cosine_decay_schedule(0.01, 5)),
        "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(0.01)),
    }.items():
        w = put(noise(8, 1), "y")
        state = optimizer.init(w)

        @jax.jit
        def step(w: jax.Array, state: Any, optimizer: Any = optimizer) -> Any:
            loss, grad = jax.value_and_grad(lambda w: ((x @ w - y) ** 2).mean())(w)
            updates, state = optimizer.update(grad, state, w)
            return optax.apply_updates(w, updates), state, loss

        losses = []
        for _ in range(5):
            w, state, loss = step(w, state)
            losses.append(loss)
        found[name] = [w, losses]
    return found


def case_nnx() -> Any:
    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.LayerNorm(16, rngs=rngs)
            self.last = nnx.Linear(16, 1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.last(nnx.relu(self.norm(self.first(x))))

    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model: Model, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda m: ((m(x) - y) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    x, y = (jax.device_put(v, NamedSharding(mesh_2x4(), P())) for v in regression())
    losses = [step(model, optimizer, x, y) for _ in range(5)]
    return [losses, model.last.kernel[...]]


def case_linen() -> Any:
    class Model(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = linen.relu(linen.Dense(16)(x))
            x = linen.SelfAttention(num_heads=2)(x[None])[0]
            return linen.Dense(1)(linen.LayerNorm()(x))

    x, y = regression()
    model = Model()
    params = jax.jit(model.init, out_shardings=NamedSharding(mesh_2x4(), P()))(jax.random.key(0), x)

    @jax.jit
    def step(params: Any) -> Any:
        loss, grads = jax.value_and_grad(lambda p: ((model.apply(p, x) - y) ** 2).mean())(params)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), loss

    losses = []
    for _ in range(5):
        params, loss = step(params)
        losses.append(loss)
    return [losses, params["params"]["Dense_1"]["bias"]]


def case_linen_partitioned() -> Any:
    dense = linen.Dense(16, kernel_init=linen.with_partitioning(linen.initializers.lecun_normal(), ("x", "y")))
    x = put(noise(4, 8))
    init = lambda: dense.init(jax.random.key(1), x)  # noqa: E731
    shardings = linen.get_sharding(jax.eval_shape(init), mesh_2x4())
    params = jax.jit(init, out_shardings=shardings)()
    kernel = params["params"]["kernel"].value
    return [kernel, place(kernel), jax.jit(dense.apply)(params, x)]
