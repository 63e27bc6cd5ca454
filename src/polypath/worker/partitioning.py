"""What a compiler asks of the client's functions: `custom_partitioning`, `inspect_array_sharding`.

JAX leaves these to functions that XLA calls while it partitions a program, and names them by
addresses of the client's process. Before a program is compiled here, its custom calls are made
to name functions of this process, which put the questions to the client as calls of a host
callback. Nothing else may hand such a program to XLA: it would follow the addresses.

Every host compiles a program and asks the same questions in the same order, and once more when
it loads the program again after a loss; the client calls its functions once for each.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from polypath.messages import CompilerAnswer, CompilerQuestion, Elements, QuestionKind, ShardedShape
from polypath.worker import jaxlib
from polypath.worker.callbacks import HostCallbacks
from polypath.worker.executors import stablehlo
from polypath.worker.executors.base import Source

_PARTITION: Final = "CustomSPMDPartitioning"
_INSPECT: Final = "InspectSharding"
_OURS: Final = "PolypathPartitioning"
"""In place of `_PARTITION`, for which JAX has registered functions already."""

_numbers: Final = itertools.count()
_asking: dict[bytes, tuple[_Compilation, bytes]] = {}
"""By custom calls' configurations as they are while compiled: who asks, and JAX's own one."""


def asks(program: bytes) -> bool:
    """Whether compiling a program may ask something. True too often does no harm."""
    return _PARTITION.encode() in program or _INSPECT.encode() in program


@contextlib.contextmanager
def answered(module: Any, source: Source, calls: HostCallbacks) -> Generator[None]:
    """Let `module`, which is `source`'s, be compiled while the context is entered."""
    from jaxlib.mlir import ir

    text: Any = ir.StringAttr  # its methods' types are incomplete
    compilation = _Compilation(source, calls)
    keys: list[bytes] = []
    alive: list[object] = []
    for call in stablehlo.custom_calls(module, (_PARTITION, _INSPECT)):
        key = bytes(call.attributes["backend_config"].value_bytes)
        if call.attributes["call_target_name"].value == _PARTITION:
            _register()
            ours = str(next(_numbers)).encode()
            keys.append(ours)
            _asking[ours] = (compilation, key)
            call.attributes["call_target_name"] = text.get(_OURS)
        else:
            ours, function = jaxlib.inspector(functools.partial(compilation.inspect, key))
            alive.append(function)
        call.attributes["backend_config"] = text.get(ours)
    try:
        yield
    finally:
        for key in keys:
            del _asking[key]


@functools.cache
def _register() -> None:
    jaxlib.register_partitioner(_OURS, _ask)


def _ask(kind: QuestionKind, key: bytes, operands: Sequence[ShardedShape], result: ShardedShape) -> CompilerAnswer:
    compilation, key = _asking[key]
    return compilation.ask(kind, key, tuple(operands), result)


class _Compilation:
    """What compiles one program. It asks one thing after another."""

    def __init__(self, source: Source, calls: HostCallbacks) -> None:
        self._source = source
        self._calls = calls
        self._asked = itertools.count()

    def inspect(self, key: bytes, sharding: bytes) -> None:
        self.ask("inspect", key, (ShardedShape("", sharding),), None)

    def ask(
        self, kind: QuestionKind, key: bytes, operands: tuple[ShardedShape, ...], result: ShardedShape | None
    ) -> CompilerAnswer:
        """Have the client's function answer; its failure is raised."""
        number = next(self._asked)
        asked = msgspec.msgpack.encode(CompilerQuestion(kind, key, number, operands, result, stablehlo.version()))
        return msgspec.msgpack.decode(self._call(asked), type=CompilerAnswer)

    def _call(self, asked: bytes) -> bytes:
        callbacks = self._source.callbacks
        if callbacks is None or not callbacks.answers_compilers:
            raise RuntimeError(
                "The program asks functions of the client's process how to partition it (custom_partitioning, "
                "inspect_array_sharding), which did not say that it answers: install polypath there, and compile the "
                "program in the process that made it."
            )
        payload = Elements("uint8", (len(asked),), asked)
        (answer,) = self._calls.call(callbacks, callbacks.count, (payload,), in_place=False)
        assert answer is not None
        return answer.data
