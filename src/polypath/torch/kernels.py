"""The device's operators: what torch calls becomes nodes of the trace.

In the order tried for an operator:

1. a lowering: the operator's function on arrays (`lowerings`) becomes a node;
2. one that writes (in place, `out=`) is the operator that only computes, and a write;
3. torch's own decomposition into other operators;
4. torch's CPU in the client: what it needs is fetched, what comes of it is put back, and that is said once for
   each operator. So is done, and not said, what has a result whose shape depends on data: every device waits there.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch import lowerings
from polypath.torch.buffers import (
    NAME,
    contiguous,
    form_of,
    join,
    place_like,
    read,
    replace,
    set_,
    storage_size,
    tensor_of,
    view,
    write,
)
from polypath.torch.dtypes import jax_dtype, to_numpy, to_torch, torch_dtype
from polypath.torch.trace import Ref, TorchError, exact, new_key, trace

aten: Final = torch.ops.aten
_EXPLICIT: Final = torch._C.DispatchKey.CompositeExplicitAutograd


class HostWarning(UserWarning):
    """An operator ran on the client's CPU."""


class Meta(NamedTuple):
    """What torch says that a result is like."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    strides: tuple[int, ...]


class Plan(NamedTuple):
    """How an operator is done with arguments of one kind."""

    run: Callable[..., Sequence[Any]]
    key: int
    outputs: list[tuple[tuple[int, ...], Any]]
    metas: list[Meta | None]
    spec: pytree.TreeSpec
    random: bool


_plans: Final[dict[Hashable, Plan]] = {}
_told: Final[set[str]] = set()


def call(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Do an operator that has a tensor of the device among its arguments, or is to make one."""
    special = _SPECIAL.get(op)
    if special is not None:
        return special(*args, **kwargs)
    if is_view(op):
        return _viewed(op, args, kwargs)
    if op in _RESHAPING:
        return op._op_dk(_EXPLICIT, *args, **kwargs)
    if lowerings.is_data_dependent(op, args):
        return on_host(op, args, kwargs)
    if lowerings.find(op) is not None:
        return _lowered(op, args, kwargs)
    if op._schema.is_mutable and (functional := functional_of(op)) is not None and _computes(functional):
        return _written(op, functional, args, kwargs)
    decomposition = lowerings.decompositions().get(op)
    if decomposition is not None:
        result = decomposition(*args, **kwargs)
        if result is not NotImplemented:
            return result
    # (The other composite kernels, "non-functional", would call the `out=` variant, which would call us again.)
    if torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), _EXPLICIT):
        return op._op_dk(_EXPLICIT, *args, **kwargs)
    _tell(op)
    return on_host(op, args, kwargs)


def _computes(op: OpOverload) -> bool:
    return lowerings.find(op) is not None or op in lowerings.decompositions() or lowerings.is_data_dependent(op)


# --- Views ------------------------------------------------------------------------------------


@functools.cache
def is_view(op: OpOverload) -> bool:
    """Whether a result is an argument seen otherwise."""
    return any(one.alias_info is not None and not one.alias_info.is_write for one in op._schema.returns)


def _viewed(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The few that torch does not make of `as_strided` itself: what torch's own rule gives, on the same storage."""
    source: torch.Tensor = args[0]
    model = torch.empty_strided((storage_size(source),), (1,), dtype=source.dtype, device="meta")
    model = model.as_strided(source.shape, source.stride(), source.storage_offset())
    return pytree.tree_map(lambda one: join(source.untyped_storage(), form_of(one)), op(model, *args[1:], **kwargs))


# --- With a lowering --------------------------------------------------------------------------


def _lowered(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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
        trace.spend(time.perf_counter() - began)
    return result


def _plan(op: OpOverload, leaves: list[Any], spec: pytree.TreeSpec, places: list[int], refs: list[Ref]) -> Plan:
    lowering = lowerings.find(op)
    assert lowering is not None
    random = lowerings.is_random(op)
    keyed = len(refs) > len(places)  # By a generator of the user's, which has drawn for this call.
    metas_of = _metas(op, leaves, spec)
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
        return computed(lowering, keys, args, {**kwargs, **told})

    with jax.enable_x64(True):
        shapes = [ref.array if ref.dtype is None else jax.ShapeDtypeStruct(ref.shape, ref.dtype) for ref in refs]
        if random and not keyed:
            shapes.insert(0, jax.eval_shape(lambda: jax.random.key(0)))
        found, found_spec = pytree.tree_flatten(jax.eval_shape(compute, *shapes))
    if metas_of is None:
        metas = [None if one is None else _plain(one) for one in found]
        out_spec = found_spec
    else:
        metas, out_spec = metas_of
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
            result if result.dtype == dtype else _cast(result, dtype)
            for result, dtype in zip(results, dtypes, strict=True)
        ]

    outputs = [(meta.shape, dtype) for meta, dtype in zip(wanted, dtypes, strict=True)]
    return Plan(run, new_key(), outputs, metas, out_spec, random and not keyed)


_PLACEMENT: Final = frozenset({"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking"})
"""Arguments that say where and how a tensor is to lie, which is nothing to a function on arrays."""


def computed(lowering: Callable[..., Any], keys: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a lowering makes of an operator's arguments, with arrays for tensors."""
    placed = (torch.device, torch.layout, torch.memory_format)
    args = [None if isinstance(arg, placed) else arg for arg in args]
    return lowering(*keys, *args, **{name: value for name, value in kwargs.items() if name not in _PLACEMENT})


def _cast(array: Any, dtype: Any) -> Any:
    if np.issubdtype(array.dtype, np.complexfloating) and not np.issubdtype(dtype, np.complexfloating):
        array = array.real
    return array.astype(dtype)


def _plain(one: Any) -> Meta:
    return Meta(tuple(one.shape), torch_dtype(one.dtype), contiguous(tuple(one.shape)))


def _metas(
    op: OpOverload, leaves: list[Any], spec: pytree.TreeSpec
) -> tuple[list[Meta | None], pytree.TreeSpec] | None:
    """What torch's own rules say of the results: shapes, dtypes, strides. None where it has no rule."""
    if op in _RULES_OF_CUDA:
        return None
    fake = [_meta_like(leaf) for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(fake, spec)
    if any(arg.name == "device" for arg in op._schema.arguments):
        kwargs["device"] = torch.device("meta")
    try:
        result = op(*args, **kwargs)
    except NotImplementedError:
        return None
    flat, out_spec = pytree.tree_flatten(result)
    return [None if one is None else Meta(tuple(one.shape), one.dtype, one.stride()) for one in flat], out_spec


def _meta_like(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        if leaf.dim() == 0 and leaf.device.type == "cpu":
            return leaf  # Promotes, and mixes, as a number does.
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta")
    return torch.device("meta") if isinstance(leaf, torch.device) else leaf


def _ref_of(op: OpOverload, tensor: torch.Tensor, place: int) -> Ref:
    if tensor.device.type == NAME:
        return read(tensor)
    if tensor.dim() == 0 and tensor.device.type == "cpu":
        return number_or_upload(tensor)
    raise TorchError(
        f"Argument {place} of {op} is on {tensor.device} and the others are on the cluster; "
        f"move it there with .to({NAME!r}), or those here with .cpu()."
    )


# --- Operators that write ---------------------------------------------------------------------

_functionals: Final[dict[OpOverload, OpOverload | None]] = {}


def functional_of(op: OpOverload) -> OpOverload | None:
    """The operator that computes what `op` writes; None if there is none."""
    if op not in _functionals:
        _functionals[op] = _find_functional(op)
    return _functionals[op]


def _find_functional(op: OpOverload) -> OpOverload | None:
    name = op._schema.name.removeprefix("aten::")
    arguments = op._schema.arguments
    wanted = [
        (arg.name, str(arg.type)) for arg in arguments if not (arg.is_out or (arg.kwarg_only and _is_written(arg)))
    ]
    # (With `out=` besides, what is written comes in another order.)
    names = (name,) if any(arg.is_out for arg in arguments) else (name, name + "_functional")
    for candidate in (name[:-1], name + "_functional") if name.endswith("_") else names:
        packet = getattr(aten, candidate.replace("__functional", "_functional"), None)
        if packet is None:
            continue
        for overload in packet.overloads():
            found = getattr(packet, overload)
            if found._schema.is_mutable:
                continue
            if [(arg.name, str(arg.type)) for arg in found._schema.arguments] == wanted:
                return found
    return None


def _is_written(argument: torch._C.Argument) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _written(op: OpOverload, functional: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute, then put the results into the arguments that are written."""
    schema = op._schema.arguments
    given = {arg.name: value for arg, value in zip(schema, args, strict=False)} | kwargs
    outs = [arg for arg in schema if _is_written(arg)]
    is_out = [arg for arg in outs if arg.kwarg_only]
    if not is_out:
        _check_writes(op, args, kwargs)
    kept = {arg.name for arg in is_out}
    plain_args = [value for arg, value in zip(schema, args, strict=False) if arg.name not in kept]
    missing = {  # What one may leave out of `op` need not have a default in the other.
        arg.name: arg.default_value
        for arg in schema[len(args) :]
        if arg.name not in kwargs and arg.has_default_value() and not arg.is_out
    }
    results = functional(*plain_args, **missing, **{name: value for name, value in kwargs.items() if name not in kept})
    targets = pytree.tree_leaves([given[arg.name] for arg in outs])
    sources = pytree.tree_leaves(results)
    if len(sources) > len(targets):  # Those that are not written come first, and are results of their own.
        fresh, sources = sources[: len(sources) - len(targets)], sources[len(sources) - len(targets) :]
    else:
        fresh = []
    for target, source in zip(targets, sources, strict=True):
        if target is not None:
            _put(op, target, source, resize=bool(is_out))
    if not op._schema.returns:
        return None
    if fresh:
        return fresh[0] if len(op._schema.returns) == 1 else tuple(fresh)
    written = [given[arg.name] for arg in outs]
    return written[0] if len(op._schema.returns) == 1 else tuple(written)


def _check_writes(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Have torch's own rules refuse what cannot be done in place."""
    key = (op, *(_kind(leaf) for leaf in pytree.tree_leaves((args, kwargs))))
    if key in _checked:
        return
    fake_args, fake_kwargs = pytree.tree_map(_meta_like, (args, kwargs))
    with contextlib.suppress(NotImplementedError):  # Where there is no rule, the write itself is checked.
        op(*fake_args, **fake_kwargs)
    _checked.add(key)


_checked: Final[set[Hashable]] = set()


def _kind(leaf: Any) -> Hashable:
    if isinstance(leaf, torch.Tensor):
        return (tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device.type)
    return type(leaf)


def _put(op: OpOverload, target: torch.Tensor, source: torch.Tensor, *, resize: bool) -> None:
    if target.device.type != NAME:
        raise TorchError(
            f"{op} is to write to a tensor on {target.device} what was computed on the cluster; give it one there."
        )
    if resize and target.shape != source.shape:
        target.resize_(source.shape)
    if resize and not torch.can_cast(source.dtype, target.dtype):
        raise RuntimeError(
            f"result type {source.dtype} can't be cast to the desired output type {target.dtype} (of {op})"
        )
    copy_(target, source)


# --- On the host ------------------------------------------------------------------------------


def _tell(op: OpOverload) -> None:
    if op.name() not in _told:
        _told.add(op.name())
        warnings.warn(
            f"{op} has no lowering to XLA and runs on the client's CPU: its arguments are fetched from the cluster "
            "and its results put back at each call.",
            HostWarning,
            stacklevel=3,
        )


def on_host(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do an operator on torch's CPU in this process."""
    here = pytree.tree_map(_fetched, (args, kwargs))
    if op._schema.is_mutable:  # What was fetched is memory that nobody may write to or resize.
        here = pytree.tree_map(lambda one: one.clone() if isinstance(one, torch.Tensor) else one, here)
    results = op(*here[0], **here[1])
    names = [argument.name for argument in op._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    fetched = dict(zip(names, here[0], strict=False)) | here[1]
    for argument in op._schema.arguments:
        if _is_written(argument):
            there, source_of = given[argument.name], fetched[argument.name]
            for target, source in zip(pytree.tree_leaves(there), pytree.tree_leaves(source_of), strict=True):
                if isinstance(target, torch.Tensor) and target.device.type == NAME:
                    if target.shape != source.shape:
                        target.resize_(source.shape)
                    copy_(target, source)
    if op._schema.is_mutable:
        by_id = {
            id(source): target
            for target, source in zip(pytree.tree_leaves((args, kwargs)), pytree.tree_leaves(here), strict=True)
            if isinstance(source, torch.Tensor)
        }
        return pytree.tree_map(lambda one: by_id.get(id(one), _placed(one)), results)
    return pytree.tree_map(_placed, results)


def _fetched(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.device.type == NAME:
        return download(leaf)
    if isinstance(leaf, torch.device) and leaf.type == NAME:
        return torch.device("cpu")
    return leaf


def refuse_sparse(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Say that the device has no sparse tensors.

    Raises:
        TorchError: always.
    """
    raise TorchError(
        f"{op} is of a sparse tensor, and the cluster's device has none; use dense ones (.to_dense()), or do that on "
        "the CPU."
    )


def _placed(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.layout is not torch.strided:
        raise TorchError("The cluster's device has no sparse tensors; make this one on the CPU.")
    if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
        return tensor_of(upload(leaf), leaf.dtype)
    return leaf


def upload(tensor: torch.Tensor) -> Ref:
    """A value with what a tensor of torch's CPU holds."""
    data = to_numpy(tensor)
    with jax.enable_x64(True):
        array = jax.device_put(data)
    return Ref(data.shape, data.dtype, array)


def number_or_upload(tensor: torch.Tensor) -> Ref:
    """One of a single number as that number, which a program takes as an argument."""
    return upload(tensor) if tensor.dim() else Ref((), None, tensor.item())


def download(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor on torch's CPU; waits for it."""
    return to_torch(trace.value(read(tensor)))


def _draw(generator: torch.Generator) -> Any:
    """A key that a generator of the user's gives: other ones come of it each time."""
    return torch.randint(0, 2**31 - 1, (2,), generator=generator, dtype=torch.int64).numpy().astype(np.uint32)


# --- Operators with their own ways ------------------------------------------------------------


def copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Put `source`'s values into `target`, from and to any device."""
    if target.device.type != NAME:
        target.copy_(download(source))
        return target
    if source.device.type != NAME:
        source = tensor_of(upload(source), source.dtype)
    ref = read(source)
    shape, dtype = tuple(target.shape), jax_dtype(target.dtype)
    if ref.shape != shape or ref.dtype != dtype:
        ref = trace.add(_Fit(shape, dtype), _Fit(shape, dtype), [ref], [(shape, dtype)])[0]
    write(target, ref)
    return target


class _Fit(NamedTuple):
    """Broadcast and cast."""

    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, value: Any) -> list[Any]:
        return [jnp.broadcast_to(_cast(value, self.dtype), self.shape)]


class _Full(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, value: Any) -> list[Any]:
        return [jnp.full(self.shape, value, self.dtype)]


def _full(shape: Sequence[int], value: complex, dtype: torch.dtype | None, strides: Any = None) -> torch.Tensor:
    dtype = dtype or torch.get_default_dtype()
    form = _Full(tuple(shape), jax_dtype(dtype))
    run: Any = form
    numbers = [Ref((), None, value)] if isinstance(value, float | complex) else []
    if not numbers:
        run = _Constant(form, int(value.real))
    ref = trace.add(run, run, numbers, [(form.shape, form.dtype)])[0]
    return tensor_of(ref, dtype, strides)


class _Constant(NamedTuple):
    form: _Full
    value: int

    def __call__(self) -> list[Any]:
        return self.form(self.value)


def _empty(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> torch.Tensor:
    strides = None
    if memory_format not in (None, torch.contiguous_format, torch.preserve_format):
        strides = torch.empty(size, device="meta", memory_format=memory_format).stride()
    return _full(size, 0, dtype, strides)


def _empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **_: Any
) -> torch.Tensor:
    return _full(size, 0, dtype, tuple(stride))


def _fill(tensor: torch.Tensor, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return copy_(tensor, value)
    return copy_(tensor, _full((), value, tensor.dtype))


def _zero(tensor: torch.Tensor) -> torch.Tensor:
    return _fill(tensor, 0)


def _item(tensor: torch.Tensor) -> Any:
    return download(tensor).item()


def _resize(
    tensor: torch.Tensor, size: Sequence[int], *, memory_format: torch.memory_format | None = None
) -> torch.Tensor:
    """Room for `size` elements: those that were there stay, in their order in memory."""
    if tuple(tensor.shape) == tuple(size):
        return tensor
    old = download(tensor)
    replace(tensor, upload(old.clone().resize_(tuple(size))))
    return tensor


def _restride(
    tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> torch.Tensor:
    offset = tensor.storage_offset() if storage_offset is None else storage_offset
    return set_(tensor, tensor.untyped_storage(), int(offset), size, stride)


def _clone(tensor: torch.Tensor, *, memory_format: torch.memory_format | None = None) -> torch.Tensor:
    strides = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    strides = strides.clone(memory_format=memory_format or torch.preserve_format).stride()
    return place_like(tensor_of(read(tensor), tensor.dtype, strides), tensor)


def _to_copy(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> torch.Tensor:
    dtype = dtype or tensor.dtype
    device = tensor.device if device is None else torch.device(device)
    if device.type != NAME:
        return download(tensor).to(device=device, dtype=dtype, copy=True)
    source = tensor if tensor.device.type == NAME else tensor_of(upload(tensor), tensor.dtype)
    strides = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    strides = strides.clone(memory_format=memory_format or torch.preserve_format).stride()
    ref = read(source)
    if dtype != tensor.dtype:
        fit = _Fit(tuple(tensor.shape), jax_dtype(dtype))
        ref = trace.add(fit, fit, [ref], [(fit.shape, fit.dtype)])[0]
    return place_like(tensor_of(ref, dtype, strides), source)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return copy_(target, source)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all().item())


_SPECIAL: Final[dict[OpOverload, Callable[..., Any]]] = {
    aten.as_strided_.default: _restride,
    aten._unsafe_view.default: view,  # It says that it is none, and `out=` variants write to it.
    aten.copy_.default: copy_,
    aten._copy_from.default: _copy_from,
    aten._copy_from_and_resize.default: _copy_from,
    aten._to_copy.default: _to_copy,
    aten.clone.default: _clone,
    aten.empty.memory_format: _empty,
    aten.empty_strided.default: _empty_strided,
    aten.fill_.Scalar: _fill,
    aten.fill_.Tensor: _fill,
    aten.zero_.default: _zero,
    aten.resize_.default: _resize,
    aten._local_scalar_dense.default: _item,
    aten.equal.default: _equal,
}

_RESHAPING: Final = frozenset(
    getattr(packet, overload)
    for packet in (aten.t_, aten.transpose_, aten.squeeze_, aten.unsqueeze_, aten.swapaxes_, aten.swapdims_)
    for overload in packet.overloads()
    if "Dimname" not in str(getattr(packet, overload)._schema)
)
"""They change how a tensor looks at its storage, and no value; they come to `as_strided_`."""

_PRODUCTS: Final = frozenset(
    {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default}
)
"""What takes longest in most models, and comes at the same places of each layer."""

_LIKE: Final = frozenset({aten.empty_like, aten.zeros_like, aten.ones_like, aten.full_like})
"""They make a tensor like another one, for a value that goes with its (an optimizer's): it is laid out alike."""

_RULES_OF_CUDA: Final = frozenset({aten._grouped_mm.default})
"""Those for which torch's rules are those of its kernels for CUDA, which refuse what its CPU takes."""

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
    )
    for overload in packet.overloads()
)
"""Those whose numbers may change from step to step, as a learning rate does: they are arguments of the program."""
