"""`torch.autocast("polypath", dtype=torch.bfloat16)`: which operators compute in the smaller dtype, and which never.

The lists are torch's own, as it documents them for its other accelerators
(https://docs.pytorch.org/docs/stable/amp.html#autocast-op-reference).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch.buffers import NAME

_SMALL: Final = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc convolution _convolution
    addbmm addmm addmv addr baddbmm bmm chain_matmul linalg_multi_dot linalg_vecdot linear matmul mm mv prelu
    scaled_dot_product_attention gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell
    _thnn_fused_gru_cell _thnn_fused_lstm_cell lstm gru rnn_tanh rnn_relu
""".split()  # noqa: SIM905
_WIDE: Final = """
    acos asin cosh erfinv exp expm1 log log10 log1p log2 pow reciprocal rsqrt sinh tan softplus
    layer_norm native_layer_norm group_norm rms_norm frobenius_norm nuclear_norm norm cosine_similarity
    poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss
    huber_loss mse_loss margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss
    multi_margin_loss binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp
    softmax log_softmax cumprod cumsum prod sum
""".split()  # noqa: SIM905
_WIDEST: Final = """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add cat stack
""".split()  # noqa: SIM905
"""All arguments in the widest dtype that one of them has."""

_KEY: Final = torch._C._dispatch_key_parse("AutocastPrivateUse1")
_libraries: Final[list[torch.library.Library]] = []


def register() -> None:
    """Have the operators cast their arguments where autocast is on."""
    library = torch.library.Library("aten", "IMPL")
    for names, policy in ((_SMALL, _small), (_WIDE, _wide), (_WIDEST, _widest)):
        for op in _overloads(names):
            library.impl(op, functools.partial(_cast, op, policy), "AutocastPrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _libraries.extend((library, others))


def _overloads(names: Sequence[str]) -> Iterator[OpOverload]:
    for name in names:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            op = getattr(packet, overload)
            if not op._schema.is_mutable and torch._C._dispatch_has_kernel(op.name()):
                yield op


def _small(_: list[torch.dtype]) -> torch.dtype:
    return torch.get_autocast_dtype(NAME)


def _wide(_: list[torch.dtype]) -> torch.dtype:
    return torch.float32


def _widest(dtypes: list[torch.dtype]) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes)


def _cast(op: OpOverload, policy: Any, *args: Any, **kwargs: Any) -> Any:
    leaves, spec = pytree.tree_flatten((args, kwargs))
    found = [leaf.dtype for leaf in leaves if _is_cast(leaf)]
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_KEY)):
        if found:
            dtype = policy(found)
            leaves = [leaf.to(dtype) if _is_cast(leaf) else leaf for leaf in leaves]
            args, kwargs = pytree.tree_unflatten(leaves, spec)
        return op(*args, **kwargs)


def _is_cast(leaf: Any) -> bool:
    return (
        isinstance(leaf, torch.Tensor)
        and leaf.device.type == NAME
        and leaf.is_floating_point()
        and leaf.dtype != torch.float64
    )
