"""An equinox model with state: `filter_jit`, `filter_shard`, a checked value, and its leaves in a file and back."""

import json
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

STEPS = 10
mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
cut, everywhere = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())


class Model(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(4, 16, use_bias=False, key=a)
        self.norm = eqx.nn.BatchNorm(16, axis_name="batch", mode="batch")
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=b)
        self.mlp = eqx.nn.MLP(16, "scalar", 32, 2, key=c)

    def __call__(self, x, state):
        x, state = self.norm(self.first(x), state)
        pairs = x.reshape(2, 8)
        pairs = pairs + self.attention(pairs, pairs, pairs)
        out = self.mlp(pairs.reshape(16))
        return eqx.error_if(out, ~jnp.isfinite(out), "the model diverged"), state


model, state = eqx.nn.make_with_state(Model)(jax.random.key(0))
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))


def loss_of(model, state, x, y):
    forward = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    predicted, state = forward(x, state)
    return jnp.mean((predicted - y) ** 2), state


@eqx.filter_jit(donate="all-except-first")
def step(batch, model, state, opt_state):
    model, state, opt_state = eqx.filter_shard((model, state, opt_state), everywhere)
    x, y = eqx.filter_shard(batch, cut)
    (loss, state), grads = eqx.filter_value_and_grad(loss_of, has_aux=True)(model, state, x, y)
    updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
    model = eqx.apply_updates(model, updates)
    return *eqx.filter_shard((model, state, opt_state), everywhere), loss


x = jax.random.normal(jax.random.key(1), (64, 4))
batch = eqx.filter_shard((x, jnp.sin(x).sum(axis=1)), cut)
model, state, opt_state = eqx.filter_shard((model, state, opt_state), everywhere)
losses = []
for _ in range(STEPS):
    model, state, opt_state, loss = step(batch, model, state, opt_state)
    losses.append(float(loss))

with tempfile.TemporaryDirectory() as folder:
    eqx.tree_serialise_leaves(Path(folder) / "model.eqx", (model, state))
    like = eqx.filter_eval_shape(eqx.nn.make_with_state(Model), jax.random.key(0))
    again, state_again = eqx.tree_deserialise_leaves(Path(folder) / "model.eqx", like)

infer = eqx.nn.inference_mode(again)
predicted, _ = eqx.filter_jit(jax.vmap(infer, axis_name="batch", in_axes=(0, None), out_axes=(0, None)))(x, state_again)
ensemble = eqx.filter_vmap(lambda key: eqx.nn.MLP(4, 1, 8, 1, key=key))(jax.random.split(jax.random.key(2), 8))
ensemble = eqx.filter_shard(ensemble, cut)
outputs = eqx.filter_jit(eqx.filter_vmap(lambda member, x: member(x), in_axes=(eqx.if_array(0), None)))(ensemble, x[0])


@eqx.filter_jit
def root(value):
    return jnp.sqrt(eqx.error_if(value, value < 0, "a negative value has no root"))


try:
    root(jnp.float32(-1.0)).block_until_ready()
    said = ""
except Exception as error:
    said = str(error)

print(
    json.dumps(
        {
            "losses": losses,
            "predicted": predicted.tolist(),
            "ensemble": outputs.tolist(),
            "root": float(root(jnp.float32(4.0))),
            "said": "a negative value has no root" in said,
        }
    )
)
