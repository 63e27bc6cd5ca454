"""Contender: training steps of one small transformer, written for PyTorch or for JAX, with the same weights and data.

`--framework torch` with `--device polypath` (compiled for the cluster), `cpu` (torch.compile) or `eager` (neither);
`--framework jax` on JAX's devices. Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

LAYERS: Final = 4
WIDTH: Final = 256
HEADS: Final = 8
WORDS: Final = 1024
LENGTH: Final = 128
ROWS: Final = 8
RATE: Final = 1e-3
CHAIN: Final = 8
"""Steps between two looks at the loss."""


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """By the names of the model in PyTorch; matrices as `torch.nn.Linear` has them, (outputs, inputs)."""
    random = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.02, shape).astype(np.float32)

    made = {"words.weight": matrix(WORDS, WIDTH), "places.weight": matrix(LENGTH, WIDTH)}
    for layer in range(LAYERS):
        for name, shape in {
            "qkv": (3 * WIDTH, WIDTH),
            "out": (WIDTH, WIDTH),
            "up": (4 * WIDTH, WIDTH),
            "down": (WIDTH, 4 * WIDTH),
        }.items():
            made[f"blocks.{layer}.{name}.weight"] = matrix(*shape)
            made[f"blocks.{layer}.{name}.bias"] = np.zeros(shape[0], np.float32)
        for name in ("norm1", "norm2"):
            made[f"blocks.{layer}.{name}.weight"] = np.ones(WIDTH, np.float32)
            made[f"blocks.{layer}.{name}.bias"] = np.zeros(WIDTH, np.float32)
    return made


def batch() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    words = np.random.default_rng(1).integers(0, WORDS, (ROWS, LENGTH + 1))
    return words[:, :-1], words[:, 1:]


Step = Callable[[], Any]
"""Does a step; its result becomes the loss with `float`."""


def in_torch(device: str) -> tuple[Step, dict[str, str]]:
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = self.qkv(self.norm1(x)).view(ROWS, LENGTH, 3, HEADS, WIDTH // HEADS)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(ROWS, LENGTH, WIDTH))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))

        def forward(self, words: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.blocks(self.words(words) + self.places.weight)
            return F.cross_entropy((x @ self.words.weight.t()).view(-1, WORDS), targets.reshape(-1))

    place: Any = "cpu"
    if device == "polypath":
        import polypath

        place = polypath.torch.device()
    model = Model()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights().items()})
    model = model.to(place)
    words, targets = (torch.from_numpy(one).to(place) for one in batch())
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def step() -> torch.Tensor:
        loss = model(words, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    if device != "eager":
        step = torch.compile(step, backend="polypath" if device == "polypath" else "inductor")
    return step, {"torch": torch.__version__}


def in_jax() -> tuple[Step, dict[str, str]]:
    import jax
    import jax.numpy as jnp
    import optax

    def norm(x: jax.Array, w: dict[str, jax.Array], name: str) -> jax.Array:
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: jax.Array, w: dict[str, jax.Array], name: str) -> jax.Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def loss_of(w: dict[str, jax.Array], words: jax.Array, targets: jax.Array) -> jax.Array:
        x = w["words.weight"][words] + w["places.weight"]
        mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
        for layer in range(LAYERS):
            at = f"blocks.{layer}"
            parts = linear(norm(x, w, f"{at}.norm1"), w, f"{at}.qkv")
            q, k, v = parts.reshape(ROWS, LENGTH, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
            scores = jnp.where(mask, q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(WIDTH // HEADS)), -jnp.inf)
            y = (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(ROWS, LENGTH, WIDTH)
            x = x + linear(y, w, f"{at}.out")
            x = x + linear(jax.nn.gelu(linear(norm(x, w, f"{at}.norm2"), w, f"{at}.up"), False), w, f"{at}.down")
        logits = x @ w["words.weight"].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    optimizer = optax.adamw(RATE, weight_decay=1e-2)

    @jax.jit(donate_argnums=(0, 1))
    def train(w: Any, state: Any, words: jax.Array, targets: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(w, words, targets)
        updates, state = optimizer.update(grads, state, w)
        return optax.apply_updates(w, updates), state, loss

    w = jax.tree.map(jnp.asarray, weights())
    state = jax.jit(optimizer.init)(w)
    words, targets = map(jnp.asarray, batch())

    def step() -> jax.Array:
        nonlocal w, state
        w, state, loss = train(w, state, words, targets)
        return loss

    return step, {"jax": jax.__version__}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--framework", choices=("torch", "jax"), required=True)
    parser.add_argument("--device", choices=("polypath", "cpu", "eager"), default="polypath")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    step, versions = in_torch(options.device) if options.framework == "torch" else in_jax()
    began = time.perf_counter()
    first = float(step())
    for _ in range(2):
        loss = float(step())  # torch compiles what an optimizer does once its state is there anew.
    warm = time.perf_counter() - began
    steps, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < options.seconds:
        for _ in range(CHAIN):
            loss = step()
        loss = float(loss)
        steps += CHAIN
    if not loss < first:
        raise AssertionError(f"The loss did not fall: {first} and then {loss}.")
    samples = {"steps": steps / passed, "warm": warm, "loss": first}
    print(json.dumps({"versions": versions, "samples": samples}))


if __name__ == "__main__":
    main()
