"""diffrax: a neural ODE trained with its batch over 8 devices, a stiff system, an SDE, and a refusal."""

import json

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
cut, everywhere = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
times = jnp.linspace(0.0, 2.0, 10)


class Field(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.mlp(y)


def solve(field, y0, adjoint=None):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0=times[0],
        t1=times[-1],
        dt0=times[1] - times[0],
        y0=y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        saveat=diffrax.SaveAt(ts=times),
        adjoint=adjoint or diffrax.RecursiveCheckpointAdjoint(),
        max_steps=256,
    ).ys


def spiral(t, y, args):
    return jnp.array([[-0.1, 2.0], [-2.0, -0.1]]) @ y**3


def loss_of(field, y0s, wanted, adjoint=None):
    found = jax.vmap(lambda y0: solve(field, y0, adjoint))(y0s)
    return jnp.mean((found - wanted) ** 2)


optimizer = optax.adabelief(3e-3)


@eqx.filter_jit
def step(field, opt_state, y0s, wanted):
    loss, grads = eqx.filter_value_and_grad(loss_of)(field, y0s, wanted)
    updates, opt_state = optimizer.update(grads, opt_state)
    return eqx.apply_updates(field, updates), opt_state, loss


y0s = jax.random.uniform(jax.random.key(0), (16, 2), minval=-0.6, maxval=1.0)
wanted = eqx.filter_jit(jax.vmap(lambda y0: solve(spiral, y0)))(y0s)
y0s, wanted = eqx.filter_shard((y0s, wanted), cut)
field = Field(eqx.nn.MLP(2, 2, 16, 2, activation=jax.nn.softplus, key=jax.random.key(1)))
opt_state = optimizer.init(eqx.filter(field, eqx.is_inexact_array))
field, opt_state = eqx.filter_shard((field, opt_state), everywhere)
losses = []
for _ in range(6):
    field, opt_state, loss = step(field, opt_state, y0s, wanted)
    losses.append(float(loss))


@jax.jit
@jax.grad
def sensitivity(k):
    """Through the equation backwards in time, where training went through checkpoints."""
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, k: -k * y),
        diffrax.Tsit5(),
        0.0,
        1.0,
        0.1,
        1.0,
        args=k,
        adjoint=diffrax.BacksolveAdjoint(),
    )
    return found.ys[0]


def robertson(t, y, k):
    a = -k[0] * y[0] + k[2] * y[1] * y[2]
    c = k[1] * y[1] ** 2
    return jnp.stack([a, -a - c, c])


@jax.jit
def stiff(k):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(robertson),
        diffrax.Kvaerno3(),
        0.0,
        100.0,
        0.0002,
        jnp.array([1.0, 0.0, 0.0]),
        args=k,
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-7),
    )


@jax.jit
def wandering(key):
    path = diffrax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=key)
    terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: -y), diffrax.ControlTerm(lambda t, y, args: 0.2, path))
    return diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, 1.0, 0.05, 1.0).ys[0]


chemistry = stiff(jnp.array([0.04, 3e7, 1e4]))
ends = jax.vmap(wandering)(jax.device_put(jax.random.split(jax.random.key(3), 64), cut))
try:
    diffrax.diffeqsolve(diffrax.ODETerm(spiral), diffrax.Tsit5(), 0.0, 9.0, 0.01, jnp.ones(2), max_steps=4)
    said = ""
except Exception as error:
    said = str(error)
print(
    json.dumps(
        {
            "losses": losses,
            "sensitivity": float(sensitivity(0.5)),
            "stiff": chemistry.ys[0].tolist(),
            "stiff steps": int(chemistry.stats["num_accepted_steps"]),
            "ends": ends.tolist(),
            "said": "maximum number of solver steps was reached" in said,
        }
    )
)
