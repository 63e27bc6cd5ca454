"""Reads what a StableHLO program takes and gives, from its `main`. Compiles nothing, needs no jax."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Collection, Generator, Iterable, Iterator
from typing import Any

import msgspec

from polypath import types
from polypath.worker.store import ShardType


def _mlir(dtype: str, primitive: str) -> Iterator[str]:
    """What MLIR calls a dtype: integers have several names."""
    kind, bits = primitive[:1], primitive[1:]
    if dtype == "bool":
        yield "i1"
    elif kind in "SU":
        yield from (f"i{bits}", f"si{bits}") if kind == "S" else (f"ui{bits}",)
    elif kind == "C":
        yield f"complex<f{int(bits) // 2}>"
    else:
        yield f"f{bits}" if kind == "F" else primitive.lower()


DTYPES = {
    element: dtype
    for dtype, primitive in types.DTYPES.items()
    if dtype not in ("int1", "uint1")  # MLIR has one type of a bit, which is bool.
    for element in _mlir(dtype, primitive)
}
"""MLIR's element types by the names that numpy or ml_dtypes have for them."""


_MESH = re.compile(r"sdy\.mesh @(\S+) = <\[([^\]]*)\]>")
_AXIS = re.compile(r'"([^"]+)"=(\d+)')
_SHARDY = re.compile(r"#sdy\.sharding<@([^,]+), \[(.*?)\].*>")
_BRACES = re.compile(r"\{([^}]*)\}")
_QUOTED = re.compile(r'"([^"]+)"')


class Signature(msgspec.Struct, frozen=True):
    """What `main` says of itself. Shapes are global."""

    name: str
    parameters: tuple[ShardType, ...]
    results: tuple[ShardType, ...]
    parameter_shardings: tuple[str | None, ...]
    """Texts as in HLO (`{devices=[4]<=[4]}`), where given."""
    result_shardings: tuple[str | None, ...]
    donated: tuple[int, ...]
    """Parameters that are marked as aliased or donated."""


def read(program: bytes) -> Signature:
    """The signature of a portable artifact.

    Raises:
        ValueError: it is none, or it has no `main`.
    """
    from jaxlib.mlir import ir

    with parsed(program) as module:
        name = ir.StringAttr(module.operation.attributes["sym_name"]).value
        main = next(
            (
                op
                for op in module.body.operations
                if "sym_name" in op.attributes and ir.StringAttr(op.attributes["sym_name"]).value == "main"
            ),
            None,
        )
        if main is None:
            raise ValueError(f"The program {name} has no main function.")
        kind: Any = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
        meshes = _meshes(module)
        inputs = _attributes(main, "arg_attrs", len(kind.inputs))
        outputs = _attributes(main, "res_attrs", len(kind.results))
        return Signature(
            name,
            tuple(map(_type, kind.inputs)),
            tuple(map(_type, kind.results)),
            tuple(_sharding(each, meshes) for each in inputs),
            tuple(_sharding(each, meshes) for each in outputs),
            tuple(i for i, one in enumerate(inputs) if "tf.aliasing_output" in one or "jax.buffer_donor" in one),
        )


@contextlib.contextmanager
def parsed(program: bytes) -> Generator[Any]:
    """The MLIR module of a portable artifact, while the context is entered that it lives in.

    Raises:
        ValueError: it is none.
    """
    from jaxlib.mlir.dialects import stablehlo

    context = _context()
    with context:
        try:
            module: Any = stablehlo.deserialize_portable_artifact(context, program)
        except Exception as error:
            raise ValueError("The program is not portable StableHLO that this jaxlib can read.") from error
        yield module


def version() -> str:
    """The newest version of portable StableHLO that is read here."""
    from jaxlib.mlir.dialects import stablehlo

    return stablehlo.get_current_version()


def custom_calls(module: Any, targets: Collection[str]) -> list[Any]:
    """A module's calls of what is named in `targets`, wherever they stand."""
    from jaxlib.mlir import ir

    found: list[Any] = []

    def visit(op: Any) -> Any:
        if op.name == "stablehlo.custom_call" and op.attributes["call_target_name"].value in targets:
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


@functools.cache
def _dialects() -> Any:
    from jaxlib.mlir import ir
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext  # pyright: ignore

    registry: Any = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    return registry


def _context() -> Any:
    """A fresh context (they are not to be shared between threads) that reads any program of JAX."""
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import chlo, sdy, stablehlo

    context: Any = ir.Context()
    context.append_dialect_registry(_dialects())
    for dialect in (sdy, chlo, stablehlo):
        dialect.register_dialect(context)
    context.allow_unregistered_dialects = True
    return context


def _attributes(main: Any, name: str, count: int) -> list[dict[str, Any]]:
    if name not in main.attributes:
        return [{} for _ in range(count)]
    return [{one.name: one.attr for one in each} for each in main.attributes[name]]


def _sharding(attributes: dict[str, Any], meshes: dict[str, dict[str, int]]) -> str | None:
    """The sharding in HLO's words, be it written so or in Shardy's (the common forms of it)."""
    found = attributes.get("mhlo.sharding")
    if found is not None:
        return str(found).strip('"')
    match = _SHARDY.fullmatch(str(attributes.get("sdy.sharding", "")))
    if match is None or match[1] not in meshes:
        return None
    axes = meshes[match[1]]
    cuts = [_QUOTED.findall(each) for each in _BRACES.findall(match[2])]
    used = [axis for cut in cuts for axis in cut]
    if any(axis not in axes for axis in used):
        return None
    rest = [axis for axis in axes if axis not in used]
    tiles = [math.prod(axes[axis] for axis in cut) for cut in cuts]
    last = " last_tile_dim_replicate" if rest else ""
    if rest:
        tiles.append(math.prod(axes[axis] for axis in rest))
    order = [list(axes).index(axis) for axis in used + rest]
    sizes, turned = _commas(axes.values()), "" if order == sorted(order) else f"T({_commas(order)})"
    return "{replicated}" if not used else f"{{devices=[{_commas(tiles)}]<=[{sizes}]{turned}{last}}}"


def _commas(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _meshes(module: Any) -> dict[str, dict[str, int]]:
    """The sizes of the axes of each mesh that the module names; ids in order only."""
    found: dict[str, dict[str, int]] = {}
    for op in module.body.operations:
        match = _MESH.match(str(op))
        if match is not None:
            found[match[1]] = {name: int(size) for name, size in _AXIS.findall(match[2])}
    return found


def _type(kind: Any) -> ShardType:
    from jaxlib.mlir import ir

    if str(kind).endswith("token"):
        return "token", ()
    try:
        tensor: Any = ir.RankedTensorType(kind)
        return DTYPES[str(tensor.element_type)], tuple(tensor.shape)
    except (KeyError, ValueError):
        raise ValueError(f"The program's main has the type {kind}, which no array can have.") from None
