"""A report as a page of documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polypath.conformance.explained import Explanation
from polypath.conformance.report import Group, Report, general, grouped
from polypath.conformance.view import summary


def markdown(report: Report, explanations: Sequence[Explanation]) -> str:
    """The page: how it was made, the files, and each difference under what explains it."""
    setting = report.setting
    groups = grouped(report.differences, list(explanations))
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    lines = [
        "# Conformance",
        "",
        f"JAX's own tests on a cluster of {setting.hosts} hosts × {setting.devices_per_host} CPU devices, beside plain "
        f"JAX with {setting.hosts * setting.devices_per_host} virtual CPU devices. A test counts if it passes on plain "
        "JAX. Each file is one process; a crash or a hang counts as failed for the rest of its file.",
        "",
        f"**{summary(report)}**",
        "",
        f"Made by `{setting.command}` with {versions}.",
        "",
        "| file | here | plain | |",
        "| --- | ---: | ---: | --- |",
    ]
    for file in report.files:
        lines.append(f"| {_cell(file.file)} | {file.passed} | {file.counted} | {_cell(_general(file.notes))} |")
    lines += ["", "## Differences", ""]
    if not groups:
        lines.append("None.")
    for kind in sorted({group.explanation.kind for group in groups if group.explanation}):
        lines += [f"### {kind.heading}", ""]
        for group in groups:
            if group.explanation and group.explanation.kind is kind:
                lines += _group(group.explanation.why, group)
    unexplained = [group for group in groups if group.explanation is None]
    if unexplained:
        lines += ["### Not explained yet", ""]
    for group in unexplained:
        lines += _group(f"`{_code(general(group.reason))}`", group)
    return "\n".join(lines).rstrip() + "\n"


def _group(title: str, group: Group) -> list[str]:
    return [title, "", *(f"- `{pair.name}`" for pair in group.pairs), ""]


def _general(notes: Sequence[str]) -> str:
    return "; ".join(re.sub(r"; the logs are in \S+", "", general(note)) for note in notes)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    return text.replace("`", "'")
