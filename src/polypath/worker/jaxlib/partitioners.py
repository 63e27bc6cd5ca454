"""What XLA asks Python functions while it partitions a program."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from jax._src import xla_bridge as _bridge
from jaxlib import xla_client as _xla

from polypath.messages import CompilerAnswer, QuestionKind, ShardedShape


def register_partitioner(
    name: str, ask: Callable[[QuestionKind, bytes, list[ShardedShape], ShardedShape], CompilerAnswer]
) -> None:
    """Have XLA ask how to partition custom calls of `name`, whose configuration `ask` gets second.

    XLA keeps the first partitioner of a name.
    """

    def propagate(sharding: Any, shape: Any, key: bytes) -> Any:
        return _sharding(ask("propagate", key, [], _sharded(shape, sharding)).result)

    def partition(shapes: list[Any], given: list[Any], shape: Any, sharding: Any, key: bytes) -> Any:
        answer = ask("partition", key, list(map(_sharded, shapes, given)), _sharded(shape, sharding))
        assert answer.module is not None
        return bytecode(answer.module), list(map(_sharding, answer.operands)), _sharding(answer.result)

    def infer(shapes: list[Any], given: list[Any], shape: Any, key: bytes) -> Any:
        return _sharding(ask("infer", key, list(map(_sharded, shapes, given)), _sharded(shape, None)).result)

    def register(**more: Any) -> None:
        _xla.register_custom_call_partitioner(
            name, propagate, partition, infer, can_side_effecting_have_replicated_sharding=True, **more
        )

    register()
    _bridge.register_plugin_callbacks(register)


def inspector(take: Callable[[bytes], None]) -> tuple[bytes, object]:
    """The configuration of an `InspectSharding` that calls `take`, for as long as the object lives."""

    def inspect(sharding: Any) -> None:
        take(sharding.to_proto().SerializeToString())

    return _xla.encode_inspect_sharding_callback(inspect), inspect


def bytecode(program: bytes) -> bytes:
    """Portable StableHLO in the form that the compiler takes from a partitioner."""
    from polypath.worker.executors import stablehlo

    with stablehlo.parsed(program) as module:
        written = io.BytesIO()
        module.operation.write_bytecode(written)
        return written.getvalue()


def _sharded(shape: Any, sharding: Any) -> ShardedShape:
    return ShardedShape(str(shape), None if sharding is None else sharding.to_proto().SerializeToString())


def _sharding(proto: bytes | None) -> Any:
    if proto is None:
        return None
    sharding = _xla.OpSharding()
    sharding.ParseFromString(proto)
    return _xla.HloSharding.from_proto(sharding)
