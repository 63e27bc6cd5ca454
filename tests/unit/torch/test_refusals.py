"""What a program is told, in one sentence, where it asks for what the device does otherwise, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax.numpy as jnp  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor  # noqa: E402
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module  # noqa: E402

import polypath.torch as pt  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method", "ignore::UserWarning:torch")


# --- torch.compile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "reduce-overhead"},
        {"backend": "polypath", "mode": "max-autotune"},
        {"options": {"max_autotune": True}},
        {"backend": "polypath", "options": {"max_autotune": True}},
        {"backend": "inductor", "fullgraph": True},
    ],
    ids=str,
)
def test_the_default_compiles_for_the_device(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    model = torch.nn.Linear(2, 2).to(DEVICE)
    step = torch.compile(lambda x: torch.tanh(model(x)) * 2, **options)
    x = torch.ones(3, 2, device=DEVICE)
    want = torch.tanh(model(x)) * 2
    want.sum().item()
    runs = trace.runs
    with torch.no_grad():
        got = step(x)
        assert trace.runs == runs + 1  # One program, and it is ours.
    torch.testing.assert_close(got.cpu(), want.detach().cpu())


def test_the_default_sees_a_device_that_is_only_named_within() -> None:
    torch.compiler.reset()
    make = torch.compile(lambda n: torch.arange(n, device="polypath") * 2, fullgraph=True)
    assert make(4).tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("options", "told"), [({"mode": "fast"}, "Unrecognized mode=fast"), ({"options": {"fast": 1}}, "option fast")]
)
def test_modes_and_options_that_torch_does_not_know_are_refused(options: dict[str, Any], told: str) -> None:
    torch.compiler.reset()
    with pytest.raises(Exception, match=told):
        torch.compile(lambda x: x + 1, backend="polypath", **options)(torch.ones(2, device=DEVICE))


# --- Operators of the user's own ----------------------------------------------------------------------


@torch.library.custom_op("polypath_tests::scale", mutates_args=())
def scale(x: torch.Tensor, by: float) -> torch.Tensor:
    """Not what its lowering does, to see which was run."""
    return x * by + 100


@scale.register_fake
def _(x: Any, by: float) -> Any:
    return torch.empty_like(x)


scale.register_autograd(
    lambda ctx, gradient: (gradient * ctx.by, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "by", inputs[1]),
)


@torch.library.custom_op("polypath_tests::parts", mutates_args=())
def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.floor(), x - x.floor()


@parts.register_fake
def _(x: Any) -> Any:
    return torch.empty_like(x), torch.empty_like(x)


@torch.library.custom_op("polypath_tests::fill", mutates_args=("x",))
def fill(x: torch.Tensor) -> None:
    x.fill_(3)


def test_an_operator_of_ones_own_is_refused_in_a_compiled_function_until_it_has_a_lowering() -> None:
    def step(x: Any) -> Any:
        return scale(x, 2.0).sum()

    torch.compiler.reset()
    x = torch.ones(3, device=DEVICE, requires_grad=True)
    assert scale(x, 2.0).tolist() == [102, 102, 102]  # By itself it runs as it is written.
    with pytest.raises(Exception, match=r"tests\.scale.*test_refusals\.py.*polypath\.torch\.register_lowering\(op"):
        torch.compile(step)(x)
    pt.register_lowering(scale, lambda x, by: x * by)
    torch.compiler.reset()
    assert scale(x, 2.0).tolist() == [2, 2, 2]
    for run in (step, torch.compile(step, fullgraph=True)):
        x.grad = None
        run(x).backward()
        assert x.grad.tolist() == [2, 2, 2]
    assert scale(torch.ones(1), 2.0).item() == 102  # On the CPU it stays as it is written.


def test_a_lowering_may_give_several_arrays_and_be_replaced() -> None:
    pt.register_lowering(torch.ops.polypath_tests.parts, lambda x: (x, x))
    pt.register_lowering(torch.ops.polypath_tests.parts.default, lambda x: (jnp.floor(x), x - jnp.floor(x)))
    torch.compiler.reset()
    x = torch.tensor([1.5, 2.25], device=DEVICE)
    for run in (parts, torch.compile(parts, fullgraph=True)):
        whole, rest = run(x)
        assert (whole.tolist(), rest.tolist()) == ([1, 2], [0.5, 0.25])


def test_a_lowering_that_gives_other_shapes_is_told() -> None:
    library = torch.library.Library("polypath_tests", "FRAGMENT")
    library.define("halve(Tensor x) -> Tensor")
    library.impl("halve", torch.empty_like, "Meta")
    pt.register_lowering(torch.ops.polypath_tests.halve, lambda x: x[:1])
    with pytest.raises(
        pt.TorchError, match=r"polypath_tests\.halve\.default gives arrays of shapes \[\(1,\)\] where torch has"
    ):
        torch.ops.polypath_tests.halve(torch.ones(4, device=DEVICE))


@pytest.mark.parametrize(
    ("op", "told"),
    [
        (fill, "writes to its arguments, which no lowering can do"),
        (torch.ops.aten.add.Tensor, r"aten\.add\.Tensor is torch's own operator"),
        (torch.ops.aten.add, "is no operator with one overload"),
        ("polypath_tests::scale", "is no operator with one overload"),
    ],
    ids=["writes", "torch's", "packet", "name"],
)
def test_what_can_have_no_lowering_is_told(op: Any, told: str) -> None:
    with pytest.raises(pt.TorchError, match=told):
        pt.register_lowering(op, lambda x: x)


def test_an_operator_that_writes_is_told_in_a_compiled_function() -> None:
    def step(x: Any) -> Any:
        y = x + 1
        fill(y)
        return y

    torch.compiler.reset()
    x = torch.ones(2, device=DEVICE)
    assert step(x).tolist() == [3, 3]
    with pytest.raises(
        Exception, match=r"polypath_tests\.fill.* if it writes to none of its arguments, or leave that line"
    ):
        torch.compile(step)(x)


# --- What is for a process per device -----------------------------------------------------------------


def model() -> Any:
    return torch.nn.Linear(2, 2).to(DEVICE)


WITHOUT_GROUP: dict[str, Callable[[], Any]] = {
    "fully_shard": lambda: fully_shard(model()),
    "FullyShardedDataParallel": lambda: FullyShardedDataParallel(model()),
    "DistributedDataParallel": lambda: torch.nn.parallel.DistributedDataParallel(model()),
    "torch's DeviceMesh": lambda: init_device_mesh("polypath", (1,)),
    "init_process_group": lambda: dist.init_process_group("gloo", device_id=DEVICE),
}
WITH_GROUP: dict[str, Callable[[Any], Any]] = {
    "distribute_tensor": lambda mesh: distribute_tensor(torch.ones(2, device=DEVICE), mesh, [Shard(0)]),
    "distribute_module": lambda mesh: distribute_module(model(), mesh),
    "parallelize_module": lambda mesh: parallelize_module(model(), mesh, ColwiseParallel()),
    "fully_shard": lambda mesh: fully_shard(model(), mesh=mesh),
    "DTensor": lambda mesh: DTensor.from_local(torch.ones(2, device=DEVICE), mesh, [Shard(0)]),
    "A collective": lambda mesh: dist.all_reduce(torch.ones(2, device=DEVICE)),
}
INSTEAD = r"is for a process per device, .* polypath\.torch\.(fsdp|shard)\(.*, where mesh = jax\.make_mesh\("


@pytest.fixture(scope="module")
def cpu_mesh() -> Iterator[Any]:
    """Of a group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("name", WITHOUT_GROUP)
def test_what_is_for_many_processes_names_what_does_it_here(name: str) -> None:
    with pytest.raises(pt.TorchError, match=f"{name}.* {INSTEAD}"):
        WITHOUT_GROUP[name]()
    assert not dist.is_initialized()


@pytest.mark.parametrize("name", WITH_GROUP)
def test_in_a_group_it_does_too_and_moves_nothing_to_the_cpu(name: str, cpu_mesh: Any) -> None:
    with pytest.raises(pt.TorchError, match=f"{name}.* {INSTEAD}"):
        WITH_GROUP[name](cpu_mesh)


def test_on_the_cpu_they_are_torchs_own(cpu_mesh: Any) -> None:
    ones, layer = torch.ones(2), torch.nn.Linear(2, 2)
    dist.all_reduce(ones)
    assert ones.tolist() == [1, 1]
    assert distribute_tensor(torch.ones(4), cpu_mesh, [Shard(0)]).to_local().tolist() == [1, 1, 1, 1]
    want = layer(ones)
    assert torch.nn.parallel.DistributedDataParallel(layer)(ones).equal(want)


def test_data_parallel_leaves_a_model_where_it_is() -> None:
    layer = model()
    x = torch.ones(3, 2, device=DEVICE)
    assert torch.nn.DataParallel(layer)(x).cpu().equal(layer(x).cpu())
