"""`polypath conformance` on test files of our own: one differs, and one takes a worker down."""

import json
from pathlib import Path

from cluster_tools import polypath

HEAD = """
import os, signal
from absl.testing import absltest
import jax
from jax._src import test_util as jtu

jax.config.parse_flags_with_absl()
jtu.request_cpu_devices(8)
HERE = os.environ["JAX_PLATFORMS"] == "proxy"


"""
TAIL = """

if __name__ == "__main__":
    absltest.main(testLoader=jtu.JaxTestLoader())
"""
KILLS = """
class KillsTest(jtu.JaxTestCase):
    def test_1_kills(self):
        jax.numpy.arange(3).block_until_ready()
        if HERE:
            from polypath.client.status import read_status
            status = read_status(os.environ["JAX_BACKEND_TARGET"])
            os.kill(status.controller.hosts[1].pid, signal.SIGKILL)
"""
RUNS = """
class RunsTest(jtu.JaxTestCase):
    def test_adds(self):
        self.assertLen(jax.devices(), 8)
        self.assertEqual(float(jax.numpy.ones(3).sum()), 3.0)

    def test_is_plain(self):
        self.assertFalse(HERE, "it is not")

    def test_plain_fails(self):
        self.assertTrue(HERE)
"""


def test_it_tells_differences_and_survives_its_tests(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "a_kills_test.py").write_text(HEAD + KILLS + TAIL)
    (folder / "b_runs_test.py").write_text(HEAD + RUNS + TAIL)
    out = tmp_path / "out.json"
    done = polypath(
        *("conformance", "--jax-tests", str(tmp_path), "--files", "*"),
        *("--json", str(out), "--markdown", str(tmp_path / "out.md"), "--logs", str(tmp_path / "logs")),
    )
    assert "2 of the 3 tests that pass on plain JAX pass here" in done.stdout
    assert "cannot be told" in done.stderr, "the tests' version"

    kills, runs = json.loads(out.read_text())["files"]
    (note,) = kills["notes"]
    assert note.startswith("the cluster lost a worker")
    assert list(tmp_path.glob("logs/conformance-*/worker-1.log")), "the logs of that cluster are kept"
    assert runs["notes"] == []
    outcomes = {pair["test"]: (pair["plain"], pair["here"], pair["reason"]) for pair in runs["pairs"]}
    assert outcomes["RunsTest.test_adds"] == ("passed", "passed", "")
    assert outcomes["RunsTest.test_is_plain"] == ("passed", "failed", "AssertionError: True is not false : it is not")
    assert outcomes["RunsTest.test_plain_fails"][:2] == ("failed", "passed")
    assert "b_runs_test::RunsTest.test_is_plain" in (tmp_path / "out.md").read_text()
