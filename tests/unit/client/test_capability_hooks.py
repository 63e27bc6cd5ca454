"""Hooks that give arrays, devices and callbacks what jaxlib's proxy client lacks; others are left alone.

This process's CPU stands in for the cluster: `session` takes it for its own, and has all patches of the table in place.
A hook whose original the CPU answers differently from jaxlib's proxy client is tried on a stand-in for that original.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import ml_dtypes
import msgspec
import numpy as np
import pytest
from jax._src import callback, debugging, dispatch

from polypath.client.hooks import analysis, arrays
from polypath.client.session import Session
from polypath.messages import CALLBACKS_OPTION, Callbacks

Hook = Callable[[str, Any], Any]
"""By name, a hook of the table around a stand-in for what it replaces."""
SOCKET = "/nowhere/t/ifrt.sock"


@pytest.fixture
def client() -> Any:
    return jax.devices()[0].client


# --- analysis


def test_cost_is_estimated_by_a_client_of_this_process(session: Session, hook: Hook) -> None:
    original = mock.Mock()
    cost = hook("hlo_module_cost_analysis", original)
    cost(session.client, "module")
    original.assert_called_once_with(session.local_cpu(), "module")
    cost("another", "module")
    original.assert_called_with("another", "module")
    assert jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).cost_analysis()["flops"] == 2 * 8**3


def test_the_worker_tells_of_memory(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mock.Mock(return_value={"bytes_in_use": 1})
    monkeypatch.setattr(analysis.control_client, "memory_stats", asked)
    assert jax.devices()[0].memory_stats() == {"bytes_in_use": 1}
    asked.assert_called_once_with(f"unix:{SOCKET}", jax.devices()[0].id)
    session.close()
    jax.devices()[0].memory_stats()
    asked.assert_called_once()


def test_the_optimized_program_is_read_from_its_text(session: Session, hook: Hook) -> None:
    executable = jax.jit(lambda x: x + 1).lower(1.0).compile().runtime_executable()
    text = mock.Mock(client=session.client, get_hlo_text=executable.get_hlo_text)
    original = mock.Mock()
    (module,) = hook("hlo_modules", original)(text)
    assert module.name == executable.hlo_modules()[0].name
    original.assert_not_called()
    text.client = None
    hook("hlo_modules", original)(text)
    original.assert_called_once_with(text)


def test_devices_have_their_index_as_number(session: Session) -> None:
    device = jax.devices()[0]
    assert device.local_hardware_id == 0
    assert session.client.device_from_local_hardware_id(0) is device
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT: No matching device found .* 99"):
        session.client.device_from_local_hardware_id(99)


# --- arrays


def test_an_array_has_no_cuda_interface(session: Session, hook: Hook) -> None:
    def refuse(_: Any) -> None:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: the proxy client's")

    getter = hook("__cuda_array_interface__", property(refuse)).fget
    with pytest.raises(AttributeError, match="only defined for GPU buffers"):
        getter(jnp.ones(3))
    session.close()
    with pytest.raises(jax.errors.JaxRuntimeError, match="UNIMPLEMENTED"):
        getter(jnp.ones(3))


def test_the_worker_tells_an_address(session: Session) -> None:
    x = jnp.ones(3)
    session.transfers = mock.Mock(address=lambda array: 1234 if array is x else None)
    assert x.unsafe_buffer_pointer() == 1234
    assert jnp.ones(4).unsafe_buffer_pointer() > 1234  # Where nobody tells, jaxlib is asked.


def test_the_buffer_protocol_is_for_single_shards_of_numpys_types(session: Session) -> None:
    with pytest.raises(BufferError, match="type BF16 are not supported"):
        arrays._buffer(jnp.ones(3, jnp.bfloat16), 0)
    assert arrays._xla_name(str(np.dtype(ml_dtypes.float8_e4m3fn))) == "F8E4M3FN"
    two = mock.Mock()
    two.sharding.device_set = {1, 2}
    with pytest.raises(BufferError, match="single shard"):
        arrays._buffer(two, 0)
    if sys.version_info >= (3, 12):
        view = memoryview(jnp.arange(3, dtype=jnp.int8))
        assert (bytes(view), view.readonly) == (b"\0\1\2", True)


# --- callbacks


class Options:
    env_option_overrides: tuple[Any, ...] = (("kept", "1"),)


def test_a_program_is_compiled_without_its_callbacks(
    session: Session, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    server = mock.Mock()
    server.register.return_value = Callbacks("client", 1, 1, False)
    monkeypatch.setattr(Session, "callback_server", lambda _: server)
    seen: list[Any] = []

    def original(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any) -> str:
        seen.append((list(options.env_option_overrides), callbacks))
        return "compiled"

    compile_ = hook("backend_compile_and_load", original)
    module, options = jax.jit(lambda x: x).lower(1.0).compiler_ir(), Options()
    assert compile_(session.client, module, None, options, [print]) == "compiled"
    server.register.assert_called_once_with([print], None)
    ((overrides, callbacks),) = seen
    assert overrides[0] == ("kept", "1")
    assert overrides[1][0] == CALLBACKS_OPTION
    assert msgspec.json.decode(overrides[1][1], type=Callbacks) == Callbacks("client", 1, 1, False)
    assert callbacks == []
    assert list(options.env_option_overrides) == [("kept", "1")]
    compile_("another", module, None, options, [print])
    compile_(session.client, module, None, options, [])
    assert [callbacks for _, callbacks in seen[1:]] == [[print], []]
    server.register.assert_called_once()


def test_callbacks_have_devices_of_this_process(session: Session, client: Any) -> None:
    for module in (callback.xb, debugging.xla_bridge):
        (device, *_) = module.local_devices(backend="cpu")
        assert device.client is session.local_cpu()
        assert module.local_devices()[0].client is client
        assert module.process_count() == 1  # All else is as it was.


def test_a_token_that_failed_is_told_of_once(session: Session, hook: Hook) -> None:
    tokens = dispatch.RuntimeTokenSet()
    tokens.current_tokens["effect"] = "failed"
    original = mock.Mock(side_effect=RuntimeError("failed"))
    with pytest.raises(RuntimeError, match="failed"):
        hook("get_token_input", original)(tokens, "effect", jax.devices())
    assert "effect" not in tokens.current_tokens
    failed = mock.Mock()
    failed.block_until_ready.side_effect = RuntimeError("failed")
    tokens.set_output_runtime_token(jax.devices()[0], failed)
    with pytest.raises(RuntimeError, match="failed"):
        tokens.block_until_ready()
    tokens.block_until_ready()
    failed.block_until_ready.assert_called_once()


def test_nobody_waits_for_what_was_given_up(session: Session) -> None:
    tokens, hangs = dispatch.RuntimeTokenSet(), mock.Mock()
    tokens.set_output_runtime_token(jax.devices()[0], hangs)
    session.interrupts.gave_up = True
    tokens.block_until_ready()
    hangs.block_until_ready.assert_not_called()


# --- copying


def test_arrays_go_to_devices_of_this_process_and_back(session: Session, client: Any) -> None:
    here = session.local_cpu().local_devices()[0]
    there = jnp.arange(4)
    copied = jax.device_put(there, here)
    assert (copied.devices(), copied.tolist()) == ({here}, [0, 1, 2, 3])
    back = jax.device_put(copied, jax.devices()[0])
    assert (back.devices(), back.tolist()) == (set(jax.devices()[:1]), [0, 1, 2, 3])
    assert jax.device_put(there, jax.devices()[0]) is not None


def test_only_arrays_that_change_the_client_are_read(session: Session, hook: Hook) -> None:
    original = mock.Mock(return_value=["copied"])
    copy = hook("batched_copy_array_to_devices_with_sharding", original)
    here = jax.sharding.SingleDeviceSharding(session.local_cpu().local_devices()[0])
    x = jnp.arange(4)
    found = copy([x, x], [["d"], ["e"]], [x.sharding, here], ["s", "t"])
    original.assert_called_once_with([x], [["d"]], [x.sharding], ["s"])
    assert found[0] == "copied"
    assert found[1].tolist() == [0, 1, 2, 3]


# --- dlpack


def test_dlpack_hands_out_a_copy(session: Session, hook: Hook) -> None:
    x = jnp.arange(4, dtype=jnp.float32)
    assert np.from_dlpack(x).tolist() == [0, 1, 2, 3]
    original = mock.Mock()
    hand_out = hook("buffer_to_dlpack_managed_tensor", original)
    hand_out(x, stream=5)
    ((copied,), options) = original.call_args
    assert (copied.tolist(), options) == ([0, 1, 2, 3], {"stream": None})
    assert copied.devices() == set(session.local_cpu().local_devices()[:1])
    hand_out(copied, stream=5)
    original.assert_called_with(copied, stream=5)


def test_dlpack_takes_a_copy_in(session: Session, hook: Hook) -> None:
    mine = np.arange(4, dtype=np.float32)
    taken = jnp.from_dlpack(mine)
    assert taken.devices() == set(jax.devices()[:1])
    assert taken.tolist() == [0, 1, 2, 3]
    assert jnp.from_dlpack(mine, copy=True).tolist() == [0, 1, 2, 3]
    original = mock.Mock(return_value=mine)
    take_in = hook("dlpack_managed_tensor_to_buffer", original)
    take_in("tensor", jax.devices()[0], 5, True)
    original.assert_called_once_with("tensor", session.local_cpu().local_devices()[0], 5, None)
    with pytest.raises(ValueError, match="shares no memory with it: set copy=True or copy=None"):
        jnp.from_dlpack(mine, copy=False)
