"""Train a byte-level transformer on the source text of Python's own standard library.

Plain JAX and optax on a 2x4 mesh: the batch is split over "data", the weights over "model".

    JAX_NUM_CPU_DEVICES=8 python examples/train_lm.py                   # eight virtual devices
    polypath run --hosts 2 --devices-per-host 4 examples/train_lm.py    # two worker processes

Writes `loss.png`, `losses.json` and `sample.txt` into `--out`.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import sysconfig
from collections import deque
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tqdm import tqdm

mpl.use("Agg")
import matplotlib.pyplot as plt

# Devices and transports add in orders of their own, and training blows a difference in float32's
# last bit up to visible digits within twenty steps. In double precision every printed digit agrees.
jax.config.update("jax_enable_x64", True)

BYTES, LAYERS, HEADS, WIDTH = 256, 3, 4, 128
READ_EVERY, EVAL_EVERY, EVAL_BATCHES, SAMPLE_BYTES = 10, 50, 8, 160
SKIPPED = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
PROMPTS = (b"\n    def __init__(self, ", b"\nimport os\n\ndef get_path")

Params = dict[str, jax.Array]


class State(NamedTuple):
    """What a training step takes over and gives back."""

    params: Params
    optimizer: optax.OptState


# --- Text -------------------------------------------------------------------------------------


def read_corpus() -> tuple[np.ndarray, np.ndarray]:
    """The standard library's modules as bytes: fifteen of sixteen, and the sixteenth, held out."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [file for file in root.rglob("*.py") if SKIPPED.isdisjoint(file.relative_to(root).parts)]
    files.sort(key=lambda file: file.relative_to(root).as_posix())
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for index, file in enumerate(files):
        parts[index % 16 == 15].append(file.read_bytes())
    train, held_out = (np.frombuffer(b"\n".join(part), np.uint8) for part in parts)
    return train, held_out


def windows(text: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """`uint8[len(starts), length + 1]`: the bytes of each window and the one that follows it."""
    return text[starts[:, None] + np.arange(length + 1)]


# --- Model ------------------------------------------------------------------------------------

WEIGHTS = {  # name: (shape, how it is split)
    "embed": ((BYTES, WIDTH), PartitionSpec(None, "model")),
    "query": ((LAYERS, WIDTH, WIDTH), PartitionSpec(None, None, "model")),
    "key": ((LAYERS, WIDTH, WIDTH), PartitionSpec(None, None, "model")),
    "value": ((LAYERS, WIDTH, WIDTH), PartitionSpec(None, None, "model")),
    "mix": ((LAYERS, WIDTH, WIDTH), PartitionSpec(None, "model", None)),
    "up": ((LAYERS, WIDTH, 4 * WIDTH), PartitionSpec(None, None, "model")),
    "down": ((LAYERS, 4 * WIDTH, WIDTH), PartitionSpec(None, "model", None)),
    "logits": ((WIDTH, BYTES), PartitionSpec(None, "model")),
}


def init_params(key: jax.Array) -> Params:
    """Normal weights scaled by their fan-in; what writes into the residual stream starts at zero."""
    params = {}
    for name, (shape, _) in WEIGHTS.items():
        key, draw = jax.random.split(key)
        scale = {"embed": 1.0, "mix": 0.0, "down": 0.0, "logits": 0.0}.get(name, shape[-2] ** -0.5)
        params[name] = scale * jax.random.normal(draw, shape)
    return params


def normalize(x: jax.Array) -> jax.Array:
    """RMS norm without weights."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def rotate(x: jax.Array) -> jax.Array:
    """Rotary positions for `[batch, time, head, feature]`."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1])[:, None] * 1000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[:, None, :], jnp.sin(angle)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Causal attention on `[batch, time, head, feature]`."""
    time, size = query.shape[1], query.shape[-1]
    scores = jnp.einsum("bqhf,bkhf->bhqk", query, key) * size**-0.5
    past = jnp.tril(jnp.ones((time, time), bool))
    return jnp.einsum("bhqk,bkhf->bqhf", jax.nn.softmax(scores, where=past), value)


def block(x: jax.Array, weights: Params) -> tuple[jax.Array, None]:
    """One layer on `[batch, time, width]`: attention, then a squared-ReLU MLP."""
    h = normalize(x)
    heads = (*x.shape[:2], HEADS, -1)
    query, key, value = ((h @ weights[name]).reshape(heads) for name in ("query", "key", "value"))
    attended = attend(rotate(normalize(query)), rotate(normalize(key)), value)
    x = x + attended.reshape(x.shape) @ weights["mix"]
    return x + jnp.square(jax.nn.relu(normalize(x) @ weights["up"])) @ weights["down"], None


def predict(params: Params, tokens: jax.Array) -> jax.Array:
    """Logits `[batch, time, 256]` of the byte after each of `tokens[batch, time]`."""
    layers = {name: weights for name, weights in params.items() if name not in ("embed", "logits")}
    x, _ = jax.lax.scan(block, normalize(params["embed"][tokens]), layers)
    return normalize(x) @ params["logits"]


@jax.jit
def mean_loss(params: Params, text: jax.Array) -> jax.Array:
    """Cross entropy in nats per byte of `text[batch, time + 1]`."""
    logits = predict(params, text[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:].astype(jnp.int32)).mean()


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(optimizer: optax.GradientTransformation, state: State, text: jax.Array) -> tuple[State, jax.Array]:
    """One step; the old state's buffers become the new one's."""
    loss, grads = jax.value_and_grad(mean_loss)(state.params, text)
    updates, opt_state = optimizer.update(grads, state.optimizer)
    return State(optax.apply_updates(state.params, updates), opt_state), loss


@jax.jit
def generate(params: Params, window: jax.Array, keys: jax.Array) -> jax.Array:
    """One byte per key after each row of `window`, drawn at temperature 0.9."""

    def next_byte(window: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.categorical(key, predict(params, window)[:, -1] / 0.9).astype(window.dtype)
        return jnp.concatenate([window[:, 1:], drawn[:, None]], axis=1), drawn

    return jax.lax.scan(next_byte, window, keys)[1].T


# --- The run ----------------------------------------------------------------------------------


class Trainer:
    """The training loop; losses are read late, so that the devices never wait for the host."""

    def __init__(self, args: argparse.Namespace) -> None:
        mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
        self.by_data = NamedSharding(mesh, PartitionSpec("data"))
        by_model = {name: NamedSharding(mesh, split) for name, (_, split) in WEIGHTS.items()}
        schedule = optax.warmup_cosine_decay_schedule(0.0, 6e-3, args.steps // 10, args.steps, 3e-4)
        self.optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98, eps=1e-6))
        params = jax.jit(init_params, out_shardings=by_model)(jax.random.key(args.seed))
        self.state = State(params, jax.jit(self.optimizer.init)(params))
        self.bar = tqdm(total=args.steps, unit="step", mininterval=1.0)
        self.in_flight: deque[jax.Array] = deque()
        self.losses: list[float] = []
        self.bits_per_byte: dict[int, float] = {}

    def step(self, text: np.ndarray) -> None:
        """Enqueue one step."""
        self.state, loss = train_step(self.optimizer, self.state, jax.device_put(text, self.by_data))
        self.in_flight.append(loss)
        if len(self.in_flight) == 2 * READ_EVERY:
            self.read_losses(leave=READ_EVERY)

    def read_losses(self, leave: int = 0) -> None:
        """Wait for all but the last `leave` steps."""
        while len(self.in_flight) > leave:
            self.losses.append(float(self.in_flight.popleft()))
            self.bar.update()
            if len(self.losses) % READ_EVERY == 0:
                self.say(f"training loss {self.losses[-1]:.4f}")

    def evaluate(self, batches: np.ndarray) -> None:
        """Bits per byte of the held-out modules."""
        nats = [mean_loss(self.state.params, jax.device_put(text, self.by_data)) for text in batches]
        self.read_losses()
        bits = float(np.mean([float(n) for n in nats]) / np.log(2))
        self.bits_per_byte[len(self.losses)] = bits
        self.say(f"held-out bits per byte {bits:.4f}")

    def say(self, text: str) -> None:
        self.bar.write(f"step {len(self.losses):4d}  {text}", file=sys.stdout)

    def sample(self, seq: int, seed: int) -> str:
        """Text after each of the prompts, from the weights gathered on one device."""
        prompts = np.stack([np.frombuffer(p.rjust(seq, b"\n")[-seq:], np.uint8) for p in PROMPTS])
        keys = jax.random.split(jax.random.key(seed), SAMPLE_BYTES)
        drawn = np.asarray(generate(jax.device_put(self.state.params, jax.devices()[0]), prompts, keys))
        texts = [p + d.tobytes() for p, d in zip(PROMPTS, drawn, strict=True)]
        return "\n--------".join(text.decode(errors="replace") for text in texts)


def save_losses(path: Path, trainer: Trainer) -> None:
    """Every loss to four decimals, as text: two runs can be compared with `diff`."""
    log = {
        "training_loss": [f"{loss:.4f}" for loss in trainer.losses],
        "held_out_bits_per_byte": {step: f"{bits:.4f}" for step, bits in trainer.bits_per_byte.items()},
    }
    path.write_text(json.dumps(log, indent=1) + "\n")


def save_plot(path: Path, trainer: Trainer) -> None:
    """Training and held-out loss on one scale, in bits per byte."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = np.arange(1, len(trainer.losses) + 1)
    axes.plot(steps, np.asarray(trainer.losses) / np.log(2), lw=1, label="training batches")
    axes.plot(*zip(*trainer.bits_per_byte.items(), strict=True), "o-", label="held-out modules")
    axes.set(xlabel="step", ylabel="bits per byte", title="Source text of Python's standard library")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small language model on a 2x4 mesh.")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128, help="bytes per window")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if len(jax.devices()) < 8:
        sys.exit(
            f"This example needs 8 devices and JAX finds {len(jax.devices())}: set JAX_NUM_CPU_DEVICES=8, or "
            "use `polypath run --hosts 2 --devices-per-host 4 examples/train_lm.py`."
        )
    train, held_out = read_corpus()
    print(f"Training on {len(train):,} bytes, on 8 of {len(jax.devices())} {jax.devices()[0].device_kind} devices")

    trainer = Trainer(args)
    rng = np.random.default_rng(args.seed)
    eval_starts = np.linspace(0, len(held_out) - args.seq - 1, EVAL_BATCHES * args.batch).astype(np.int64)
    eval_text = windows(held_out, eval_starts, args.seq).reshape(EVAL_BATCHES, args.batch, -1)
    for step in range(args.steps):
        if step % EVAL_EVERY == 0:
            trainer.evaluate(eval_text)
        trainer.step(windows(train, rng.integers(0, len(train) - args.seq, args.batch), args.seq))
    trainer.evaluate(eval_text)
    trainer.bar.close()

    sample = trainer.sample(args.seq, args.seed)
    print(f"--------{sample}\n--------")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sample.txt").write_text(sample)
    save_losses(args.out / "losses.json", trainer)
    save_plot(args.out / "loss.png", trainer)
    print(f"Wrote loss.png, losses.json and sample.txt into {args.out}/")


if __name__ == "__main__":
    main()
