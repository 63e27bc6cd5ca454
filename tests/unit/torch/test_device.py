"""The device, as programs of PyTorch use it: beside torch's CPU, on this process's own devices."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from jax.sharding import Mesh  # noqa: E402

import polypath.torch as pt  # noqa: E402
from polypath.torch.buffers import buffer_of  # noqa: E402
from polypath.torch.eager import MANY_ALONE  # noqa: E402
from polypath.torch.trace import MOST_NODES, trace  # noqa: E402

DEVICE = pt.device()
# What torch says of itself while it compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method", "ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::polypath.torch.EagerWarning"),
]


def both(program: Callable[[Any], Any], *shape: int) -> None:
    """The program does the same to a tensor of the device as to one of the CPU."""
    here = torch.arange(1.0, 1 + float(np.prod(shape))).reshape(shape)
    there = here.to(DEVICE)
    want, got = program(here), program(there)
    assert got.device == DEVICE
    torch.testing.assert_close(got.cpu(), want)
    assert (got.shape, got.stride(), got.dtype) == (want.shape, want.stride(), want.dtype)
    torch.testing.assert_close(there.cpu(), here)


# --- Views and writes ------------------------------------------------------------------------

VIEWS: dict[str, Callable[[Any], Any]] = {
    "view": lambda t: t.view(-1),
    "t": lambda t: t.t(),
    "narrow": lambda t: t.narrow(1, 1, 2),
    "diagonal": lambda t: t.diagonal(),
    "unbind": lambda t: t.unbind(1)[2],
    "chunk": lambda t: t.chunk(2)[1],
    "expand": lambda t: t[:1],
    "step": lambda t: t[::2, 1::2],
    "transposed slice": lambda t: t.t()[1:3],
    "reshaped slice": lambda t: t[1:3].reshape(2, 2, 2),
    "flat diagonal": lambda t: t.view(-1)[::5],
    "select": lambda t: t[2],
    "scalar": lambda t: t[1, 2],
    "unsqueezed": lambda t: t.unsqueeze(1)[:, 0],
    "as_strided": lambda t: t.as_strided((2, 3), (5, 1), 2),
    "unfold": lambda t: t.unfold(0, 2, 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_write_to_a_view_is_seen_by_its_base(name: str) -> None:
    def program(t: Any) -> Any:
        view = VIEWS[name](t)
        view.mul_(-1).add_(view.detach().clone(), alpha=0.5)
        return VIEWS[name](t)

    both(program, 4, 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_views_of_views_read_and_write_the_same_storage(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.sampled_from(["t", "slice", "flat", "select", "cut"]), max_size=4))

    def program(t: Any) -> Any:
        view = t
        for step in steps:
            if step == "t" and view.dim() > 1:
                view = view.transpose(0, -1)
            elif step == "slice" and view.dim() and view.shape[0] > 1:
                view = view[1:]
            elif step == "flat" and view.is_contiguous():
                view = view.view(-1)
            elif step == "select" and view.dim() > 1:
                view = view[:, 0]
            elif step == "cut" and view.dim() and view.shape[-1] > 1:
                view = view[..., ::2]
        view += 100
        return view

    both(program, 3, 4, 2)


def test_a_change_of_the_base_is_seen_by_its_views() -> None:
    def program(t: Any) -> Any:
        view = t[1:].t()
        t.zero_()
        t[2] = 7
        return view

    both(program, 3, 3)


def test_memory_is_read_as_another_dtype() -> None:
    both(lambda t: t.view(torch.int32), 2, 4)
    both(lambda t: torch.view_as_real(torch.view_as_complex(t)), 3, 2)

    def program(t: Any) -> Any:
        t.view(torch.int32)[0] = 0
        return t

    both(program, 2, 4)


def test_tensors_keep_their_strides() -> None:
    both(lambda t: t.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).mul(2), 2, 3, 4, 5)
    both(lambda t: t.t() + 1, 3, 4)


def test_out_and_in_place_follow_torchs_rules() -> None:
    x = torch.ones(3, device=DEVICE)
    out = torch.empty(0, device=DEVICE)
    torch.add(x, 1, out=out)
    assert out.tolist() == [2, 2, 2]
    whole = torch.ones(3, dtype=torch.int64, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"can't be cast|not possible"):
        whole.add_(0.5)
    with pytest.raises(RuntimeError, match="broadcast"):
        x.add_(torch.ones(2, 3, device=DEVICE))
    assert x.tolist() == [1, 1, 1]


# --- Numbers ----------------------------------------------------------------------------------


def test_64_bits_stay_64_bits() -> None:
    large = torch.tensor([2**40 + 1, -(2**50)], device=DEVICE)
    assert (large.dtype, (large * 2).tolist()) == (torch.int64, [2**41 + 2, -(2**51)])
    exact = torch.tensor([1 + 2**-40], dtype=torch.float64, device=DEVICE)
    assert (exact - 1).item() == 2**-40
    assert not jax.config.jax_enable_x64


def test_numbers_that_are_equal_are_not_taken_for_each_other() -> None:
    ones = torch.ones(2, device=DEVICE)
    for zero in (0.0, -0.0, 0.0):
        assert torch.copysign(ones, zero).tolist() == torch.copysign(torch.ones(2), zero).tolist()
    plus, minus = (torch.full((1,), zero, device=DEVICE) for zero in (0.0, -0.0))
    assert [(1 / plus).item(), (1 / minus).item()] == [float("inf"), -float("inf")]


def test_what_integers_become_follows_the_default_dtype() -> None:
    whole = torch.arange(3, device=DEVICE)
    assert (whole / 2).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert (whole / 2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_seed_gives_the_same_numbers_again() -> None:
    def draw() -> list[float]:
        return [*torch.rand(4, device=DEVICE).tolist(), *torch.nn.functional.dropout(x, 0.5).tolist()]

    x = torch.ones(16, device=DEVICE)
    torch.manual_seed(5)
    first = draw()
    assert draw() != first
    torch.manual_seed(5)
    assert draw() == first
    state = torch.polypath.get_rng_state()
    second = draw()
    torch.polypath.set_rng_state(state)
    assert draw() == second
    ours = [torch.randn(3, device=DEVICE, generator=torch.Generator().manual_seed(s)).tolist() for s in (1, 1, 2)]
    assert ours[0] == ours[1] != ours[2]


def test_mean_and_spread_of_random_numbers() -> None:
    x = torch.randn(20_000, device=DEVICE)
    assert abs(x.mean().item()) < 0.05
    assert abs(x.std().item() - 1) < 0.05
    kept = torch.nn.functional.dropout(torch.ones(20_000, device=DEVICE), 0.25)
    assert abs((kept == 0).float().mean().item() - 0.25) < 0.02


# --- Going and coming -------------------------------------------------------------------------

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_goes_there_comes_back(dtype: Any) -> None:
    here = torch.tensor([[0, 1], [3, 2]]).to(dtype)
    assert torch.equal(here.to(DEVICE).cpu(), here)
    assert torch.equal(here.t().to(DEVICE).t().cpu(), here)


def test_later_changes_on_the_cpu_are_not_seen() -> None:
    here = torch.zeros(1000)
    there = here.to(DEVICE)
    here += 1
    assert there.sum().item() == 0


def test_state_is_saved_and_loaded() -> None:
    model = torch.nn.Linear(3, 2).to(DEVICE)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "half": model.weight.detach().half()}, file)
    for place in (DEVICE, "cpu", "polypath"):
        file.seek(0)
        loaded = torch.load(file, map_location=place)
        assert loaded["model"]["weight"].device.type == torch.device(place).type
        assert torch.equal(loaded["model"]["weight"].cpu(), model.weight.cpu())
        assert torch.equal(loaded["half"].cpu(), model.weight.detach().half().cpu())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.weight.zero_()
    assert model.weight.abs().sum().item() > 0


def test_a_tensor_is_printed() -> None:
    assert repr(torch.tensor([1.5, -2], device=DEVICE)) == "tensor([ 1.5000, -2.0000], device='polypath:0')"


def test_a_tensor_elsewhere_is_refused_by_name() -> None:
    there = torch.ones(3, device=DEVICE)
    with pytest.raises(pt.TorchError, match=r"Argument 1 of aten\.add\.Tensor is on cpu.*\.to\('polypath'\)"):
        there + torch.ones(3)
    assert (there + torch.tensor(2.0)).tolist() == [3, 3, 3]


# --- Programs ---------------------------------------------------------------------------------


def model_and_data() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.GELU(), torch.nn.Linear(16, 4)
    return torch.nn.Sequential(*layers), torch.randn(32, 8), torch.randint(0, 4, (32,))


def train(model: Any, x: Any, y: Any, compiled: bool, steps: int = 5) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-2))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    if compiled:
        step = torch.compile(step, backend="polypath")
    losses: list[float] = []
    for _ in range(steps):
        losses.append(step().item())
        scheduler.step()
    return losses


def test_what_operators_one_by_one_cost_is_told_once() -> None:
    x = torch.ones(2, device=DEVICE)
    trace.flush()
    trace.__dict__["_told"] = False

    def run() -> None:
        y = x
        for _ in range(MANY_ALONE + 1):
            y = y + x
        assert y[0].item() == MANY_ALONE + 2

    run()  # A program that runs once may be anything.
    with pytest.warns(pt.EagerWarning, match=r"\d+ operators ran one by one, .* ms of Python"):
        run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_training_is_the_same_as_on_the_cpu(compiled: bool) -> None:
    torch.compiler.reset()
    model, x, y = model_and_data()
    there = copy.deepcopy(model).to(DEVICE)
    want = train(model, x, y, compiled=False)
    got = train(there, x.to(DEVICE), y.to(DEVICE), compiled)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    for one, other in zip(model.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-4)


def test_a_step_is_one_program_whatever_breaks_its_graph() -> None:
    torch.compiler.reset()
    model, x, y = model_and_data()
    model, x, y = model.to(DEVICE), x.to(DEVICE), y.to(DEVICE)
    train(model, x, y, compiled=True, steps=3)
    programs, runs = trace.programs, trace.runs
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="polypath")
    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        torch._dynamo.graph_break()
        optimizer.step()
        return loss

    for _ in range(2):
        step()
    programs, runs = trace.programs, trace.runs
    for _ in range(5):
        loss = step()
    assert (trace.programs - programs, trace.runs - runs) == (0, 5)
    assert loss.item() > 0
    assert (trace.programs - programs, trace.runs - runs) == (0, 5)


def test_a_loss_that_is_only_detached_is_no_program_more() -> None:
    model, x, y = model_and_data()
    model, x, y = model.to(DEVICE), x.to(DEVICE), y.to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    f = compiled(step)
    losses = [f() for _ in range(3)]
    runs = trace.runs
    losses += [f() for _ in range(3)]
    assert trace.runs == runs + 3
    numbers = [loss.item() for loss in losses]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 6


def test_a_parameter_that_was_overwritten_is_donated() -> None:
    weight = torch.ones(1000, device=DEVICE)
    weight.add_(1)
    trace.flush()
    old = buffer_of(weight).ref.array
    kept = weight.clone()
    weight.mul_(2)
    trace.flush()
    assert not old.is_deleted()  # The clone has it.
    del kept
    last = buffer_of(weight).ref.array
    weight.mul_(2)
    trace.flush()
    assert last.is_deleted()
    assert weight[0].item() == 8


def test_what_nobody_reads_does_not_pile_up() -> None:
    x = torch.zeros(2, device=DEVICE)
    runs = trace.runs
    for _ in range(MOST_NODES + 10):
        x = x + 1
    assert trace.runs > runs
    assert x.tolist() == [MOST_NODES + 10] * 2


def test_layers_that_are_alike_share_their_programs() -> None:
    def made_by(layers: int) -> int:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            *(torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.Tanh()) for _ in range(layers))
        )
        model = model.to(DEVICE)
        trace.flush()
        before = trace.programs
        with torch.no_grad():
            got = model(torch.ones(3, 5, device=DEVICE)).cpu()
        torch.testing.assert_close(got, model.cpu()(torch.ones(3, 5)))
        return trace.programs - before

    few = made_by(30)
    assert made_by(60) <= few


def test_a_program_that_failed_says_so_again() -> None:
    before = torch.ones(3, device=DEVICE)
    trace.flush()
    after = before * 2
    buffer_of(before).ref.array.delete()
    with pytest.raises(Exception, match="deleted"):
        after.cpu()
    with pytest.raises(pt.TorchError, match="has failed") as again:
        after.cpu()
    assert "deleted" in str(again.value.__cause__)
    with pytest.raises(pt.TorchError, match="has failed"):
        (after + 1).cpu()
    assert (torch.ones(3, device=DEVICE) + 1).tolist() == [2, 2, 2]


def test_autocast_computes_in_the_smaller_dtype() -> None:
    model, x, _ = model_and_data()
    want = torch.autocast("cpu", torch.bfloat16)(model)(x)
    with torch.autocast("polypath", dtype=torch.bfloat16):
        got = model.to(DEVICE)(x.to(DEVICE))
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.cpu(), want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_activations_are_computed_anew_where_that_is_asked(compiled: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    torch.compiler.reset()
    model, x, y = model_and_data()
    there = copy.deepcopy(model).to(DEVICE)

    def loss_of(model: Any, x: Any, y: Any) -> Any:
        hidden = checkpoint(model[:3], x, use_reentrant=False)
        return torch.nn.functional.cross_entropy(model[3](hidden), y)

    loss_of(model, x, y).backward()
    ours = torch.compile(loss_of, backend="polypath") if compiled else loss_of
    ours(there, x.to(DEVICE), y.to(DEVICE)).backward()
    for one, other in zip(model.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(other.grad.cpu(), one.grad)


def test_batches_of_a_loader_train_a_model() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(32.0).reshape(16, 2), torch.arange(16.0))
    model = torch.nn.Linear(2, 1).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for x, y in torch.utils.data.DataLoader(data, batch_size=4, shuffle=True):
        loss = (model(x.to(DEVICE)).squeeze(-1) - y.to(DEVICE)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == 4
    assert np.isfinite(losses).all()


# --- Bad input to torch.compile -----------------------------------------------------------------


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    torch.compiler.reset()
    return torch.compile(function, backend="polypath", **options)


def test_a_shape_that_depends_on_data_is_told_with_its_line() -> None:
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        bad = compiled(lambda x: x[x > 0].sum())
        with pytest.raises(Exception, match="depends on data") as error:
            bad(torch.ones(3, device=DEVICE))
    told = str(error.value)
    assert "test_device.py" in told
    assert "x[x > 0].sum()" in told
    assert "mask" in told


def test_a_tensor_elsewhere_is_told_in_a_compiled_function() -> None:
    elsewhere = torch.ones(3)
    bad = compiled(lambda x: x + elsewhere)
    with pytest.raises(Exception, match="cpu"):
        bad(torch.ones(3, device=DEVICE))


def test_shapes_may_change_from_call_to_call() -> None:
    f = compiled(lambda x: torch.nn.functional.softmax(x, -1).sum(0) + torch.arange(x.shape[1], device=x.device))
    for rows in (2, 3, 5):
        x = torch.arange(rows * 4.0).reshape(rows, 4)
        want = torch.softmax(x, -1).sum(0) + torch.arange(4)
        torch.testing.assert_close(f(x.to(DEVICE)).cpu(), want)


def test_matrices_are_solved_in_a_compiled_function() -> None:
    def f(a: Any, b: Any) -> Any:
        return torch.linalg.solve(a, b) + torch.linalg.inv(a).sum()

    a, b = torch.eye(3) * 2 + 0.1, torch.ones(3, 1)
    torch.testing.assert_close(compiled(f)(a.to(DEVICE), b.to(DEVICE)).cpu(), f(a, b))
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.inv(torch.zeros(2, 2, device=DEVICE))


@pytest.mark.filterwarnings("ignore::polypath.torch.HostWarning", "ignore:Sparse")
def test_sparse_tensors_are_refused() -> None:
    dense, places = torch.eye(3, device=DEVICE), torch.zeros(2, 1, dtype=torch.int64, device=DEVICE)
    with pytest.raises(pt.TorchError, match="no sparse tensors"):
        dense.to_sparse()
    with pytest.raises(pt.TorchError, match=r"use dense ones \(\.to_dense\(\)\)"):
        torch.sparse_coo_tensor(places, torch.ones(1, device=DEVICE), (2, 2))


# --- Plans ------------------------------------------------------------------------------------


def mesh() -> Any:
    return Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))


def test_plans_that_make_no_sense_are_told() -> None:
    model = torch.nn.Linear(6, 3).to(DEVICE)
    with pytest.raises(pt.TorchError, match=r"'blocks\.\*' names no parameter of Linear; it has weight, bias"):
        pt.shard(model, mesh(), {"blocks.*": ("model",)})
    with pytest.raises(pt.TorchError, match="cut along 'tensor'; the mesh's axes are data, model"):
        pt.shard(model, mesh(), {"weight": ("tensor",)})
    with pytest.raises(pt.TorchError, match="fewer"):
        pt.shard(model, mesh(), {"bias": (None, "model")})
    with pytest.raises(pt.TorchError, match=r"is on cpu; move it with \.to\('polypath'\)"):
        pt.shard(torch.nn.Linear(2, 2), mesh(), {"*": ()})
    with pytest.raises(pt.TorchError, match="is for a module"):
        pt.shard(torch.ones(2, device=DEVICE), mesh(), {"*": ()})
    with pytest.raises(pt.TorchError, match="no axis 'rows'"):
        pt.fsdp(model, mesh(), "rows")
