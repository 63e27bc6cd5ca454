"""The table: operators and what came of them, as a page and as lines in a terminal. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from polypath.torch.conformance.verdicts import Found, Variant, Verdict, worst

_FINE: Final = (Verdict.AGREE, Verdict.HOST)


class Setting(msgspec.Struct, frozen=True):
    """What was run on what."""

    command: str
    versions: dict[str, str]
    where: str
    samples: int


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found out."""

    setting: Setting
    operators: dict[str, dict[Variant, Found]]

    @property
    def counted(self) -> dict[str, Found]:
        """The operators that torch's CPU can do in float32, with what decides about each."""
        every = {name: worst(list(found.values())) for name, found in self.operators.items()}
        return {name: found for name, found in every.items() if found.verdict is not Verdict.ABSENT}

    @property
    def left_out(self) -> dict[str, str]:
        """The others, and why."""
        return {
            name: found[Variant.FORWARD].reason if Variant.FORWARD in found else ""
            for name, found in self.operators.items()
            if name not in self.counted
        }


def summary(report: Report) -> str:
    """The sums, in two sentences."""
    counts = Counter(found.verdict for found in report.counted.values())
    total = max(len(report.counted), 1)
    agree = sum(counts[one] for one in _FINE)
    others = ", ".join(f"{counts[one]} {_phrase(one)}" for one in Verdict if counts[one] and one not in _FINE)
    return (
        f"{agree} of {len(report.counted)} operators agree with torch's CPU ({100 * agree / total:.1f} %), "
        f"{counts[Verdict.HOST]} of them with the client's CPU for some part. "
        f"Others: {others or 'none'}; wrong: {counts[Verdict.WRONG]}."
    )


def _phrase(verdict: Verdict) -> str:
    return {Verdict.RAISES: "raise an error", Verdict.HUNG: "hang", Verdict.CRASHED: "crash"}.get(verdict, verdict)


def progress_line(name: str, variant: Variant, found: Found) -> str:
    """A result that somebody should look at."""
    return f"{name}, {variant}: {found.verdict}{': ' if found.reason else ''}{found.reason}"


def markdown(report: Report, tolerances: tuple[float, float]) -> str:
    """The page: how it was made, what does not agree and why, and every operator."""
    setting = report.setting
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    rtol, atol = tolerances
    lines = [
        "# PyTorch's operator tests",
        "",
        f"Every operator of PyTorch's test database (`op_db`, float32, at most {setting.samples} samples of each, "
        f"drawn evenly) on `polypath.torch.device()`, {setting.where}, beside torch's CPU. Compared are the structure "
        f"of the results, dtypes, shapes and values (relative {rtol:g} and absolute {atol:g} for float32; PyTorch "
        "compares CUDA with its CPU at 1e-3): of the forward pass, of the gradients, of the in-place variant on a "
        "view with gaps and of its base, and of the `out=` variant into such a view and of its base. What is random "
        "is compared as two samples of one distribution, and uninitialized memory by shape.",
        "",
        f"**{summary(report)}**",
        "",
        f"Made by `{setting.command}` with {versions}.",
        "",
        "`agree`; `host`: agrees, but some part ran on the client's CPU, as what has a result whose shape depends "
        "on data must; `raises`: the device refuses what torch's CPU does; `-`: there is no such variant, or "
        "torch's CPU refuses it too.",
        "",
        "## What does not agree",
        "",
    ]
    differing = [
        (name, variant, found)
        for name, variants in report.operators.items()
        for variant, found in variants.items()
        if found.verdict not in (Verdict.ABSENT, *_FINE)
    ]
    lines += [f"- `{name}`, {variant}, **{one.verdict}**: {_cell(one.reason)}" for name, variant, one in differing]
    lines += [] if differing else ["Nothing."]
    lines += ["", "## Operators", "", *_table(report.operators, report.counted)]
    lines += ["", "## Left out", "", "Operators that torch's CPU does not do in float32.", ""]
    lines += [f"- {_cell(why)}: {names}" for why, names in _by_reason(report.left_out).items()]
    return "\n".join(lines).rstrip() + "\n"


def _table(operators: Mapping[str, Mapping[Variant, Found]], wanted: Iterable[str]) -> list[str]:
    lines = [f"| operator | {' | '.join(Variant)} |", "| --- |" + " --- |" * len(Variant)]
    nothing = Found(Verdict.ABSENT)
    for name in sorted(wanted):
        cells = (operators[name].get(variant, nothing).verdict for variant in Variant)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _by_reason(left_out: Mapping[str, str]) -> dict[str, str]:
    reasons = sorted(set(left_out.values()))
    return {
        reason: ", ".join(f"`{name}`" for name in sorted(left_out) if left_out[name] == reason) for reason in reasons
    }


def _cell(text: str) -> str:
    """In a line, and without what differs from run to run."""
    return re.sub(r"0x[0-9a-f]+", "0x…", " ".join(text.split())).replace("|", "\\|").replace("`", "'")
