"""What each hook does for its session's client, and that it leaves others alone.

This process's CPU stands in for the cluster: `session` takes it for its own, and has all patches of the table in place.
A hook whose original the CPU answers differently from jaxlib's proxy client is tried on a stand-in for that original.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import ml_dtypes
import msgspec
import numpy as np
import pytest
from jax._src import array as jax_array
from jax._src import callback, debugging, dispatch
from jax._src.interpreters import mlir
from jax._src.lib import xla_client

from polypath.client.hooks import analysis, arrays, forked, partitioning, patches, programs
from polypath.client.session import Session
from polypath.errors import ClusterError, ForkedProcess
from polypath.messages import CALLBACKS_OPTION, PROGRAM_OPTION, Callbacks, CompilerAnswer, CompilerQuestion

SOCKET = "/nowhere/t/ifrt.sock"


@pytest.fixture
def client() -> Any:
    return jax.devices()[0].client


@pytest.fixture
def session(client: Any) -> Iterator[Session]:
    session = Session(client, f"grpc://unix:{SOCKET}")
    installed = patches.install(session)
    yield session
    session.close()
    installed.undo()  # As a forked child does not.


def hook(session: Session, name: str, original: Any) -> Any:
    """A hook of the table around a stand-in for what it replaces."""
    (found,) = (
        each
        for its in patches.table(session).values()
        for each in its
        if each.name == name and "Raises" not in each.why
    )
    return found.wrap(original)


# --- analysis


def test_cost_is_estimated_by_a_client_of_this_process(session: Session) -> None:
    original = mock.Mock()
    cost = hook(session, "hlo_module_cost_analysis", original)
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


def test_the_optimized_program_is_read_from_its_text(session: Session) -> None:
    executable = jax.jit(lambda x: x + 1).lower(1.0).compile().runtime_executable()
    text = mock.Mock(client=session.client, get_hlo_text=executable.get_hlo_text)
    original = mock.Mock()
    (module,) = hook(session, "hlo_modules", original)(text)
    assert module.name == executable.hlo_modules()[0].name
    original.assert_not_called()
    text.client = None
    hook(session, "hlo_modules", original)(text)
    original.assert_called_once_with(text)


def test_devices_have_their_index_as_number(session: Session) -> None:
    device = jax.devices()[0]
    assert device.local_hardware_id == 0
    assert session.client.device_from_local_hardware_id(0) is device
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT: No matching device found .* 99"):
        session.client.device_from_local_hardware_id(99)


# --- arrays


def test_an_array_has_no_cuda_interface(session: Session) -> None:
    def refuse(_: Any) -> None:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: the proxy client's")

    getter = hook(session, "__cuda_array_interface__", property(refuse)).fget
    with pytest.raises(AttributeError, match="only defined for GPU buffers"):
        getter(jnp.ones(3))
    session.close()
    jax.clear_caches()  # As leaving a cluster does.
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


def test_a_program_is_compiled_without_its_callbacks(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    server = mock.Mock()
    server.register.return_value = Callbacks("client", 1, 1, False)
    monkeypatch.setattr(Session, "callback_server", lambda _: server)
    seen: list[Any] = []

    def original(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any) -> str:
        seen.append((list(options.env_option_overrides), callbacks))
        return "compiled"

    compile_ = hook(session, "backend_compile_and_load", original)
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


def test_a_token_that_failed_is_told_of_once(session: Session) -> None:
    tokens = dispatch.RuntimeTokenSet()
    tokens.current_tokens["effect"] = "failed"
    original = mock.Mock(side_effect=RuntimeError("failed"))
    with pytest.raises(RuntimeError, match="failed"):
        hook(session, "get_token_input", original)(tokens, "effect", jax.devices())
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


def test_only_arrays_that_change_the_client_are_read(session: Session) -> None:
    original = mock.Mock(return_value=["copied"])
    copy = hook(session, "batched_copy_array_to_devices_with_sharding", original)
    here = jax.sharding.SingleDeviceSharding(session.local_cpu().local_devices()[0])
    x = jnp.arange(4)
    found = copy([x, x], [["d"], ["e"]], [x.sharding, here], ["s", "t"])
    original.assert_called_once_with([x], [["d"]], [x.sharding], ["s"])
    assert found[0] == "copied"
    assert found[1].tolist() == [0, 1, 2, 3]


# --- dlpack


def test_dlpack_hands_out_a_copy(session: Session) -> None:
    x = jnp.arange(4, dtype=jnp.float32)
    assert np.from_dlpack(x).tolist() == [0, 1, 2, 3]
    original = mock.Mock()
    hand_out = hook(session, "buffer_to_dlpack_managed_tensor", original)
    hand_out(x, stream=5)
    ((copied,), options) = original.call_args
    assert (copied.tolist(), options) == ([0, 1, 2, 3], {"stream": None})
    assert copied.devices() == set(session.local_cpu().local_devices()[:1])
    hand_out(copied, stream=5)
    original.assert_called_with(copied, stream=5)


def test_dlpack_takes_a_copy_in(session: Session) -> None:
    mine = np.arange(4, dtype=np.float32)
    taken = jnp.from_dlpack(mine)
    assert taken.devices() == set(jax.devices()[:1])
    assert taken.tolist() == [0, 1, 2, 3]
    assert jnp.from_dlpack(mine, copy=True).tolist() == [0, 1, 2, 3]
    original = mock.Mock(return_value=mine)
    take_in = hook(session, "dlpack_managed_tensor_to_buffer", original)
    take_in("tensor", jax.devices()[0], 5, True)
    original.assert_called_once_with("tensor", session.local_cpu().local_devices()[0], 5, None)
    with pytest.raises(ValueError, match="shares no memory with it: set copy=True or copy=None"):
        jnp.from_dlpack(mine, copy=False)


# --- donating


def test_an_array_that_stays_is_not_donated(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    how = xla_client.ArrayCopySemantics
    copy = mock.Mock()
    monkeypatch.setattr(xla_client, "batched_copy_array_to_devices_with_sharding", copy)
    x = jnp.ones(4)
    elsewhere = jax.sharding.SingleDeviceSharding(session.local_cpu().local_devices()[0])
    jax_array.xc.batched_copy_array_to_devices_with_sharding(
        [x, x, x], [], [x.sharding, elsewhere, x.sharding], [how.DONATE_INPUT, how.DONATE_INPUT, how.ALWAYS_COPY]
    )
    assert copy.call_args.args[3] == [how.REUSE_INPUT, how.DONATE_INPUT, how.ALWAYS_COPY]


def test_shards_in_another_order_are_donated_only_while_jax_asks_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = xla_client.ArrayCopySemantics
    reorder = mock.Mock()
    monkeypatch.setattr(xla_client, "reorder_shards", reorder)

    def original(x: Any, target: Any, copy: Any) -> None:
        dispatch.xc.reorder_shards(x, target, how.ALWAYS_COPY)

    # The overlay and the hook share what they know, so the original is put beneath the hook of the table.
    (overlaid, reshard) = (each for each in patches.table(session)["donating"] if each.owner == "jax._src.dispatch")
    monkeypatch.setattr(dispatch, "xc", overlaid.wrap(xla_client))
    x = jnp.ones(4)
    for asked in (how.DONATE_INPUT, how.ALWAYS_COPY):
        reshard.wrap(original)(x, x.sharding, asked)
    dispatch.xc.reorder_shards(x, x.sharding, how.REUSE_INPUT)
    assert [each.args[2] for each in reorder.call_args_list] == [how.DONATE_INPUT, how.ALWAYS_COPY, how.REUSE_INPUT]


# --- partitioning

INSPECTED = """func.func @main(%%x: tensor<8xf32>) {
  stablehlo.custom_call @InspectSharding(%%x) {backend_config = "%s", has_side_effect = true} : (tensor<8xf32>) -> ()
  return
}"""


def test_compilers_are_answered_by_the_functions_that_a_program_names(session: Session) -> None:
    seen: list[Any] = []

    def look(sharding: Any) -> None:
        seen.append(sharding)

    key = xla_client.encode_inspect_sharding_callback(look)
    assert partitioning.answers_for(jax.jit(lambda x: x).lower(1.0).compiler_ir()) is None
    with mlir.make_ir_context():
        answers = partitioning.answers_for(mlir.ir.Module.parse(INSPECTED % "".join(f"\\{byte:02X}" for byte in key)))
    assert answers is not None
    shape = partitioning.ShardedShape("", xla_client.HloSharding.replicate().to_proto().SerializeToString())
    question = CompilerQuestion("inspect", key, 0, (shape,), None, "1.0.0")
    asked = np.frombuffer(msgspec.msgpack.encode(question), np.uint8)
    for _ in range(2):  # By each host of a program.
        (answer,) = answers(asked)
        assert msgspec.msgpack.decode(answer.tobytes(), type=CompilerAnswer) == CompilerAnswer()
    assert len(seen) == 1
    gone = partitioning.Answers({key: None})
    with pytest.raises(RuntimeError, match=r"names functions .* that this process does not have"):
        gone(asked)


# --- programs


def test_a_program_that_is_too_new_goes_in_an_option(session: Session) -> None:
    seen: list[Any] = []

    def original(client: Any, computation: Any, devices: Any, options: Any) -> str:
        seen.append((computation, [name for name, _ in options.env_option_overrides]))
        if len(seen) == 1:
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Failed to serialize StableHLO")
        return "compiled"

    compile_ = hook(session, "compile_and_load", original)
    options = xla_client.CompileOptions()
    stand_in: Any = types.SimpleNamespace()
    stand_in.stablehlo_current_version = (1, 0, 0)
    session.__dict__["is_cluster"] = lambda client: client is stand_in
    assert compile_(stand_in, b"portable", "devices", options) == "compiled"
    assert seen == [(b"portable", []), (programs._STAND_IN, [PROGRAM_OPTION])]
    assert list(options.env_option_overrides) == []
    seen.clear()
    with pytest.raises(jax.errors.JaxRuntimeError, match="Failed to serialize"):
        compile_(types.SimpleNamespace(), b"portable", "devices", options)


def test_an_executable_is_what_it_was_compiled_from(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = jax.jit(lambda x: x * 3).lower(jnp.ones(2))
    executable = lowered.compile().runtime_executable()
    options = xla_client.CompileOptions()
    options.num_replicas = options.num_partitions = 1
    source = mock.Mock(return_value=(b"module", options.SerializeAsString()))
    monkeypatch.setattr(programs.control_client, "program_source", source)
    serialized = executable.serialize()
    assert serialized == session.client.serialize_executable(executable)
    source.assert_called_with(f"unix:{SOCKET}", executable.fingerprint, (0,))
    loaded = mock.Mock()
    monkeypatch.setattr(type(session.client), "compile_and_load", loaded)
    devices = xla_client.DeviceList(tuple(jax.devices()[:1]))
    session.client.deserialize_executable(serialized, devices)
    assert loaded.call_args.args[0] == b"module"
    with pytest.raises(jax.errors.JaxRuntimeError, match="no executable that was serialized on a cluster of Polypath"):
        session.client.deserialize_executable(b"theirs", devices)
    source.side_effect = ClusterError("It calls functions of its client.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="FAILED_PRECONDITION: It calls functions"):
        executable.serialize()


def test_the_compilation_cache_is_told_that_it_works(session: Session, client: Any) -> None:
    assert client.supports_executable_serialization is True
    session.close()
    assert getattr(client, "supports_executable_serialization", "asked otherwise") != "told by us"
    assert "supports_executable_serialization" not in vars(type(client))


# --- forked


@pytest.fixture
def child(session: Session) -> Iterator[Session]:
    """The session as a forked child has it."""
    session.after_fork_in_child()
    installed = patches.install_in_forked_child(session)
    yield session
    installed.undo()


TOUCHES: tuple[Callable[[Any], Any], ...] = (
    lambda x: x.block_until_ready(),
    lambda x: x.delete(),
    lambda x: x.is_deleted(),
    lambda x: x.addressable_shards,
    lambda x: jax.block_until_ready([x, x]),
    lambda x: jax.device_put(np.ones(3), x.sharding),
    jax.jit(lambda v: v + 2),
    lambda x: x.unsafe_buffer_pointer(),
    lambda x: jax.make_array_from_single_device_arrays(x.shape, x.sharding, [x]),
)


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_forked_child_is_told_that_it_has_no_session(
    session: Session, touch: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    x = jnp.ones(3)
    request.getfixturevalue("child")
    with pytest.raises(
        ForkedProcess, match=r"forked from one that uses the cluster 't', and has no session of its own"
    ):
        touch(x)


def test_a_forked_child_may_use_devices_of_its_own(child: Session) -> None:
    here = child.local_cpu().local_devices()[0]
    assert jax.device_put(np.arange(3), here).tolist() == [0, 1, 2]


def test_all_that_a_client_has_is_found(client: Any) -> None:
    x = jnp.ones(3)
    executable = jax.jit(lambda v: v + 1).lower(x).compile().runtime_executable()
    for each in (client, x, executable, [x], client.devices()[0], x.sharding):
        assert forked._client(each) is client
    mesh = jax.sharding.AbstractMesh((1,), ("x",))
    for each in ([], 1, None, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())):
        assert forked._client(each) is None
