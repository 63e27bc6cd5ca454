"""`custom_partitioning` and `jax.debug.inspect_array_sharding`: functions that XLA calls while it compiles.

JAX writes the address of a function, or of what holds it, into the program, and XLA follows it.
On a cluster XLA runs in the workers. Here the functions that a program names are found before
it is compiled, and the workers' questions to them are answered by JAX's own part of the matter.

Each host of a program compiles it and asks the same questions in the same order, and each is
answered once: a function is called as often as in plain JAX. Only where hosts differ it is
called for each, as on several hosts of plain JAX.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from jax._src import custom_partitioning
from jax._src.interpreters import pxla
from jax._src.lib import xla_client  # pyright: ignore[reportPrivateImportUsage]
from jax._src.lib.mlir import ir  # pyright: ignore[reportPrivateImportUsage]
from jax._src.lib.mlir.dialects import hlo

from polypath.client.hooks.patches import Patch
from polypath.client.session import Session
from polypath.messages import CompilerAnswer, CompilerQuestion, ShardedShape

_jax: Any = custom_partitioning
_xla: Any = xla_client
_stablehlo: Any = hlo
_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009

_PARTITION: Final = "CustomSPMDPartitioning"
_INSPECT: Final = "InspectSharding"
_partitioners: Any = _jax._sharding_callbacks
"""JAX's own: what holds the functions, by the name that programs have for it."""
_inspectors: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()


def patches(_: Session) -> list[Patch]:
    """This hook's, for any session."""
    return [
        Patch(
            "jax._src.lib:xla_client",
            "encode_inspect_sharding_callback",
            _encode,
            "Keeps functions by the names in programs.",
        )
    ]


def _encode(original: Any, function: Any) -> bytes:
    name = original(function)
    _inspectors[name] = function
    return name


def answers_for(module: Any) -> Answers | None:
    """What answers the compilers of a program; None where they will not ask."""
    if not _partitioners and not _inspectors:
        return None
    found: dict[bytes, Any] = {}

    def visit(op: Any) -> Any:
        if op.name == "stablehlo.custom_call":
            known = {_PARTITION: _partitioners, _INSPECT: _inspectors}.get(op.attributes["call_target_name"].value)
            if known is not None:
                name = bytes(op.attributes["backend_config"].value_bytes)
                found[name] = known.get(name)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return Answers(found) if found else None


class Answers:
    """The functions that one program names, kept alive, and what they said."""

    def __init__(self, functions: Mapping[bytes, Any]) -> None:
        self._functions = functions
        self._lock = threading.Lock()
        self._said: dict[bytes, npt.NDArray[np.uint8]] = {}

    def __call__(self, asked: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8]]:
        """The `CompilerAnswer` to a `CompilerQuestion`."""
        data = asked.tobytes()
        with self._lock:
            answer = self._said.get(data)
            if answer is None:
                question = msgspec.msgpack.decode(data, type=CompilerQuestion)
                answer = np.frombuffer(msgspec.msgpack.encode(self._answer(question)), np.uint8)
                self._said[data] = answer
        return (answer,)

    def _answer(self, asked: CompilerQuestion) -> CompilerAnswer:
        if self._functions.get(asked.key) is None:
            raise RuntimeError(
                "The program names functions (custom_partitioning, inspect_array_sharding) that this process does not "
                "have: compile it in the process that made it, while it is kept there."
            )
        shapes, shardings = [_shape(each) for each in asked.operands], [_sharding(each) for each in asked.operands]
        if asked.kind == "inspect":
            self._functions[asked.key](*shardings)
            return CompilerAnswer()
        assert asked.result is not None
        shape, sharding = _shape(asked.result), _sharding(asked.result)
        if asked.kind == "propagate":
            given = _jax._custom_partitioning_propagate_user_sharding(sharding, shape, asked.key)
            return CompilerAnswer(result=_proto(given, shape))
        if asked.kind == "infer":
            given = _jax._custom_partitioning_infer_sharding_from_operands(shapes, shardings, shape, asked.key)
            return CompilerAnswer(result=None if given is None else _proto(given, shape))
        module, operands, given = _jax._custom_partitioning_partition(shapes, shardings, shape, sharding, asked.key)
        version = _stablehlo.get_smaller_version(_stablehlo.get_current_version(), asked.version)
        return CompilerAnswer(
            _jaxlib.mlir.serialize_portable_artifact(module, version, True),  # True: with Shardy's dialect
            tuple(map(_proto, operands, shapes)),
            _proto(given, shape),
        )


def _shape(each: ShardedShape) -> Any:
    return _xla.Shape(each.shape) if each.shape else None


def _sharding(each: ShardedShape) -> Any:
    if each.sharding is None:
        return None
    proto = _xla.OpSharding()
    proto.ParseFromString(each.sharding)
    return _xla.HloSharding.from_proto(proto)


def _proto(sharding: Any, shape: Any) -> bytes:
    if shape.is_tuple():
        found = _xla.HloSharding.tuple_sharding(shape, [tiled(each) for each in sharding.tuple_elements()])
    else:
        found = tiled(sharding)
    return found.to_proto().SerializeToString()


def tiled(sharding: Any) -> Any:
    """Without names of mesh axes, by which a jax of 0.12 may say it."""
    to_tiled = getattr(_xla.HloSharding, "v3_to_v2_sharding", None)
    return sharding if to_tiled is None else to_tiled(sharding)
