"""jax-md: Lennard-Jones particles at constant energy with neighbour lists, eight boxes over 8 devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax_md import energy, minimize, quantity, simulate, space

jax.config.update("jax_enable_x64", True)
COUNT, SIZE, STEP, STEPS = 64, 9.0, 2e-3, 100
mesh = jax.make_mesh((8,), ("box",), axis_types=(jax.sharding.AxisType.Auto,))
displacement, shift = space.periodic(SIZE)
neighbors, energy_of = energy.lennard_jones_neighbor_list(displacement, SIZE, r_cutoff=2.5, dr_threshold=0.4)
init, apply = simulate.nve(energy_of, shift, STEP)

grid = jnp.stack(jnp.meshgrid(*[jnp.arange(8.0)] * 2), axis=-1).reshape(-1, 2) * (SIZE / 8)
relax_init, relax = minimize.fire_descent(energy_of, shift)


@jax.jit
def relaxed(positions, near):
    state = relax_init(positions, neighbor=near)

    def body(_, both):
        state, near = both
        near = near.update(state.position)
        return relax(state, neighbor=near), near

    state, near = jax.lax.fori_loop(0, 30, body, (state, near))
    return state.position, near


def energies(state, near):
    return energy_of(state.position, neighbor=near) + quantity.kinetic_energy(momentum=state.momentum)


def advance(state, near):
    def body(both, _):
        state, near = both
        near = near.update(state.position)
        state = apply(state, neighbor=near)
        return (state, near), energies(state, near)

    return jax.lax.scan(body, (state, near), length=STEPS)


near = neighbors.allocate(grid, extra_capacity=8)
positions, near = relaxed(grid, near)
keys = jax.device_put(jax.random.split(jax.random.key(0), 8), NamedSharding(mesh, P("box")))
boxes = jax.jit(jax.vmap(lambda key: init(key, positions, kT=0.3, neighbor=near)))(keys)
nears = jax.tree.map(lambda x: jnp.broadcast_to(x, (8, *x.shape)), near)
start = jax.vmap(energies)(boxes, nears)
(boxes, nears), course = jax.jit(jax.vmap(advance))(boxes, nears)
drift = float(jnp.max(jnp.abs(course - start[:, None]) / jnp.abs(start[:, None])))
assert drift < 1e-3, drift
print(
    json.dumps(
        {
            "start": start.tolist(),
            "end": course[:, -1].tolist(),
            "energy is conserved": drift < 1e-3,
            "overflow": np.asarray(nears.did_buffer_overflow).tolist(),
            "momentum": float(jnp.abs(boxes.momentum.sum(axis=1)).max()) < 1e-6,
            "positions": boxes.position[:, 0].tolist(),
            "devices": sorted(d.id for d in boxes.position.devices()),
        }
    )
)
