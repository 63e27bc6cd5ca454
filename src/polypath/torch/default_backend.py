"""`torch.compile` without a backend: ours for graphs with a tensor of the device, torch's Inductor for all others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch._dynamo
from torch.utils import _pytree as pytree

from polypath.torch import compiler
from polypath.torch.buffers import NAME


def register() -> None:
    """Make the backend known by name, and torch's default choose it by the graph's devices; once."""
    torch._dynamo.register_backend(_compile, name=NAME)
    inductor: Any = torch._TorchCompileInductorWrapper
    original = inductor.__call__

    @functools.wraps(original)
    def choose(self: Any, graph: torch.fx.GraphModule, example_inputs: Sequence[Any], **config: Any) -> Any:
        if _on_device(example_inputs) or any(_on_device(_values(node)) for node in graph.graph.nodes):
            return compiler.compile_graph(graph, example_inputs)
        return original(self, graph, example_inputs, **config)

    inductor.__call__ = choose


def _compile(
    graph: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """The backend "polypath".

    `mode` and `options` choose among Inductor's ways to make kernels. XLA has one way, so they change nothing here.

    Raises:
        RuntimeError: torch knows no such mode or option.
    """
    if mode or options:
        torch._TorchCompileInductorWrapper(mode, options, None)  # It refuses what it does not know.
    return compiler.compile_graph(graph, example_inputs)


def _values(node: torch.fx.Node) -> Iterable[Any]:
    return pytree.tree_leaves(node.meta.get("example_value"))


def _on_device(values: Iterable[Any]) -> bool:
    return any(isinstance(value, torch.Tensor) and value.device.type == NAME for value in values)
