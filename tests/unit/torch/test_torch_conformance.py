"""torch's own tests: a choice of their entries on plain JAX, and what becomes of their results."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="torch's own tests need expecttest, which is not installed")

from polypath.conformance.events import Outcome
from polypath.conformance.process import TestRun
from polypath.errors import ClusterError
from polypath.torch.conformance.report import Report, Setting, markdown, summary
from polypath.torch.conformance.runner import Plan, Results, run
from polypath.torch.conformance.verdicts import VARIANTS, Found, Kind, Test, Variant, Verdict, heard, told

OPERATORS = [
    "add",
    "sub",
    "mul",
    "div.floor_rounding",
    "remainder",
    "pow",
    "clamp",
    "where",
    "masked_fill",
    "sum",
    "mean",
    "var",
    "amax",
    "argmax",
    "cumsum",
    "sort",
    "topk",
    "cat",
    "expand",
    "permute",
    "diagonal_copy",
    "index_select",
    "gather",
    "scatter_add",
    "index_put",
    "index_add",
    "tril",
    "addmm",
    "bmm",
    "nn.functional.linear",
    "nn.functional.conv2d",
    "nn.functional.conv_transpose2d",
    "nn.functional.max_pool2d",
    "nn.functional.layer_norm",
    "nn.functional.batch_norm",
    "nn.functional.gelu",
    "nn.functional.embedding",
    "nn.functional.cross_entropy",
    "nn.functional.dropout",
    "softmax",
    "log_softmax",
    "linalg.solve",
    "linalg.cholesky",
    "normal",
    "uniform",
    "empty",
    "masked_select",
]


MODULES = [
    "nn.BatchNorm1d",
    "nn.Conv2d",
    "nn.CrossEntropyLoss",
    "nn.Embedding",
    "nn.GRUCell",
    "nn.LSTM",
    "nn.LazyConv1d",
    "nn.MultiLabelMarginLoss",
]
OPTIMIZERS = ["optim.AdamW", "optim.SGD"]


def differing(results: Results) -> dict[Test, Found]:
    fine = (Verdict.AGREE, Verdict.HOST, Verdict.ABSENT)
    return {
        Test(kind, name, variant): found
        for kind, entries in results.items()
        for name, variants in entries.items()
        for variant, found in variants.items()
        if found.verdict not in fine
    }


@pytest.mark.slow
def test_a_choice_of_operators_agrees_with_torchs_cpu(tmp_path: Path) -> None:
    results = run(Plan(tmp_path, samples=2, plain=True), [Kind.OPERATORS], OPERATORS, lambda *_: None)
    assert set(results[Kind.OPERATORS]) == set(OPERATORS)
    assert not differing(results)
    assert results[Kind.OPERATORS]["masked_select"][Variant.FORWARD].verdict is Verdict.HOST
    assert results[Kind.OPERATORS]["add"][Variant.BACKWARD].verdict is Verdict.AGREE


@pytest.mark.slow
def test_a_choice_of_modules_and_optimizers_agrees_with_torchs_cpu(tmp_path: Path) -> None:
    plan = Plan(tmp_path, samples=1, plain=True)
    results = run(plan, [Kind.MODULES, Kind.OPTIMIZERS], MODULES + OPTIMIZERS, lambda *_: None)
    assert set(results[Kind.MODULES]) == set(MODULES)
    assert set(results[Kind.OPTIMIZERS]) == set(OPTIMIZERS)
    assert not differing(results)
    assert all(results[Kind.MODULES][name].keys() == set(VARIANTS[Kind.MODULES]) for name in MODULES)
    absent = {
        (name, variant): found.reason
        for entries in results.values()
        for name, variants in entries.items()
        for variant, found in variants.items()
        if found.verdict is Verdict.ABSENT
    }
    assert absent == {("nn.LSTM", Variant.COMPILED): "Dynamo leaves it out"}


def test_a_name_that_torch_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no nonsense"):
        run(Plan(tmp_path, samples=1, plain=True), list(Kind), ["nonsense"], lambda *_: None)


@pytest.mark.parametrize("kind", Kind)
def test_a_test_passes_between_processes(kind: Kind) -> None:
    test = Test(kind, "nn.functional.scaled:dot", Variant.STATE)
    assert Test.of(str(test)) == test


@pytest.mark.parametrize("verdict", [one for one in Verdict if one not in (Verdict.CRASHED, Verdict.HUNG)])
def test_a_verdict_passes_between_processes(verdict: Verdict) -> None:
    outcome, reason = told(Found(verdict, "because: of that"))
    assert heard(TestRun(outcome, reason)) == Found(verdict, "because: of that")


def test_a_crash_and_a_hang_are_verdicts() -> None:
    assert heard(TestRun(Outcome.CRASHED, "crashed with SIGSEGV")).verdict is Verdict.CRASHED
    assert heard(TestRun(Outcome.HUNG, "hung")).verdict is Verdict.HUNG


def test_the_worst_variant_decides_about_an_entry() -> None:
    agree, absent = Found(Verdict.AGREE), Found(Verdict.ABSENT, "it takes no float32")
    operators = {
        "add": dict.fromkeys(VARIANTS[Kind.OPERATORS], agree),
        "mask": {Variant.FORWARD: Found(Verdict.HOST), Variant.OUT: agree},
        "bad": {Variant.FORWARD: agree, Variant.OUT: Found(Verdict.WRONG, "1 | 2")},
        "bits": {Variant.FORWARD: absent},
    }
    modules = {"nn.Linear": dict.fromkeys(VARIANTS[Kind.MODULES], agree)}
    setting = Setting("polypath torch-conformance", {"torch": "2.13.0"}, "here", 4)
    report = Report(setting, {Kind.OPERATORS: operators, Kind.MODULES: modules})
    first, second = summary(report).splitlines()
    assert first.startswith("2 of 3 operators agree with torch's CPU (66.7 %), 1 of them")
    assert first.endswith("wrong: 1.")
    assert second.startswith("1 of 1 modules agree")
    page = markdown(report, (1e-4, 1e-5))
    assert page.startswith("# PyTorch's own tests of operators and modules\n")
    assert "- `bad`, out=, **wrong**: 1 \\| 2" in page
    assert "| add | agree | agree | agree | agree |" in page
    assert "| nn.Linear | agree | agree | agree | agree | agree |" in page
    assert "- it takes no float32: `bits`" in page


def test_a_gradient_that_differs_is_seen() -> None:
    import torch

    import polypath.torch
    from polypath.torch.conformance import compare

    def use(device: torch.device) -> list[torch.Tensor]:
        x = torch.ones(3, device=device, requires_grad=True)
        scale = 1.0 if device.type == "cpu" else 1.001
        return compare.gradients(x * scale, x, device)

    case = compare.Case(use, lambda: use(torch.device("cpu")))
    found = compare.check([case], polypath.torch.device(), 1, [])
    assert found.verdict is Verdict.WRONG
    assert "Tensor-likes are not close" in found.reason
