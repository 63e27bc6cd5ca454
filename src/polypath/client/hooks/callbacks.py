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
from typing import Any, Final

import msgspec
from jax._src import xla_bridge

from polypath.client.hooks.partitioning import answers_for
from polypath.client.hooks.patches import Patch, overlay
from polypath.client.session import Session
from polypath.messages import CALLBACKS_OPTION

_bridge: Any = xla_bridge

_TOKENS: Final = "jax._src.dispatch:RuntimeTokenSet"


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def backend_compile(
        original: Any,
        backend: Any,
        module: Any,
        devices: Any,
        options: Any,
        callbacks: Sequence[Any],
        *rest: Any,
        **more: Any,
    ) -> Any:
        answers = answers_for(module) if session.is_cluster(backend) else None
        if not session.is_cluster(backend) or not (callbacks or answers):
            return original(backend, module, devices, options, callbacks, *rest, **more)
        named = msgspec.json.encode(session.callback_server().register(callbacks, answers)).decode()
        before = list(options.env_option_overrides)
        options.env_option_overrides = [*before, (CALLBACKS_OPTION, named)]
        try:
            # The compiler may ask functions of this process.
            return session.interrupts.interruptible(
                lambda: original(backend, module, devices, options, [], *rest, **more)
            )
        finally:
            options.env_option_overrides = before

    def get_token_input(original: Any, tokens: Any, effect: Any, devices: Any) -> Any:
        try:
            return original(tokens, effect, devices)
        except Exception:
            if not session.closed:
                tokens.current_tokens.pop(effect, None)
            raise

    def barrier(original: Any, tokens: Any) -> None:
        if session.closed:
            return original(tokens)
        if session.interrupts.gave_up:  # Of a program over several devices, some may wait for the one given up.
            tokens.clear()
        try:
            for token in list(tokens.output_runtime_tokens.values()):
                session.interrupts.interruptible(token.block_until_ready)
            return original(tokens)
        except Exception:
            tokens.clear()
            raise

    def local_devices(process_index: int | None = None, backend: Any = None, host_id: int | None = None) -> Any:
        if backend == "cpu" and not session.closed:
            return session.local_cpu().local_devices()
        return _bridge.local_devices(process_index, backend, host_id)

    return [
        Patch("jax._src.compiler", "backend_compile_and_load", backend_compile, "The proxy client refuses callbacks."),
        Patch(
            "jax._src.callback", "xb", overlay(local_devices=local_devices), "Arguments need a device of this process."
        ),
        Patch("jax._src.debugging", "xla_bridge", overlay(local_devices=local_devices), "The same, for `jax.debug`."),
        Patch(_TOKENS, "get_token_input", get_token_input, "A token that failed is to be told of once."),
        Patch(_TOKENS, "block_until_ready", barrier, "The same; and Ctrl-C ends the wait."),
    ]
