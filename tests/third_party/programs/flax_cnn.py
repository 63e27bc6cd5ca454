"""A convolutional network in flax nnx: the batch over 8 devices, the model with its batch statistics on each."""

import json

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

STEPS = 8
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.dense = nnx.Linear(8 * 7 * 7, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), strides=(2, 2))
        return self.dense(self.dropout(x.reshape(x.shape[0], -1)))


def loss_of(model, batch):
    images, labels = batch
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits


@nnx.jit
def step(model, optimizer, metrics, batch):
    (loss, logits), grads = nnx.value_and_grad(loss_of, has_aux=True)(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch[1])
    optimizer.update(model, grads)
    return loss


model = CNN(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.sgd(0.02, momentum=0.9), wrt=nnx.Param)
metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))

# As the data-parallel guide does: the state on every device, the batch cut over them.
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
for part in (model, optimizer, metrics):
    nnx.update(part, jax.device_put(nnx.state(part), everywhere))

key = jax.random.key(1)
labels = jax.random.randint(key, (64,), 0, 10)
images = jax.nn.one_hot(labels, 14)[:, :, None, None] + 0.1 * jax.random.normal(key, (64, 14, 14, 1))
batch = jax.device_put((images, labels), cut)

model.train()
losses = [float(step(model, optimizer, metrics, batch)) for _ in range(STEPS)]
model.eval()
logits = nnx.jit(lambda model, images: model(images))(model, images)
print(
    json.dumps(
        {
            "losses": losses,
            "metrics": {name: float(value) for name, value in metrics.compute().items()},
            "running mean": model.norm.mean[...].tolist(),
            "running variance": model.norm.var[...].tolist(),
            "logits": float(jnp.abs(logits).sum()),
            "devices": sorted(device.id for device in model.dense.kernel[...].devices()),
        }
    )
)
