import re
import resource
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from polypath.cli import checks
from polypath.cli.checks import Finding


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def texts(findings: Iterable[Finding]) -> str:
    return "\n".join(f"{f.level} {f.subject}: {f.text} — {f.advice}" for f in findings)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that other versions are installed; None for not at all."""
    real = checks.installed_version

    def pretend(**others: str | None) -> None:
        named = {name.replace("_", "-"): version for name, version in others.items()}
        monkeypatch.setattr(
            checks, "installed_version", lambda name: named.get(name, real(name)) if name not in named else named[name]
        )

    return pretend


def test_this_machine_is_well() -> None:
    assert "problem" not in levels(checks.examine()), texts(checks.examine())


@pytest.mark.parametrize("version", ["0.8.3", "0.13.0", "1.0"])
def test_a_jax_outside_the_range(version: str, versions: Callable[..., None]) -> None:
    versions(jax=version, jaxlib=version)
    assert "problem jax: " + version + " is outside the supported range — pip install 'jax>=0.10.2,<0.13'" in texts(
        checks.check_packages()
    )


@pytest.mark.parametrize("version", ["0.9.1", "0.10.1"])
def test_a_jax_that_only_clients_may_have(version: str, versions: Callable[..., None]) -> None:
    versions(jax=version, jaxlib=version)
    found = texts(checks.check_packages())
    assert f"warning jax: {version} will do for clients of a cluster, not for its workers — where clusters" in found


def test_a_jaxlib_that_the_installed_jax_does_not_take(
    versions: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.fullmatch(r"<=[\d.]+,>=[\d.]+", checks.jaxlib_wanted())
    monkeypatch.setattr(checks, "jaxlib_wanted", lambda: "<=0.10.4,>=0.10.3")
    versions(jax="0.10.4", jaxlib="0.10.3")  # An older one, which that jax takes.
    assert levels(checks.check_packages()).count("problem") == 0
    versions(jax="0.10.4", jaxlib="0.10.2")
    assert "problem jaxlib: 0.10.2 does not go with jax 0.10.4 — pip install 'jaxlib<=0.10.4,>=0.10.3'" in texts(
        checks.check_packages()
    )


def test_a_package_that_is_missing(versions: Callable[..., None]) -> None:
    versions(pyzmq=None)
    assert "problem pyzmq: is not installed — pip install 'pyzmq>=27'" in texts(checks.check_packages())


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.sys, "version_info", (3, 10, 4, "final", 0))
    assert levels(checks.check_python()) == ["problem"]


@pytest.mark.parametrize(
    ("present", "plugin", "level", "advice"),
    [
        (False, None, "ok", ""),
        (True, None, "problem", "pip install 'jax[cuda13]==0.10.2'"),
        (True, "0.9.0", "problem", "pip install 'jax-cuda13-plugin==0.10.2'"),
        (True, "0.10.2", "ok", ""),
    ],
)
def test_a_gpu_that_jaxlib_cannot_see(
    *,
    present: bool,
    plugin: str | None,
    level: str,
    advice: str,
    versions: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions(jax="0.10.2", jaxlib="0.10.2", jax_cuda13_plugin=plugin, jax_cuda12_plugin=None)
    monkeypatch.setattr(checks.shutil, "which", lambda _: "/usr/bin/nvidia-smi" if present else None)
    findings = list(checks.check_gpu())
    assert levels(findings) == [level]
    assert findings[0].advice.startswith(advice)


def test_shared_memory_that_is_missing_or_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_SHARED_MEMORY_WANTED", 2**60)
    assert levels(checks.check_shared_memory()) == ["warning"]
    monkeypatch.setattr(checks, "_SHARED_MEMORY", tmp_path / "nothing")
    assert "is missing" in texts(checks.check_shared_memory())


def test_shared_memory_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    assert levels(checks.check_shared_memory()) == ["problem"]


def test_a_runtime_folder_that_is_not_private(runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    assert "problem runtime folder: Other users may enter" in texts(checks.check_runtime_dir())


def test_a_cache_that_is_not_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert levels(checks.check_cache()) == ["ok"]
    (tmp_path / "polypath").mkdir(mode=0o755)
    assert "warning compile cache: no compiled program is kept: Other users may enter" in texts(checks.check_cache())


def test_a_runtime_folder_too_long_for_sockets(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_RUNTIME_DIR", f"{runtime}-{'x' * 60}")
    assert levels(checks.check_runtime_dir()) == ["ok", "warning"]


def test_ports_that_cannot_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(checks.socket.socket, "bind", refuse)
    assert levels(checks.check_loopback()) == ["problem"]


def test_a_low_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _: (64, 64))
    found = texts(checks.check_files())
    assert "warning open files: a process may have no more than 64" in found
    assert "raise the hard limit to 65536" in found
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _: (64, resource.RLIM_INFINITY))
    assert "ok open files: a process may have 65536" in texts(checks.check_files())


def test_a_kernel_that_cannot_tell_whose_a_connection_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(checks.check_other_users()) == ["ok"]
    monkeypatch.setattr(checks.guard.platform, "machine", lambda: "abacus")
    assert "warning other users: who can log in to this machine can break programs" in texts(checks.check_other_users())


def test_encryption_is_not_asked_for_on_one_machine() -> None:
    assert "CURVE" not in texts(checks.examine())
