"""Programs whose results on a cluster are compared with stock JAX's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

A = np.asarray(np.random.RandomState(0).randn(64, 64), np.float32)
POSITIVE = A @ A.T + 64 * np.eye(64, dtype=np.float32)
HALF = A.astype(jnp.bfloat16)
PROGRAMS: dict[str, Callable[[], Any]] = {
    "matmul": lambda: jnp.dot(A, A, precision="highest"),
    "bf16": lambda: (jnp.asarray(HALF) @ HALF).astype(jnp.float32),
    "conv": lambda: jax.lax.conv(A[None, None], A[None, None, :3, :3], (1, 1), "SAME"),
    "cholesky": lambda: jnp.linalg.cholesky(POSITIVE),
    "eigh": lambda: jnp.linalg.eigh(POSITIVE)[0],
    "qr": lambda: abs(jnp.linalg.qr(A)[1]),
    "svd": lambda: jnp.linalg.svd(A, compute_uv=False),
    "lu": lambda: jnp.linalg.solve(POSITIVE, A),
    "fft": lambda: jnp.fft.rfft2(A),
    "sort": lambda: jnp.sort(A, 1),
    "topk": lambda: jax.lax.top_k(A, 5)[0],
    "bits": lambda: jax.random.bits(jax.random.key(0), (32,)),
    "normal": lambda: jax.random.normal(jax.random.key(0), (32,)),
    "scan": lambda: jax.lax.scan(lambda c, x: (jnp.tanh(c + x), c), A[0], A)[0],
    "scatter": lambda: jnp.zeros(64).at[np.arange(64) % 7].add(A[0]),
    "attention": lambda: jax.nn.dot_product_attention(*(jnp.asarray(A).reshape(1, 64, 2, 32),) * 3),
    "grad": lambda: jax.grad(lambda w: jnp.sum(jnp.tanh(A @ w)))(A),
    "fp8": lambda: jnp.asarray(A).astype(jnp.float8_e4m3fn).astype(jnp.float32),
}


def results() -> dict[str, np.ndarray]:
    return {name: np.asarray(jax.jit(program)()) for name, program in PROGRAMS.items()}
