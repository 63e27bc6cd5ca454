"""Operators with a lowering: how each is done with arguments of one kind is planned once, and is a node then."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch import bounds, lowerings
from polypath.torch.buffers import NAME, contiguous, place_like, read, tensor_of
from polypath.torch.dtypes import jax_dtype, torch_dtype
from polypath.torch.errors import TorchError
from polypath.torch.kernels.rules import Meta, metas_of
from polypath.torch.kernels.transfers import cast, number_or_upload
from polypath.torch.programs import Ref, exact, new_key
from polypath.torch.trace import trace

aten: Final = torch.ops.aten


class _Plan(NamedTuple):
    """How an operator is done with arguments of one kind."""

    run: Callable[..., Sequence[Any]]
    key: int
    outputs: list[tuple[tuple[int, ...], Any]]
    metas: list[Meta | None]
    spec: pytree.TreeSpec
    random: bool


_plans: Final[dict[Hashable, _Plan]] = {}


def lowered(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have an operator done by its lowering."""
    began = time.perf_counter()
    leaves, spec = pytree.tree_flatten((args, kwargs))
    refs: list[Ref] = []
    key: list[Hashable] = [op, spec, torch.get_default_dtype(), torch.get_float32_matmul_precision()]
    places: list[int] = []
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            refs.append(_ref_of(op, leaf, place))
            places.append(place)
            key.append((tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device.type))
        elif isinstance(leaf, float) and op in _RUNTIME_SCALARS:
            refs.append(Ref((), None, leaf))
            places.append(place)
            key.append(float)
        elif isinstance(leaf, torch.Generator):
            leaves[place] = None
            refs.insert(0, Ref((2,), np.dtype(np.uint32), _draw(leaf)))
            key.append(torch.Generator)
        else:
            key.append(exact(leaf))
    frozen = tuple(key)
    known = frozen in _plans
    if known:
        plan = _plans[frozen]
    else:
        plan = _plans[frozen] = _plan(op, leaves, spec, places, refs)
    outs = trace.add(plan.run, plan.key, refs, plan.outputs, random=plan.random, ends=op in _PRODUCTS)
    results = iter(outs)
    flat = [None if meta is None else tensor_of(next(results), meta.dtype, meta.strides) for meta in plan.metas]
    if op.overloadpacket in _LIKE:
        place_like(pytree.tree_leaves(flat)[0], args[0])
    result = pytree.tree_unflatten(flat, plan.spec)
    if known:
        trace.eager.spend(time.perf_counter() - began)
    return result


def _plan(op: OpOverload, leaves: list[Any], spec: pytree.TreeSpec, places: list[int], refs: list[Ref]) -> _Plan:
    lowering = lowerings.find(op)
    assert lowering is not None
    random = lowerings.is_random(op)
    keyed = len(refs) > len(places)  # By a generator of the user's, which has drawn for this call.
    rules = metas_of(op, leaves, spec)
    static = list(leaves)
    for place in places:
        static[place] = None

    told = {"strides": leaves[places[0]].stride()} if lowerings.takes_strides(op) else {}

    def compute(*values: Any) -> Any:
        filled = list(static)
        given = list(values)
        keys = [given.pop(0)] if random else []
        if keyed and random:
            keys = [jax.random.wrap_key_data(keys[0])]
        for place, value in zip(places, given, strict=True):
            filled[place] = value
        args, kwargs = pytree.tree_unflatten(filled, spec)
        bounds.look(op, args, kwargs)
        return computed(lowering, keys, args, {**kwargs, **told})

    with jax.enable_x64(True):
        shapes = [ref.array if ref.dtype is None else jax.ShapeDtypeStruct(ref.shape, ref.dtype) for ref in refs]
        if random and not keyed:
            shapes.insert(0, jax.eval_shape(lambda: jax.random.key(0)))
        found, found_spec = pytree.tree_flatten(jax.eval_shape(compute, *shapes))
    if rules is None:
        metas = [None if one is None else _plain(one) for one in found]
        out_spec = found_spec
    else:
        metas, out_spec = rules
    wanted = [meta for meta in metas if meta is not None]
    made = [one for one in found if one is not None]
    if [meta.shape for meta in wanted] != [tuple(one.shape) for one in made]:
        raise TorchError(
            f"{op} gives arrays of shapes {[tuple(one.shape) for one in made]} where torch has "
            f"{[meta.shape for meta in wanted]}: its lowering is wrong; please report it."
        )
    dtypes = [jax_dtype(meta.dtype) for meta in wanted]

    def run(*values: Any) -> list[Any]:
        results = [one for one in pytree.tree_leaves(compute(*values)) if one is not None]
        return [
            result if result.dtype == dtype else cast(result, dtype)
            for result, dtype in zip(results, dtypes, strict=True)
        ]

    outputs = [(meta.shape, dtype) for meta, dtype in zip(wanted, dtypes, strict=True)]
    return _Plan(run, new_key(), outputs, metas, out_spec, random and not keyed)


_PLACEMENT: Final = frozenset({"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking"})
"""Arguments that say where and how a tensor is to lie, which is nothing to a function on arrays."""


def computed(lowering: Callable[..., Any], keys: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a lowering makes of an operator's arguments, with arrays for tensors."""
    placed = (torch.device, torch.layout, torch.memory_format)
    args = [None if isinstance(arg, placed) else arg for arg in args]
    return lowering(*keys, *args, **{name: value for name, value in kwargs.items() if name not in _PLACEMENT})


def _plain(one: Any) -> Meta:
    return Meta(tuple(one.shape), torch_dtype(one.dtype), contiguous(tuple(one.shape)))


def _ref_of(op: OpOverload, tensor: torch.Tensor, place: int) -> Ref:
    if tensor.device.type == NAME:
        return read(tensor)
    if tensor.device.type == "cpu" and (tensor.dim() == 0 or (place and op in _INDEXING)):
        return number_or_upload(tensor)
    raise TorchError(
        f"Argument {place} of {op} is on {tensor.device} and the others are on the cluster; "
        f"move it there with .to({NAME!r}), or those here with .cpu()."
    )


def _draw(generator: torch.Generator) -> Any:
    """A key that a generator of the user's gives: other ones come of it each time."""
    return torch.randint(0, 2**31 - 1, (2,), generator=generator, dtype=torch.int64).numpy().astype(np.uint32)


_PRODUCTS: Final = frozenset(
    {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}
)
"""What takes longest in most models, and comes at the same places of each layer."""

_INDEXING: Final = frozenset({aten.index.Tensor, aten.index_put.default, aten._index_put_impl_.default})
"""Their indices may be on the CPU, as on every device."""

_LIKE: Final = frozenset({aten.empty_like, aten.zeros_like, aten.ones_like, aten.full_like})
"""They make a tensor like another one, for a value that goes with its (an optimizer's): it is laid out alike."""

_RUNTIME_SCALARS: Final = frozenset(
    getattr(packet, overload)
    for packet in (
        aten.add,
        aten.sub,
        aten.rsub,
        aten.mul,
        aten.div,
        aten.addcmul,
        aten.addcdiv,
        aten.lerp,
        aten._fused_adam,
        aten._fused_adamw,
        aten._fused_sgd,
        aten._fused_adagrad,
    )
    for overload in packet.overloads()
)
"""Those whose numbers may change from step to step, as a learning rate does: they are arguments of the program."""
