"""Hooks that concern donation, compiling and forked children; clients of others are left alone.

`test_capability_hooks.py` says how they are tried.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from jax._src import array as jax_array
from jax._src import dispatch
from jax._src.interpreters import mlir
from jax._src.lib import xla_client

from polypath.client.hooks import forked, partitioning, patches, programs
from polypath.client.session import Session
from polypath.errors import ClusterError, ForkedProcess
from polypath.messages import PROGRAM_OPTION, CompilerAnswer, CompilerQuestion

Hook = Callable[[str, Any], Any]
"""By name, a hook of the table around a stand-in for what it replaces."""
SOCKET = "/nowhere/t/ifrt.sock"


@pytest.fixture
def client() -> Any:
    return jax.devices()[0].client


# --- donating


def test_an_array_that_stays_is_not_donated(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    how = xla_client.ArrayCopySemantics
    copy = mock.Mock()
    x = jnp.ones(4)
    elsewhere = jax.sharding.SingleDeviceSharding(session.local_cpu().local_devices()[0])
    monkeypatch.setattr(xla_client, "batched_copy_array_to_devices_with_sharding", copy)
    jax_array.xc.batched_copy_array_to_devices_with_sharding(
        [x, x, x], [], [x.sharding, elsewhere, x.sharding], [how.DONATE_INPUT, how.DONATE_INPUT, how.ALWAYS_COPY]
    )
    assert copy.call_args.args[3] == [how.REUSE_INPUT, how.DONATE_INPUT, how.ALWAYS_COPY]


def test_shards_in_another_order_are_donated_only_while_jax_asks_for_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = xla_client.ArrayCopySemantics
    reorder, x = mock.Mock(), jnp.ones(4)
    monkeypatch.setattr(xla_client, "reorder_shards", reorder)

    def original(x: Any, target: Any, copy: Any) -> None:
        dispatch.xc.reorder_shards(x, target, how.ALWAYS_COPY)

    # The overlay and the hook share what they know, so the original is put beneath the hook of the table.
    (overlaid, reshard) = (each for each in patches.table(session)["donating"] if each.owner == "jax._src.dispatch")
    monkeypatch.setattr(dispatch, "xc", overlaid.wrap(xla_client))
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


def test_a_program_that_is_too_new_goes_in_an_option(session: Session, hook: Hook) -> None:
    seen: list[Any] = []

    def original(client: Any, computation: Any, devices: Any, options: Any) -> str:
        seen.append((computation, [name for name, _ in options.env_option_overrides]))
        if len(seen) == 1:
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Failed to serialize StableHLO")
        return "compiled"

    compile_ = hook("compile_and_load", original)
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
