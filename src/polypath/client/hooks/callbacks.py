"""Host callbacks: `jax.debug.print`, `pure_callback`, `io_callback` and what stands on them.

jaxlib's proxy client refuses to compile a program that has any. So the program is compiled
without them, and an option tells the workers which functions of this process it calls.

JAX's own part of a callback puts the arguments on a CPU device that it finds by name. The name
may be the cluster's, and a function that a program on the cluster calls must not need the cluster
to get its arguments: it gets a CPU device of this process.

An ordered callback's token fails with its program. Plain JAX on one CPU device never keeps such a
token, as it hears of the failure before; a client of a cluster would have it for ever, in the next
ordered callback and in `jax.effects_barrier`. Here a failed token is told of once, and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from jax._src import callback, compiler, debugging, dispatch, xla_bridge

from polypath.client.hooks import partitioning
from polypath.client.hooks.cluster import (
    callback_server,
    is_cluster,
    is_connected,
    local_cpu,
    overlay,
    replace,
)
from polypath.client.hooks.interrupts import gave_up, interruptible
from polypath.messages import CALLBACKS_OPTION

_bridge: Any = xla_bridge


def install() -> None:
    """Put the hooks in place."""
    replace(compiler, "backend_compile_and_load", _compile_and_load)
    overlay(callback, "xb", local_devices=_local_devices)
    overlay(debugging, "xla_bridge", local_devices=_local_devices)
    replace(dispatch.RuntimeTokenSet, "get_token_input", _next_token)
    replace(dispatch.RuntimeTokenSet, "block_until_ready", _barrier)


def _compile_and_load(original: Any) -> Any:
    def compile_and_load(
        backend: Any, module: Any, devices: Any, options: Any, host_callbacks: Sequence[Any], *rest: Any, **more: Any
    ) -> Any:
        answers = partitioning.answers_for(module) if is_cluster(backend) else None
        if not is_cluster(backend) or not (host_callbacks or answers):
            return original(backend, module, devices, options, host_callbacks, *rest, **more)
        callbacks = callback_server().register(host_callbacks, answers)
        before = list(options.env_option_overrides)
        options.env_option_overrides = [*before, (CALLBACKS_OPTION, msgspec.json.encode(callbacks).decode())]
        try:
            # The compiler may ask functions of this process.
            return interruptible(lambda: original(backend, module, devices, options, [], *rest, **more))
        finally:
            options.env_option_overrides = before

    return compile_and_load


def _next_token(original: Any) -> Any:
    def get_token_input(tokens: Any, effect: Any, devices: Any) -> Any:
        try:
            return original(tokens, effect, devices)
        except Exception:
            if is_connected():
                tokens.current_tokens.pop(effect, None)
            raise

    return get_token_input


def _barrier(original: Any) -> Any:
    def block_until_ready(tokens: Any) -> None:
        if gave_up():  # Of a program over several devices, some may wait for the one that was given up.
            tokens.clear()
        try:
            for token in list(tokens.output_runtime_tokens.values()):
                interruptible(token.block_until_ready)
            original(tokens)
        except Exception:
            if is_connected():
                tokens.clear()
            raise

    return block_until_ready


def _local_devices(process_index: int | None = None, backend: Any = None, host_id: int | None = None) -> Any:
    if is_connected() and backend == "cpu":
        return local_cpu().local_devices()
    return _bridge.local_devices(process_index, backend, host_id)
