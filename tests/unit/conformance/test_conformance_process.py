"""A test file in a process of its own: what its parent hears, also when it crashes or hangs."""

import textwrap
import threading
from pathlib import Path

import pytest

from polypath.conformance.environment import clean_environment, plain_environment
from polypath.conformance.events import Outcome
from polypath.conformance.process import FileRun, Limits, Stopped, run_file

HEAD = """
import os, signal, sys, threading, unittest
from absl.testing import absltest

"""
TAIL = """

if __name__ == "__main__":
    absltest.main()
"""
HANG = Limits(file=60, test=3)


def run(folder: Path, body: str, tests: list[str] | None = None, limits: Limits = HANG) -> FileRun:
    path = folder / "some_test.py"
    path.write_text(HEAD + textwrap.dedent(body) + TAIL)
    return run_file(path, tests, clean_environment(), limits, folder / "logs" / "some.log")


def outcomes(file: FileRun) -> dict[str, tuple[Outcome, str]]:
    return {test: (one.outcome, one.reason) for test, one in file.tests.items()}


def test_every_outcome_has_its_reason(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        class Some(absltest.TestCase):
            def test_1_passes(self):
                self.assertEqual(__name__, "__main__")
            def test_2_fails(self):
                self.assertEqual(1, 2, "\\nnot\\nat all")
            def test_3_raises(self):
                raise ValueError("bad\\nvery")
            def test_4_skips(self):
                self.skipTest("not here")
            @unittest.expectedFailure
            def test_5_expected(self):
                self.fail()
            @unittest.expectedFailure
            def test_6_unexpected(self):
                pass
            def test_7_subtests(self):
                with self.subTest("one"):
                    self.fail("of one")
                with self.subTest("two"):
                    pass
        """,
    )
    assert outcomes(file) == {
        "Some.test_1_passes": (Outcome.PASSED, ""),
        "Some.test_2_fails": (Outcome.FAILED, "AssertionError: 1 != 2 :"),
        "Some.test_3_raises": (Outcome.FAILED, "ValueError: bad"),
        "Some.test_4_skips": (Outcome.SKIPPED, "not here"),
        "Some.test_5_expected": (Outcome.PASSED, ""),
        "Some.test_6_unexpected": (Outcome.FAILED, "it was expected to fail"),
        "Some.test_7_subtests": (Outcome.FAILED, "AssertionError: of one"),
    }
    assert (file.note, file.died) == ("", False)
    assert "very" in (tmp_path / "logs" / "some.log").read_text(), "tracebacks are in the log"


def test_a_crash_is_its_tests_and_ends_the_file(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        class Some(absltest.TestCase):
            def test_1(self): pass
            def test_2(self): os.kill(os.getpid(), signal.SIGABRT)
            def test_3(self): pass
        """,
    )
    assert [one.outcome for one in file.tests.values()] == [Outcome.PASSED, Outcome.CRASHED, Outcome.NOT_RUN]
    assert file.died
    assert file.tests["Some.test_2"].reason.startswith("crashed with SIGABRT")
    assert "not run: Some.test_2 had crashed with SIGABRT" in file.tests["Some.test_3"].reason


def test_an_exit_is_a_crash(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        class Some(absltest.TestCase):
            def test_1(self): os._exit(7)
        """,
    )
    assert outcomes(file) == {"Some.test_1": (Outcome.CRASHED, "exited with status 7")}


def test_a_hang_is_ended_with_its_stacks(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        class Some(absltest.TestCase):
            def test_1(self):
                self.hangs_here()
            def test_2(self): pass
            def hangs_here(self):
                threading.Event().wait()
        """,
    )
    assert [one.outcome for one in file.tests.values()] == [Outcome.HUNG, Outcome.NOT_RUN]
    assert file.note == "Some.test_1 hung: no answer for 3 s"
    assert "hangs_here" in (tmp_path / "logs" / "some.log").read_text()


def test_the_files_time_is_bounded_too(tmp_path: Path) -> None:
    body = """
        class Some(absltest.TestCase):
            def test_1(self):
                threading.Event().wait()
        """
    file = run(tmp_path, body, limits=Limits(file=2, test=60))
    assert outcomes(file) == {"Some.test_1": (Outcome.HUNG, "hung: the file's 2 s were over")}


def test_a_crash_after_the_last_test_costs_no_test(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        import atexit
        class Some(absltest.TestCase):
            def test_1(self):
                atexit.register(os.abort)
        """,
    )
    assert outcomes(file) == {"Some.test_1": (Outcome.PASSED, "")}
    assert "crashed with SIGABRT" in file.note
    assert "after its last test" in file.note


def test_only_those_that_are_wanted_run(tmp_path: Path) -> None:
    body = """
        class Some(absltest.TestCase):
            def test_1(self): self.fail()
            def test_2(self): pass
        """
    file = run(tmp_path, body, ["Some.test_2", "Some.test_9"])
    assert outcomes(file) == {
        "Some.test_2": (Outcome.PASSED, ""),
        "Some.test_9": (Outcome.NOT_RUN, "not run: the file has no such test here"),
    }
    none = run(tmp_path, body, [])
    assert (none.tests, none.found) == ({}, ["Some.test_1", "Some.test_2"])


def test_a_class_that_cannot_be_set_up_fails_its_tests(tmp_path: Path) -> None:
    file = run(
        tmp_path,
        """
        class Bad(absltest.TestCase):
            @classmethod
            def setUpClass(cls): raise ValueError("no")
            def test_1(self): pass
        class Good(absltest.TestCase):
            def test_1(self): pass
        """,
    )
    assert outcomes(file) == {"Bad.test_1": (Outcome.FAILED, "ValueError: no"), "Good.test_1": (Outcome.PASSED, "")}


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise unittest.SkipTest('only on TPU')", "skips itself: only on TPU"),
        ("sys.exit()", "runs no tests when it is run as a script"),
        ("os.abort()", "crashed with SIGABRT outside of any test"),
    ],
)
def test_a_file_that_cannot_be_run(tmp_path: Path, body: str, note: str) -> None:
    file = run(tmp_path, body, ["Some.test_1"])
    assert file.note == note
    assert file.tests["Some.test_1"].outcome is Outcome.NOT_RUN


def test_a_run_can_be_given_up(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path = tmp_path / "some_test.py"
    path.write_text("import threading; threading.Event().wait()")
    with pytest.raises(Stopped):
        run_file(path, None, clean_environment(), HANG, tmp_path / "log", stop=stop)


def test_jax_has_its_devices_and_what_its_wheel_leaves_out(tmp_path: Path) -> None:
    left_out = tmp_path / "checkout" / "jax" / "_src" / "left_out_of_the_wheel.py"
    left_out.parent.mkdir(parents=True)
    left_out.write_text("ANSWER = 42")
    (left_out.parent / "core.py").write_text("raise ValueError('what is installed stands')")
    path = tmp_path / "some_test.py"
    path.write_text(
        HEAD
        + textwrap.dedent("""
        import jax
        from jax._src import core, left_out_of_the_wheel, test_util as jtu
        jax.config.parse_flags_with_absl()

        class Some(jtu.JaxTestCase):
            def test_devices(self):
                self.assertLen(jax.devices(), 4)
                self.assertEqual(jax.numpy.arange(2.0).dtype, "float64")
                self.assertEqual(left_out_of_the_wheel.ANSWER, 42)

        if __name__ == "__main__":
            absltest.main(testLoader=jtu.JaxTestLoader())
        """)
    )
    environment = plain_environment(4, x64=True)
    file = run_file(path, None, environment, Limits(), tmp_path / "log", checkout=tmp_path / "checkout")
    assert outcomes(file) == {"Some.test_devices": (Outcome.PASSED, "")}


def test_the_environment_is_cleaned() -> None:
    given = {"JAX_ENABLE_X64": "1", "XLA_FLAGS": "x", "PATH": "/bin", "TEST_TARGETS": "y", "TESTAMENT": "z"}
    assert clean_environment(given) == {"PATH": "/bin", "TESTAMENT": "z"}
