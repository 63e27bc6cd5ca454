"""What torch's own sources ask of a device's module (`torch.cuda`, `torch.polypath`), by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

_MAKERS = {"_get_device_module", "get_device_module", "from_device", "_get_device_handle"}
"""Functions that give a device's module."""
_KNOWN = {"device_module", "device_mod", "device_handle", "custom_device_mod"}
"""Names that stand for a device's module wherever they are, beside those that were just assigned one."""
_NOT_OURS = ("testing", "_inductor", "cuda", "xpu", "mps", "mtia", "ao", "onnx", "_vendor", "include", "lib")
"""Tests, code that makes code for other devices, and the modules of other devices themselves."""


def asked_names(torch_folder: Path) -> dict[str, set[str]]:
    """By name, the files that ask for it."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in torch_folder.rglob("*.py"):
        inside = file.relative_to(torch_folder)
        if inside.parts[0] in _NOT_OURS:
            continue
        source = file.read_text()
        if any(
            word in source for word in (*_MAKERS, "getattr(torch,", "_get_custom_mod_func", "_get_device_attr", *_KNOWN)
        ):
            for name in _names_in(ast.parse(source)):
                found[name].add(str(inside))
    return dict(found)


def _names_in(tree: ast.AST) -> Iterator[str]:
    modules = set(_KNOWN)
    texts: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names = {name for target in node.targets if (name := _last_name(target))}
            if _is_module(node.value):
                modules |= names
            elif isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                texts |= dict.fromkeys(names, node.value.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (_last_name(node.value) in modules or _is_module(node.value)):
            yield node.attr
        elif isinstance(node, ast.Call):
            yield from _asked_in_call(node, modules, texts)


def _asked_in_call(node: ast.Call, modules: set[str], known: dict[str, str]) -> Iterator[str]:
    called = _last_name(node.func)
    texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    if called in ("getattr", "hasattr") and not texts:
        texts = [known[name] for arg in node.args[1:2] if (name := _last_name(arg)) in known]
    if called == "_get_custom_mod_func":
        yield from texts
    elif (
        called in ("getattr", "hasattr")
        and texts
        and len(node.args) > 1
        and (_last_name(node.args[0]) in modules or _is_module(node.args[0]))
    ):
        yield texts[0]
    elif called == "_get_device_attr":
        for inner in ast.walk(node.args[0]):
            if isinstance(inner, ast.Attribute) and _last_name(inner.value) == "m":
                yield inner.attr


def _is_module(value: ast.AST) -> bool:
    """Whether it is a call that gives a device's module: `getattr(torch, device.type)` or one of torch's own."""
    if isinstance(value, ast.IfExp):
        return _is_module(value.body) or _is_module(value.orelse)
    if not isinstance(value, ast.Call):
        return False
    called = _last_name(value.func)
    if called == "getattr" and len(value.args) >= 2:
        return _last_name(value.args[0]) == "torch" and _is_device(value.args[1])
    return called in _MAKERS


def _is_device(value: ast.AST) -> bool:
    text = ast.unparse(value)
    return any(word in text for word in ("device", "backend", "acc")) and not isinstance(value, ast.Constant)


def _last_name(value: ast.AST) -> str | None:
    """`device_module` of `self._device_module`."""
    if isinstance(value, ast.Name):
        return value.id.lstrip("_")
    return value.attr.lstrip("_") if isinstance(value, ast.Attribute) else None
