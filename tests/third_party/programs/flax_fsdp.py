"""A small transformer in flax nnx, its parameters cut over two axes of a mesh of 8 devices, trained by AdamW."""

import json

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

VOCABULARY, WIDTH, LENGTH, BATCH, STEPS = 32, 32, 16, 16, 12
mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
jax.set_mesh(mesh)


def split(*axes):
    return nnx.with_partitioning(nnx.initializers.lecun_normal(), axes)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm_1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            4, WIDTH, kernel_init=split("data", "model", None), decode=False, dropout_rate=0.1, rngs=rngs
        )
        self.norm_2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, kernel_init=split("data", "model"), rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, kernel_init=split("model", "data"), rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm_1(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.norm_2(x))))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.embedding = nnx.Embed(VOCABULARY, WIDTH, embedding_init=split("model", "data"), rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embedding.attend(self.norm(x))


@nnx.jit
def make():
    model = Model(nnx.Rngs(params=0, dropout=1))
    optimizer = nnx.Optimizer(model, optax.adamw(optax.warmup_cosine_decay_schedule(0, 1e-2, 3, STEPS)), wrt=nnx.Param)
    return model, optimizer


def loss_of(model, tokens):
    logits = model(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


@nnx.jit
def step(model, optimizer, metrics, tokens):
    loss, grads = nnx.value_and_grad(loss_of)(model, tokens)
    optimizer.update(model, grads)
    metrics.update(loss=loss, norm=optax.global_norm(grads))
    return loss


@nnx.jit
def evaluate(model, tokens):
    return loss_of(model, tokens)


model, optimizer = make()
metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"), norm=nnx.metrics.Average("norm"))
start = jax.random.randint(jax.random.key(2), (BATCH, 1), 0, VOCABULARY)
tokens = jax.device_put((start + 3 * jnp.arange(LENGTH)) % VOCABULARY, NamedSharding(mesh, P("data")))

model.train()
losses = [float(step(model, optimizer, metrics, tokens)) for _ in range(STEPS)]
model.eval()
up = model.blocks[0].up.kernel[...]
print(
    json.dumps(
        {
            "losses": losses,
            "metrics": {name: float(value) for name, value in metrics.compute().items()},
            "evaluation": float(evaluate(model, tokens)),
            "spec": str(up.sharding.spec),
            "shards": [[shard.device.id, *shard.data.shape] for shard in up.addressable_shards],
            "up": float(jnp.abs(up).sum()),
            "parameters": sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param))),
        }
    )
)
