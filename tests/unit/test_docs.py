"""The documents name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import polypath
from polypath.controller.state import TRANSITIONS, HostState

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(
        ROOT / "docs" / name
        for name in ("architecture.md", "gpu.md", "patches.md", "security.md", "torch.md", "torch-data.md")
    ),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    named = {name for name in re.findall(r"`([\w./-]+\.(?:py|proto|toml|lock))`", text) if "your_script" not in name}
    links = {name for name in re.findall(r"\]\(([\w./-]+)\)", text) if not name.startswith("http")}
    missing = [
        name for name in named if not any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "polypath"))
    ]
    missing += [name for name in links if not (document.parent / name).exists()]
    assert named or links
    assert not missing


def test_the_public_api_is_what_it_says() -> None:
    assert all(hasattr(polypath, name) for name in polypath.__all__)
    assert sorted(polypath.__all__) == polypath.__all__


def test_every_state_of_a_host_can_be_reached_and_only_down_is_final() -> None:
    reached = {HostState.STARTING} | {state for following in TRANSITIONS.values() for state in following}
    assert reached == set(HostState)
    assert [state for state, following in TRANSITIONS.items() if not following] == [HostState.DOWN]
