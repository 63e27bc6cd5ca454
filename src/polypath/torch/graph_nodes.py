"""Nodes of the graphs that torch captures: what each is, what no program can do, and where the user's code calls it."""

from __future__ import annotations

import operator
from typing import Final, NoReturn

import torch
from torch._ops import OpOverload
from torch._prims.rng_prims import run_and_save_rng_state
from torch.fx.node import Node, map_arg
from torch.utils import _pytree as pytree

from polypath.torch import lowerings
from polypath.torch.buffers import NAME
from polypath.torch.errors import TorchError

aten: Final = torch.ops.aten


def is_check(node: Node) -> bool:
    """Whether a node looks if a matrix was singular. No program can stop for that: its results are infinite or NaN."""
    return node.target is torch.ops.higher_order.with_effects and node.args[1] is aten._linalg_check_errors.default


def is_state(node: Node) -> bool:
    """Whether a node is the random state from which the backward pass draws the same again (checkpointing).

    torch gives it the CPU's form; here it is a key, and on the devices.
    """
    return node.target is operator.getitem and node.args[0].target is run_and_save_rng_state and node.args[1] == 0  # pyright: ignore


def is_here(node: Node) -> bool:
    """Whether a node is of torch's CPU, or of sizes."""
    value = node.meta.get("val")
    tensors = [one for one in pytree.tree_leaves(value) if isinstance(one, torch.Tensor)]
    if not tensors:
        return not any(_is_there(one) for one in node.all_input_nodes)
    if all(one.device.type == NAME for one in tensors):
        return False
    for one in node.all_input_nodes:
        if _is_there(one):
            raise TorchError(
                f"{node.target}{line(node)} brings a value from the cluster to {tensors[0].device} within a compiled "
                "function; return the value and bring it there outside."
            )
    return True


def _is_there(node: Node) -> bool:
    values = pytree.tree_leaves(node.meta.get("val"))
    return node.op != "placeholder" and any(isinstance(v, torch.Tensor) and v.device.type == NAME for v in values)


def check_lowered(node: Node, op: OpOverload) -> bool:
    """Refuse what no program can do; whether it draws random numbers."""
    if op is aten._local_scalar_dense.default:
        raise TorchError(
            f"{op}{line(node)} gives Python a number, for which the program would have to end; return the tensor and "
            "read it outside."
        )
    if lowerings.is_data_dependent(op, map_arg(node.args, lambda one: one.meta.get("val"))):  # pyright: ignore
        raise TorchError(
            f"{op}{line(node)} has a result whose shape depends on data, which one program cannot have; compute "
            "with a mask of the full shape, or leave that line out of torch.compile."
        )
    if op._schema.is_mutable or (lowerings.find(op) is None and op is not aten.sym_size.int):
        if op.namespace not in ("aten", "prims"):
            raise TorchError(_CUSTOM.format(op=op, line=line(node)))
        raise TorchError(
            f"{op}{line(node)} has no lowering to XLA; write it with other operators, or leave that line out of "
            "torch.compile, where it runs on the client's CPU."
        )
    return lowerings.is_random(op)


def line(node: Node) -> str:
    """Where the user's code calls it."""
    trace_ = node.meta.get("stack_trace") or ""
    lines = [text for each in trace_.splitlines() if (text := each.strip())]
    at = [i for i, text in enumerate(lines) if text.startswith("File ")]
    if not at:
        return ""
    place = lines[at[-1]]
    code = lines[at[-1] + 1] if at[-1] + 1 < len(lines) else ""
    return f" (called at {place.removeprefix('File ')}: `{code}`)"


_CUSTOM: Final = (
    "{op}{line} has no lowering to XLA; give it one with polypath.torch.register_lowering(op, function on JAX arrays) "
    "if it writes to none of its arguments, or leave that line out of torch.compile."
)
WRITING: Final = frozenset({torch.ops.higher_order.auto_functionalized, torch.ops.higher_order.auto_functionalized_v2})
"""What torch makes of an operator of the user's that writes to its arguments."""


def refuse_writing(node: Node) -> NoReturn:
    """Say what is to be done with an operator of the user's that writes to its arguments."""
    raise TorchError(_CUSTOM.format(op=node.args[0], line=line(node)))
