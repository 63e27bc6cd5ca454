"""The operator tests of torch: a choice of them on plain JAX, and what becomes of their results."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="torch's own tests need expecttest, which is not installed")

from polypath.conformance.events import Outcome
from polypath.conformance.process import TestRun
from polypath.errors import ClusterError
from polypath.torch.conformance.report import Report, Setting, markdown, summary
from polypath.torch.conformance.runner import Plan, run
from polypath.torch.conformance.verdicts import Found, Variant, Verdict, heard, told

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


@pytest.mark.slow
def test_a_choice_of_operators_agrees_with_torchs_cpu(tmp_path: Path) -> None:
    results = run(Plan(tmp_path, samples=2, plain=True), OPERATORS, lambda *_: None)
    assert set(results) == set(OPERATORS)
    fine = (Verdict.AGREE, Verdict.HOST, Verdict.ABSENT)
    differing = {
        (name, variant): found
        for name, variants in results.items()
        for variant, found in variants.items()
        if found.verdict not in fine
    }
    assert not differing
    assert results["masked_select"][Variant.FORWARD].verdict is Verdict.HOST
    assert results["add"][Variant.BACKWARD].verdict is Verdict.AGREE


def test_a_name_that_torch_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no nonsense"):
        run(Plan(tmp_path, samples=1, plain=True), ["nonsense"], lambda *_: None)


@pytest.mark.parametrize("verdict", [one for one in Verdict if one not in (Verdict.CRASHED, Verdict.HUNG)])
def test_a_verdict_passes_between_processes(verdict: Verdict) -> None:
    outcome, reason = told(Found(verdict, "because: of that"))
    assert heard(TestRun(outcome, reason)) == Found(verdict, "because: of that")


def test_a_crash_and_a_hang_are_verdicts() -> None:
    assert heard(TestRun(Outcome.CRASHED, "crashed with SIGSEGV")).verdict is Verdict.CRASHED
    assert heard(TestRun(Outcome.HUNG, "hung")).verdict is Verdict.HUNG


def test_the_worst_variant_decides_about_an_operator() -> None:
    agree, absent = Found(Verdict.AGREE), Found(Verdict.ABSENT, "it takes no float32")
    report = Report(
        Setting("polypath torch-conformance", {"torch": "2.13.0"}, "here", 4),
        {
            "add": dict.fromkeys(Variant, agree),
            "mask": {Variant.FORWARD: Found(Verdict.HOST), Variant.OUT: agree},
            "bad": {Variant.FORWARD: agree, Variant.OUT: Found(Verdict.WRONG, "1 | 2")},
            "bits": {Variant.FORWARD: absent},
        },
    )
    assert summary(report).startswith("2 of 3 operators agree with torch's CPU (66.7 %), 1 of them")
    assert summary(report).endswith("wrong: 1.")
    page = markdown(report, (1e-4, 1e-5))
    assert "- `bad`, out=, **wrong**: 1 \\| 2" in page
    assert "| add | agree | agree | agree | agree |" in page
    assert "- it takes no float32: `bits`" in page
