"""What a user is told of lines that break a compiled function: those that cost, once, and no others."""

from __future__ import annotations

import _json
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

import polypath.torch as pt  # noqa: E402
from polypath.torch.trace import trace  # noqa: E402

DEVICE = pt.device()
# What torch says of itself while it compiles.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method", "ignore::UserWarning:torch")


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    torch.compiler.reset()
    return torch.compile(function, backend="polypath", **options)


def read_an_item(x: Any) -> Any:
    y = x + 1
    return y * y.sum().item()


def ask_an_item(x: Any) -> Any:
    if (x + 1).sum().item() > 3:
        return x * 6
    return x


def ask_a_tensor(x: Any) -> Any:
    y = x + 1
    if y.sum() > 3:
        return y * 3
    return y


def print_a_tensor(x: Any) -> Any:
    y = x + 1
    print(y)
    return y * 3


def list_values(x: Any) -> Any:
    y = x + 1
    return y * sum(y.tolist())


def choose_by_data(x: Any) -> Any:
    y = x + 1
    return y * y[y > 0].sum()


def read_in_a_loop(x: Any) -> Any:
    for _ in range(2):
        x = x * x.sum().item()
    return x


LINES = {
    read_an_item: "return y * y.sum().item()",
    ask_an_item: "if (x + 1).sum().item() > 3:",
    ask_a_tensor: "if y.sum() > 3:",
    print_a_tensor: "print(y)",
    list_values: "return y * sum(y.tolist())",
    choose_by_data: "return y * y[y > 0].sum()",
    read_in_a_loop: "x = x * x.sum().item()",
}


@pytest.mark.parametrize("function", LINES, ids=lambda function: function.__name__)
def test_a_line_that_reads_a_value_is_told_once(function: Callable[[Any], Any]) -> None:
    f, x = compiled(function), torch.ones(3, device=DEVICE)
    want = function(torch.ones(3)).tolist()
    with pytest.warns(pt.GraphBreakWarning, match=r"by aten\.\w+.*every call waits.*torch\.where") as told:
        assert f(x).tolist() == want
    ours = [one for one in told if one.category is pt.GraphBreakWarning]
    assert [(one.filename, str(one.message).partition(" reads a value")[0]) for one in ours] == [
        (__file__, f"`{LINES[function]}` (line {ours[0].lineno} of test_breaks.py)")
    ]
    assert f(x).tolist() == want


def test_a_step_that_reads_its_loss_is_told() -> None:
    model = torch.nn.Linear(2, 1).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.ones(3, 2, device=DEVICE)

    def step() -> float:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    with pytest.warns(pt.GraphBreakWarning, match=r"`return loss\.item\(\)` .* reads a value"):
        compiled(step)()


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin:UserWarning")
def test_a_break_between_two_programs_is_told_with_its_cause() -> None:
    def known(x: Any) -> Any:
        y = x + 1
        print("broken")
        return y * 2

    def foreign(x: Any) -> Any:
        y = x + 1
        _json.encode_basestring_ascii("broken")
        return y * 2

    x = torch.ones(3, device=DEVICE)
    with pytest.warns(
        pt.GraphBreakWarning, match=r'`print\("broken"\)` \(line .*builtin operator `print`.*move it out'
    ):
        compiled(known)(x)
    with pytest.warns(pt.GraphBreakWarning, match=r"breaks the graph .* `_json\.encode_basestring_ascii`\): without"):
        compiled(foreign)(x)


def test_what_costs_nothing_is_not_told() -> None:
    model = torch.nn.Linear(2, 1).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    x = torch.ones(3, 2, device=DEVICE)

    @torch.compiler.disable
    def look(loss: Any) -> None:
        assert loss.item() > 0

    def step() -> Any:
        optimizer.zero_grad(set_to_none=False)
        loss = model(x).square().mean()
        print("it costs no program")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
        return loss.detach()

    def asked_for(x: Any) -> Any:
        y = x + 1
        torch._dynamo.graph_break()
        y = y * 2
        look(y.sum())
        return y + 1

    with warnings.catch_warnings():
        warnings.simplefilter("error", pt.GraphBreakWarning)
        f = compiled(step)
        losses = [f().item() for _ in range(3)]
        assert losses[2] < losses[0]
        assert compiled(asked_for)(x).sum().item() == 30


def test_a_whole_graph_is_refused_with_the_line_or_is_one() -> None:
    x = torch.ones(3, device=DEVICE)
    for function in (print_a_tensor, ask_a_tensor, ask_an_item):
        with pytest.raises(Exception, match=r"test_breaks\.py") as error:
            compiled(function, fullgraph=True)(x)
        assert f"in {function.__name__}\n    {LINES[function]}" in str(error.value)
    f = compiled(read_an_item, fullgraph=True)
    f(x)
    runs = trace.runs
    assert f(x).tolist() == [12, 12, 12]
    assert trace.runs == runs + 1


def test_a_number_that_no_program_can_give_is_told_with_its_line() -> None:
    def last(x: Any) -> Any:
        return x.sum().item()

    told = r"aten\._local_scalar_dense\.default \(called at .*: `return x\.sum\(\)\.item\(\)`\) gives Python a number"
    with pytest.raises(Exception, match=told):
        compiled(last, fullgraph=True)(torch.ones(3, device=DEVICE))
