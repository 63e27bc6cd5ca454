"""`torch.compile(f, backend="polypath")`: graphs of many operators as one node of the trace.

Dynamo and AOTAutograd capture: what comes here is a graph of aten operators that compute, without views that
alias and without writes, but for the last values of arguments that the program changes. Each operator is
lowered, and the graph becomes one function on arrays.

A graph of a forward pass waits for its backward pass, and both for the graph that changes what was there before,
which is the optimizer's: so a step of training is one program even where Dynamo had to break it into several graphs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import jax
import numpy as np
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import (
    default_partition,
    has_recomputable_ops,
    min_cut_rematerialization_partition,
)
from torch._ops import OpOverload
from torch._prims.rng_prims import run_and_save_rng_state, run_with_rng_state
from torch.fx.node import Node, map_arg

from polypath.torch import bounds, breaks, lowerings
from polypath.torch.buffers import NAME, buffer_of, read, tensor_of, write
from polypath.torch.dtypes import jax_dtype
from polypath.torch.errors import TorchError
from polypath.torch.graph_nodes import WRITING, check_lowered, is_check, is_here, is_state, line, refuse_writing
from polypath.torch.kernels.lowered import computed
from polypath.torch.kernels.transfers import number_or_upload
from polypath.torch.programs import Ref, exact, new_key
from polypath.torch.trace import trace

aten: Final = torch.ops.aten


def compile_graph(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """Dynamo's backend.

    Raises:
        TorchError: an operator cannot be lowered; the sentence names it and the line that called it.
    """
    breaks.goes_on(graph)
    return aot_autograd(
        fw_compiler=_part,
        bw_compiler=_part,
        inference_compiler=functools.partial(_whole, breaks.break_of(graph)),
        decompositions=lowerings.decompositions(),
        partition_fn=_partition,
        keep_inference_input_mutations=True,
    )(graph, example_inputs)


def _partition(joint: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
    """Into forward and backward. What is computed anew in the backward pass is what the user said (checkpointing)."""
    if has_recomputable_ops(joint):
        return min_cut_rematerialization_partition(joint, *args, **kwargs)
    kwargs.pop("compiler", None)
    return default_partition(joint, *args, **kwargs)


def _part(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    return _Graph(graph, start=False)


def _whole(at: breaks.Break | None, graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    return _Graph(graph, start=True, ends_at=at)


class _Graph:
    """One graph, as AOTAutograd calls it: tensors in a list that it may clear, tensors out.

    What is on torch's CPU in it (the count of steps in an optimizer, sizes) is computed there at each call, and what
    the rest needs of that is an argument of the program.
    """

    def __init__(self, graph: torch.fx.GraphModule, *, start: bool, ends_at: breaks.Break | None = None) -> None:
        self._boxed_call = True
        """torch looks for this among what an object has of its own."""
        self._start = start
        """Whether no backward pass may be waited for."""
        self._ends_at = ends_at
        self._inputs: list[Node] = []
        self._here: list[Node] = []
        """Done at each call, on the CPU or by no program."""
        self._there: list[Node] = []
        """Done by the program."""
        self._taken: dict[Node, None] = {}
        """What the program takes: arguments, constants, and what comes of `_here`."""
        self._constants: dict[Node, Any] = {}
        self._written: dict[Node, Node] = {}
        """By an argument, the value that it has in the end."""
        self._outputs: list[Any] = []
        self._random = False
        self._recomputes = any(node.meta.get("recompute") is not None for node in graph.graph.nodes)
        """Whether it is a backward pass that was told to compute values anew: XLA must not keep the first ones."""
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        for node in graph.graph.nodes:
            self._look_at(graph, node)
        self._here += [node for node in self._there if self._is_same(node)]
        self._there = [node for node in self._there if not self._is_same(node)]
        there = set(self._there)
        self._given = [node for node in self._written.values() if node in there]
        self._given += [node for node in self._outputs if isinstance(node, Node) and node in there]
        for node in (*self._there, *self._written.values(), *self._outputs):
            if isinstance(node, Node) and node in there:
                self._taken.update(dict.fromkeys(one for one in node.all_input_nodes if one not in there))

    def _look_at(self, graph: torch.fx.GraphModule, node: Node) -> None:
        if node.op == "placeholder":
            self._inputs.append(node)
        elif node.op == "get_attr":
            self._constants[node] = operator.attrgetter(str(node.target))(graph)
        elif node.op == "output":
            self._outputs = list(node.args[0])  # pyright: ignore
        elif node.target is aten.copy_.default and node.args[0] in self._inputs:
            self._written[node.args[0]] = node.args[1]  # pyright: ignore
        elif node.target in (run_and_save_rng_state, run_with_rng_state) or is_state(node):
            self._there.append(node)
            self._random |= node.target is run_and_save_rng_state
        elif is_check(node) or is_here(node):
            self._here.append(node)
        elif node.target in WRITING:
            refuse_writing(node)
        else:
            self._there.append(node)
            if isinstance(node.target, OpOverload):
                self._random |= check_lowered(node, node.target)

    def _is_same(self, node: Node) -> bool:
        """Whether a node only hands an argument on (`loss.detach()` at a step's end), which needs no program."""
        source = node.args[0] if self._start and node.target in _SAME else None
        return source in self._inputs and source not in self._written

    def __call__(self, arguments: list[Any]) -> list[Any]:
        env: dict[Node, Any] = dict(zip(self._inputs, arguments, strict=True))
        arguments.clear()
        env.update(self._constants)
        for node in self._here:
            if is_check(node):
                env[node] = (env[node.args[0]], None)  # pyright: ignore
                continue
            args, kwargs = map_arg((node.args, node.kwargs), env.__getitem__)  # pyright: ignore
            env[node] = node.target(*args, **kwargs)  # pyright: ignore
        made = self._add(env) if self._given else {}
        ends = self._start and bool(self._given) and not self._written
        for target, source in self._written.items():
            if source in made:
                ends |= self._start and buffer_of(env[target]).ref.array is not None
                write(env[target], made[source])
            else:
                env[target].copy_(env[source])
        results = [self._result(node, env, made) for node in self._outputs]
        env.clear()
        if ends:
            trace.flush()
            if self._ends_at is not None:
                breaks.program_ended(self._ends_at)
        return results

    def _add(self, env: dict[Node, Any]) -> dict[Node, Ref]:
        """Have the program done; what it gives."""
        refs: list[Ref] = []
        static: list[Any] = []
        for node in self._taken:
            value = env[node]
            static.append(None if isinstance(value, torch.Tensor) else value)
            if isinstance(value, torch.Tensor):
                refs.append(read(value) if value.device.type == NAME else number_or_upload(value))
        key = (*map(exact, static), *((ref.shape, ref.dtype or type(ref.array)) for ref in refs))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(static, refs)
        outs = trace.add(plan.run, plan.key, refs, plan.avals, random=self._random, graph=True)
        return dict(zip(self._given, outs, strict=True))

    def _result(self, node: Any, env: dict[Node, Any], made: dict[Node, Ref]) -> Any:
        if not isinstance(node, Node):
            return node
        if node not in made:
            return env[node]
        fake, ref = node.meta["val"], made[node]
        strides = fake.stride()
        if not all(isinstance(size, int) for size in (*fake.shape, *strides)):
            strides = None
        return tensor_of(ref, fake.dtype, strides)

    def _plan(self, static: list[Any], refs: list[Ref]) -> _Plan:
        def run(*values: Any) -> list[Any]:
            key = values[0] if self._random else None
            rest = iter(values[1:] if self._random else values)
            if self._recomputes:
                rest = iter(jax.lax.optimization_barrier(tuple(rest)))
            given = [next(rest) if one is None else one for one in static]
            env = self._run(key, dict(zip(self._taken, given, strict=True)))
            return [env[node] for node in self._given]

        with jax.enable_x64(True):
            shapes: list[Any] = [
                ref.array if ref.dtype is None else jax.ShapeDtypeStruct(ref.shape, ref.dtype) for ref in refs
            ]
            if self._random:
                shapes.insert(0, jax.eval_shape(lambda: jax.random.key(0)))
            found = jax.eval_shape(run, *shapes)
        return _Plan(run, new_key(), [(tuple(one.shape), one.dtype) for one in found])

    def _run(self, key: Any, env: dict[Node, Any]) -> dict[Node, Any]:
        """The program, on arrays."""
        drawn = 0
        for node in self._there:
            given: Any = map_arg((node.args, node.kwargs), env.__getitem__)  # pyright: ignore
            args: tuple[Any, ...] = given[0]
            kwargs: dict[str, Any] = given[1]
            if node.target is aten.sym_size.int:
                env[node] = args[0].shape[args[1]]
            elif node.target is run_and_save_rng_state:
                op, *rest = args
                own = jax.random.fold_in(key, drawn)
                drawn += 1
                state = jax.lax.bitcast_convert_type(jax.random.key_data(own), np.uint8).reshape(-1)
                env[node] = (state, self._lower(node, op, [own], rest, kwargs))
            elif node.target is run_with_rng_state:
                state, op, *rest = args
                own = jax.lax.bitcast_convert_type(state.reshape(-1, 4), np.uint32)
                env[node] = self._lower(node, op, [jax.random.wrap_key_data(own)], rest, kwargs)
            elif not isinstance(node.target, OpOverload):
                env[node] = cast("Any", node.target)(*args, **kwargs)  # Of sizes, or an item of a tuple.
            else:
                keys: list[Any] = []
                if lowerings.is_random(node.target):
                    keys = [jax.random.fold_in(key, drawn)]
                    drawn += 1
                env[node] = self._lower(node, node.target, keys, args, kwargs)
        return env

    def _lower(self, node: Node, op: OpOverload, keys: list[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        lowering = lowerings.find(op)
        assert lowering is not None
        if lowerings.takes_strides(op):
            kwargs = {**kwargs, "strides": node.args[0].meta["val"].stride()}  # pyright: ignore
        try:
            bounds.look(op, args, kwargs, line(node))
            result = computed(lowering, keys, args, kwargs)
        except Exception as error:
            raise TorchError(f"{op}{line(node)} could not be lowered to XLA: {error}") from error
        return _checked(node, op, node.meta.get("val"), result)


def _checked(node: Node, op: OpOverload, fake: Any, result: Any) -> Any:
    """A result of the dtype that torch says; its shape must be torch's already."""
    if isinstance(fake, list | tuple):
        return type(fake)(_checked(node, op, one, each) for one, each in zip(fake, result, strict=True))  # pyright: ignore
    if not isinstance(fake, torch.Tensor) or result is None:
        return result
    shape = tuple(_hint(size) for size in fake.shape)
    if None not in shape and shape != tuple(result.shape):
        raise TorchError(
            f"{op}{line(node)} gives an array of shape {tuple(result.shape)} where torch has {shape}: its lowering is "
            "wrong; please report it."
        )
    dtype = jax_dtype(fake.dtype)
    return result if result.dtype == dtype else result.astype(dtype)


def _hint(size: Any) -> int | None:
    return size if isinstance(size, int) else None


_SAME: Final = frozenset({aten.detach.default, aten.alias.default})


class _Plan(NamedTuple):
    """A graph with arguments of known shapes."""

    run: Callable[..., Any]
    key: int
    avals: list[tuple[tuple[int, ...], Any]]
