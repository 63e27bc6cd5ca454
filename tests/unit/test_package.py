"""What the package brings beside code: its license, its types, and the table of its variables."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [path for path in (ROOT / "src" / "polypath").rglob("*.py") if "wire" not in path.parts]

# Names of variables begin so; `FINAL` alone would be any constant in capitals.
VARIABLE = re.compile(r"(POLYPATH|JAX|XLA|IFRT|XDG|TF|GLIBC|NCCL|PYTHON|CUDA|TPU|TORCH|TEST)[A-Z0-9]*(_[A-Z0-9]+)*_?")
ACCESS = re.compile(r"\benviron(?:\.get|\.setdefault|\.pop)?[(\[]\s*(\"?)(\w+)\1\s*[,)\]]")


def constants(text: str) -> Iterator[str]:
    """Every string in a program that could be a variable's name."""
    nodes = list(ast.walk(ast.parse(text)))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in parts:
            continue  # Only a part of a text.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
            yield node.value


def test_the_table_of_variables_has_those_of_the_code() -> None:
    document = (ROOT / "docs" / "environment.md").read_text()
    told = {name.rstrip("*") for name in re.findall(r"`([A-Z][A-Z0-9_]+\*?)`", document)}
    texts = [path.read_text() for path in SOURCES]
    assert told == {name for text in texts for name in constants(text)}

    # And nothing is read under a name that does not look like those.
    values = dict(re.findall(r"^(\w+)(?:: Final)? = \"(\w+)\"$", "\n".join(texts), re.MULTILINE))
    accessed = {values.get(name, name) for text in texts for _, name in ACCESS.findall(text)}
    read = {name for name in accessed if not name.islower()}  # a loop over constants, which are looked at above
    assert "POLYPATH_RUNTIME_DIR" in read
    assert read <= told


def test_the_longest_folder_is_what_the_table_says() -> None:
    from polypath.launch import runtime_dir

    most = runtime_dir.PATH_LIMIT - len("/") - runtime_dir.LONGEST_NAME
    assert f"of at most {most} bytes" in (ROOT / "docs" / "environment.md").read_text()


def test_the_license_and_the_types_come_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    license_ = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in license_
    assert "END OF TERMS AND CONDITIONS" in license_
    assert (ROOT / "src" / "polypath" / "py.typed").exists()
    assert "Typing :: Typed" in project["classifiers"]
