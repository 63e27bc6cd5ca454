"""Indices that are out of range: raised when a value is read, where torch's CPU raises at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import polypath.torch as pt  # noqa: E402
from polypath.torch.bounds import MOST_PENDING  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

F = torch.nn.functional
DEVICE = pt.device()
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method", "ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore:index_reduce"),
]

USES: dict[str, Callable[[Any, Any], Any]] = {
    "index": lambda x, at: x[at],
    "index of the second": lambda x, at: x.t()[:, at],
    "index_put": lambda x, at: x.index_put((at,), torch.ones(3, device=x.device)),
    "assignment": lambda x, at: (x := x.clone()).__setitem__(at, 1.0) or x,
    "index_select": lambda x, at: x.index_select(0, at),
    "index_add": lambda x, at: x.index_add(0, at, x[:2]),
    "index_copy": lambda x, at: x.index_copy(0, at, x[:2]),
    "index_fill": lambda x, at: x.index_fill(0, at, 1.0),
    "index_reduce": lambda x, at: x.index_reduce(0, at, x[:2], "amax"),
    "gather": lambda x, at: x.gather(0, at[:, None]),
    "scatter": lambda x, at: x.scatter(0, at[:, None], x[:2]),
    "scatter of a number": lambda x, at: x.scatter(0, at[:, None], 1.0),
    "scatter_add": lambda x, at: x.scatter_add(0, at[:, None], x[:2]),
    "scatter_reduce": lambda x, at: x.scatter_reduce(0, at[:, None], x[:2], "sum"),
    "take": lambda x, at: x[:, 0].take(at),
    "put": lambda x, at: x[:, 0].put(at, torch.ones(2, device=x.device)),
    "embedding": lambda x, at: F.embedding(at, x),
    "embedding_bag": lambda x, at: F.embedding_bag(at[None], x),
    "one_hot": lambda x, at: F.one_hot(at, 4),
    "cross_entropy": lambda x, at: F.cross_entropy(x.t()[:2], at),
    "nll_loss": lambda x, at: F.nll_loss(x.t()[:2], at),
    "nll_loss of images": lambda x, at: F.nll_loss(x.t()[:2, :, None, None], at[:, None, None]),
    "multi_margin_loss": lambda x, at: F.multi_margin_loss(x.t()[:2], at),
    "max_unpool2d": lambda x, at: F.max_unpool2d(
        x[None, None, :2, :1], at[None, None, :, None], (2, 1), (2, 1), (0, 0), (4, 1)
    ),
}
"""Each of 4 rows of 3, by two indices."""


@pytest.fixture(autouse=True)
def none_left() -> Any:
    yield
    trace.check_bounds()


@pytest.mark.parametrize("name", USES)
def test_an_index_out_of_range_is_told_when_a_value_is_read(name: str) -> None:
    x = torch.arange(12.0).reshape(4, 3)
    use, there = USES[name], x.to(DEVICE)
    inside = torch.tensor([3, 0])
    want, got = use(x.clone(), inside), use(there, inside.to(DEVICE))
    torch.testing.assert_close(got.cpu(), want)
    trace.flush()
    trace.check_bounds()
    for outside in (4, -5):
        at = torch.tensor([0, outside])
        with pytest.raises((IndexError, RuntimeError)):
            use(x.clone(), at)
        other = torch.ones(1, device=DEVICE)
        kept = use(there, at.to(DEVICE))
        trace.flush()
        with pytest.raises(IndexError, match=f"given the index {outside}, which is out of range for size 4"):
            (other + 1).cpu()
        assert (other + 1).item() == 2  # Told once.
        del kept


def test_what_may_be_there_is_not_out_of_range() -> None:
    x = torch.arange(12.0, device=DEVICE).reshape(4, 3)
    assert x[torch.tensor([-1, -4], device=DEVICE)][:, 0].tolist() == [9, 0]
    assert x[torch.tensor([True, False, False, True], device=DEVICE)].shape == (2, 3)
    ignored = torch.tensor([-100, 1], device=DEVICE)
    assert F.cross_entropy(x[:2], ignored).isfinite().item()
    assert F.embedding(torch.zeros(0, dtype=torch.int64, device=DEVICE), x).shape == (0, 3)


def test_an_index_that_is_known_is_refused_at_its_line() -> None:
    x = torch.arange(12.0, device=DEVICE).reshape(4, 3)
    for use in (
        lambda: x[4],
        lambda: x[torch.tensor(-5)],
        lambda: x.select_scatter(x[0], 0, 4),
        lambda: x.narrow(0, 3, 2),
    ):
        with pytest.raises((IndexError, RuntimeError)):
            use()
    assert x[torch.tensor([2, -1])][:, 0].tolist() == [6, 9]  # An index on the CPU.


def test_a_compiled_function_is_told_with_its_line() -> None:
    model = torch.nn.Embedding(4, 3).to(DEVICE)

    @torch.compile(backend="polypath")
    def step(at: Any) -> Any:
        loss = model(at).sum()
        loss.backward()
        return loss

    assert step(torch.tensor([3, 0], device=DEVICE)).isfinite().item()
    with pytest.raises(pt.IndexRangeError, match=r"embedding \(called at .*model\(at\).* index 7,.* size 4"):
        step(torch.tensor([3, 7], device=DEVICE)).item()


def test_who_never_reads_is_told_too() -> None:
    x = torch.arange(4.0, device=DEVICE)
    at = torch.tensor([9], device=DEVICE)
    with pytest.raises(pt.IndexRangeError):  # noqa: PT012 - it is told some time.
        for _ in range(2 * MOST_PENDING):
            x = x + x[at]
            trace.flush()
    assert x.isnan().all().item()  # Told once.


def test_who_waits_is_told() -> None:
    x = torch.arange(4.0, device=DEVICE)
    y = x[torch.tensor([5], device=DEVICE)]
    with pytest.raises(pt.IndexRangeError, match="index 5"):
        torch.accelerator.synchronize()
    assert y.isnan().item()
