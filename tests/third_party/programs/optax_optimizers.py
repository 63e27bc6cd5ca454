"""optax: accumulated gradients, L-BFGS with its line search, and an optimizer's state cut over 8 devices."""

import json

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
cut, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
key = jax.random.key(0)
x = jax.device_put(jax.random.normal(key, (64, 16)), cut)
y = jax.device_put(jnp.tanh(x @ jnp.linspace(-1, 1, 16)), cut)


def loss_of(params, x=x, y=y):
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)


def start():
    w = jax.random.normal(key, (16, 32)) / 4
    return jax.device_put({"w": w, "v": jnp.ones(32) / 32}, everywhere)


def train(optimizer, steps):
    params = start()
    # Each leaf of the state over the devices, where its first axis can be cut: ZeRO's first stage.
    specs = jax.tree.map(
        lambda s: cut if s.ndim and s.shape[0] % 8 == 0 else everywhere, jax.eval_shape(optimizer.init, params)
    )
    state = jax.jit(optimizer.init, out_shardings=specs)(params)

    @jax.jit(donate_argnums=(0, 1))
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return *jax.lax.with_sharding_constraint(
            (params, state), (jax.tree.map(lambda _: everywhere, params), specs)
        ), loss

    losses = []
    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses


def solve(steps):
    params = start()
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss_of)

    @jax.jit
    def step(params, state):
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss_of)
        return optax.apply_updates(params, updates), state, value

    state, losses = solver.init(params), []
    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return losses


labels = {"w": "matrix", "v": "vector"}
optimizers = {
    "adamw": optax.adamw(optax.cosine_decay_schedule(1e-2, 10)),
    "lamb": optax.lamb(1e-2),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=8),
    "accumulated": optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2),
    "partitioned": optax.multi_transform({"matrix": optax.contrib.muon(1e-2), "vector": optax.lion(1e-3)}, labels),
    "finite": optax.apply_if_finite(optax.sgd(0.1, momentum=0.9, nesterov=True), 3),
    "injected": optax.inject_hyperparams(optax.rmsprop)(learning_rate=optax.linear_schedule(1e-2, 1e-3, 5)),
}
print(json.dumps({name: train(one, 6) for name, one in optimizers.items()} | {"lbfgs": solve(5)}))
