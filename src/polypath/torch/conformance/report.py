"""The tables: entries and what came of them, as a page and as lines in a terminal. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from polypath.torch.conformance.verdicts import VARIANTS, Found, Kind, Test, Variant, Verdict, worst

_FINE: Final = (Verdict.AGREE, Verdict.HOST)


class Setting(msgspec.Struct, frozen=True):
    """What was run on what."""

    command: str
    versions: dict[str, str]
    where: str
    samples: int


class Counted(msgspec.Struct, frozen=True):
    """What came of the entries of one database."""

    entries: dict[str, dict[Variant, Found]]

    @property
    def counted(self) -> dict[str, Found]:
        """The entries that torch's CPU can do in float32, with what decides about each."""
        every = {name: worst(list(found.values())) for name, found in self.entries.items()}
        return {name: found for name, found in every.items() if found.verdict is not Verdict.ABSENT}

    @property
    def left_out(self) -> dict[str, str]:
        """The others, and why."""
        counted = self.counted
        return {
            name: next((one.reason for one in found.values()), "")
            for name, found in self.entries.items()
            if name not in counted
        }


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found out."""

    setting: Setting
    results: dict[Kind, dict[str, dict[Variant, Found]]]


def summary(report: Report) -> str:
    """The sums, in two sentences for each database."""
    return "\n".join(_summary(kind, Counted(entries)) for kind, entries in report.results.items())


def _summary(kind: Kind, of: Counted) -> str:
    counts = Counter(found.verdict for found in of.counted.values())
    total = max(len(of.counted), 1)
    agree = sum(counts[one] for one in _FINE)
    others = ", ".join(f"{counts[one]} {_phrase(one)}" for one in Verdict if counts[one] and one not in _FINE)
    return (
        f"{agree} of {len(of.counted)} {kind} agree with torch's CPU ({100 * agree / total:.1f} %), "
        f"{counts[Verdict.HOST]} of them with the client's CPU for some part. "
        f"Others: {others or 'none'}; wrong: {counts[Verdict.WRONG]}."
    )


def _phrase(verdict: Verdict) -> str:
    return {Verdict.RAISES: "raise an error", Verdict.HUNG: "hang", Verdict.CRASHED: "crash"}.get(verdict, verdict)


def progress_line(test: Test, found: Found) -> str:
    """A result that somebody should look at."""
    return f"{test.name}, {test.variant}: {found.verdict}{': ' if found.reason else ''}{found.reason}"


_USED: Final = {
    Kind.OPERATORS: "Every operator of `op_db`, in float32. Compared are the results of the forward pass, the "
    "gradients, the in-place variant on a view with gaps and its base, and the `out=` variant into such a view and its "
    "base.",
    Kind.MODULES: "Every module of `module_db`, with the same parameters on both; where training differs from "
    "evaluation, in both. Compared are the results and the buffers of a forward pass in float32; the gradients of "
    "inputs and parameters; both again in float64, and the results in bfloat16; the state after it was saved on the "
    "device and loaded on the CPU, with the results of a module that loaded it on the device; and forward and backward "
    'of the module under `torch.compile(backend="polypath")`.',
    Kind.OPTIMIZERS: "Every configuration of every optimizer of `optim_db`, also with the flags that torch offers on "
    "accelerators (`foreach`, `fused`, `differentiable`, `capturable`, a learning rate as a tensor). Compared are the "
    "losses, the parameters and the optimizer's state: after three steps; after two steps on the device, two on the "
    "CPU and two on the device again, with the state saved and loaded in between; and after three steps under "
    '`torch.compile(backend="polypath")`, each of forward, backward and the optimizer.',
}


def markdown(report: Report, tolerances: tuple[float, float]) -> str:
    """The page: how it was made, what does not agree and why, and every entry."""
    setting = report.setting
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    rtol, atol = tolerances
    lines = [
        f"# PyTorch's own tests of {_listed(list(report.results))}",
        "",
        f"The entries of PyTorch's test databases on `polypath.torch.device()`, {setting.where}, beside torch's CPU: "
        f"at most {setting.samples} samples of each, drawn evenly. Results must have the same structure, dtypes, "
        f"shapes and values (relative {rtol:g} and absolute {atol:g} for float32; PyTorch compares CUDA with its CPU "
        "at 1e-3). What is random is compared as two samples of one distribution, and uninitialized memory by shape.",
        "",
        f"Made by `{setting.command}` with {versions}.",
        "",
        "`agree`; `host`: agrees, but some part ran on the client's CPU, as what has a result whose shape depends "
        "on data must; `raises`: the device refuses what torch's CPU does; `-`: there is no such variant, or "
        "torch's CPU refuses it too, or Dynamo compiles nothing of it (it leaves recurrent networks out).",
    ]
    for kind, entries in report.results.items():
        lines += ["", f"## {kind.capitalize()}", "", _USED[kind], "", *_section(kind, Counted(entries))]
    return "\n".join(lines).rstrip() + "\n"


def _section(kind: Kind, of: Counted) -> list[str]:
    lines = [f"**{_summary(kind, of)}**", ""]
    differing = [
        (name, variant, found)
        for name, variants in of.entries.items()
        for variant, found in variants.items()
        if found.verdict not in (Verdict.ABSENT, *_FINE)
    ]
    lines += ["What does not agree:" if differing else "Nothing differs.", ""]
    lines += [f"- `{name}`, {variant}, **{one.verdict}**: {_cell(one.reason)}" for name, variant, one in differing]
    lines += ["", *_table(kind, of)]
    if of.left_out:
        lines += ["", "Left out, as torch's CPU does not do them in float32:", ""]
        lines += [f"- {_cell(why)}: {names}" for why, names in _by_reason(of.left_out).items()]
    return lines


def _table(kind: Kind, of: Counted) -> list[str]:
    lines = [f"| {kind} | {' | '.join(VARIANTS[kind])} |", "| --- |" + " --- |" * len(VARIANTS[kind])]
    nothing = Found(Verdict.ABSENT)
    for name in sorted(of.counted):
        cells = (of.entries[name].get(variant, nothing).verdict for variant in VARIANTS[kind])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _listed(kinds: list[Kind]) -> str:
    return " and ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


def _by_reason(left_out: Mapping[str, str]) -> dict[str, str]:
    reasons = sorted(set(left_out.values()))
    return {
        reason: ", ".join(f"`{name}`" for name in sorted(left_out) if left_out[name] == reason) for reason in reasons
    }


def _cell(text: str) -> str:
    """In a line, and without what differs from run to run."""
    return re.sub(r"0x[0-9a-f]+", "0x…", " ".join(text.split())).replace("|", "\\|").replace("`", "'")
