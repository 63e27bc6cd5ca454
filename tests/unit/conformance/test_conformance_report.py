"""What follows from two runs: the draw, the comparison, the explanations, the pages."""

import io
import random
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from polypath.conformance.events import Outcome
from polypath.conformance.explained import Explanation, Kind, explain, read_explanations
from polypath.conformance.files import DEFAULT_FILES, Suite, find_suite, misfit, select
from polypath.conformance.markdown import markdown
from polypath.conformance.process import FileRun, TestRun
from polypath.conformance.report import Report, Setting, compare, general, grouped
from polypath.conformance.sampling import draw
from polypath.conformance.view import report_view, summary
from polypath.errors import ClusterError

PASSED = TestRun(Outcome.PASSED, seconds=1.0)
SKIPPED = TestRun(Outcome.SKIPPED, "not here")


def failed(reason: str) -> TestRun:
    return TestRun(Outcome.FAILED, reason)


def side(note: str = "", **tests: TestRun) -> FileRun:
    return FileRun(tests, list(tests), 2.0, note, bool(note))


def sample_report() -> Report:
    plain = side(a=PASSED, b=PASSED, c=SKIPPED, d=PASSED, e=failed("x"))
    here = side("d crashed", a=PASSED, b=failed("E: /home/me/x.py 3 at 0x1f"), c=PASSED, d=failed("known"))
    files = [compare("one_test", plain, here, ["the cluster lost a worker; the logs are in /home/me/logs"])]
    files.append(compare("two_test", side(f=PASSED), side(f=failed("E: /tmp/y/x.py 14 at 0xab"))))
    return Report(Setting("polypath conformance", {"jax": "0.10.2"}, 2, 4), files)


EXPLAINED = [Explanation(Kind.CLIENT, "It says so.", reason="^known")]


def test_a_draw_is_the_same_for_everybody() -> None:
    tests = {"b_test": ["T.z", "T.a"], "a_test": ["T.x"], "c_test": ["T.q"]}
    drawn = draw(tests, 3, 1)
    every = sorted([("a_test", "T.x"), ("b_test", "T.a"), ("b_test", "T.z"), ("c_test", "T.q")])
    assert {(file, test) for file, of in drawn.items() for test in of} == set(random.Random(1).sample(every, 3))
    assert drawn == draw(dict(reversed(tests.items())), 3, 1)
    assert draw(tests, 4, 7)["b_test"] == ["T.z", "T.a"], "in the file's order"
    with pytest.raises(ClusterError, match="have 4 tests"):
        draw(tests, 5, 1)


def test_only_what_passes_on_plain_jax_counts() -> None:
    report = sample_report()
    one, two = report.files
    assert (one.passed, one.counted) == (1, 3)
    assert [pair.test for pair in one.differences] == ["b", "d"]
    assert (two.passed, two.counted) == (0, 1)
    assert one.pairs[-1].here is Outcome.NOT_RUN, "e is not there"
    assert one.notes == ["here: d crashed", "the cluster lost a worker; the logs are in /home/me/logs"]
    assert summary(report) == "1 of the 4 tests that pass on plain JAX pass here (25.00 %)."


def test_a_file_that_could_not_run_here_fails_all_of_its_tests() -> None:
    report = compare("one_test", side(a=PASSED, b=SKIPPED), FileRun({}, [], 1.0, "skips itself: why", False))
    assert (report.passed, report.counted) == (0, 1)
    assert report.differences[0].reason == "not run: skips itself: why"


def test_differences_are_grouped_by_what_explains_them_or_by_reason() -> None:
    first, second = grouped(sample_report().differences, EXPLAINED)
    assert [pair.name for pair in first.pairs] == ["one_test::b", "two_test::f"]
    assert (first.reason, first.explanation) == ("E: x.py # at 0x…", None)
    assert [pair.name for pair in second.pairs] == ["one_test::d"]
    assert second.explanation is EXPLAINED[0]
    assert general("float32[3,4] is 1.5e-3, not a 2nd") == "float32[#] is #, not a 2nd"


def test_a_terminal_shows_files_differences_and_the_sum() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(report_view(sample_report(), EXPLAINED))
    text = out.getvalue()
    assert "JAX's own client: It says so." in text
    assert "one_test::d: known" in text
    assert "the cluster lost a worker" in text
    assert text.rstrip().endswith("(25.00 %).")


def test_a_page_has_nothing_of_this_machine() -> None:
    page = markdown(sample_report(), EXPLAINED)
    assert "/home/me" not in page
    assert "| one_test | 1 | 3 | here: d crashed; the cluster lost a worker |" in page
    assert page.index("### JAX's own client") < page.index("- `one_test::d`") < page.index("### Not explained yet")
    assert "2 hosts × 4 CPU devices" in page
    assert "jax 0.10.2" in page


def test_a_report_survives_json() -> None:
    report = sample_report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_the_list_of_explanations_can_be_read() -> None:
    for entry in read_explanations():
        assert entry.why.endswith(".")


def test_an_explanation_of_everything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "explained.toml"
    path.write_text('[[explained]]\nkind = "ours"\nwhy = "All."\n')
    with pytest.raises(ValueError, match="explains everything"):
        read_explanations(path)


def test_the_first_explanation_that_fits_counts() -> None:
    entries = [
        Explanation(Kind.OURS, "By test.", test=r"^array_test::.*dlpack"),
        Explanation(Kind.CLIENT, "By both.", test="array", reason="refused"),
    ]
    assert explain("array_test", "T.test_dlpack", "refused", entries) is entries[0]
    assert explain("array_test", "T.test_x", "it was refused", entries) is entries[1]
    assert explain("array_test", "T.test_x", "odd", entries) is None


def make_checkout(folder: Path, version: str) -> Path:
    for file in ("array_test", "lax_numpy_test", "lax_numpy_ufuncs_test", "pallas/ops_test", "conftest"):
        path = folder / "tests" / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "jax").mkdir()
    (folder / "jax" / "version.py").write_text(f'_version = "{version}"\n')
    return folder


def test_a_checkout_or_its_tests_will_do(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path, "0.10.2")
    assert find_suite(checkout) == find_suite(checkout / "tests")
    assert find_suite(checkout) == Suite(checkout / "tests", checkout, "0.10.2")
    with pytest.raises(ClusterError, match="no tests of JAX"):
        find_suite(checkout / "jax")


def test_tests_of_another_version_are_told_of(tmp_path: Path) -> None:
    suite = find_suite(make_checkout(tmp_path, "0.10.2"))
    assert misfit(suite, "0.10.2") == ""
    assert "0.10.2 and jax 0.11.0 is installed" in misfit(suite, "0.11.0")
    assert "cannot be told" in misfit(Suite(suite.folder), "0.10.2")


def test_files_are_chosen_by_name_and_pattern(tmp_path: Path) -> None:
    suite = find_suite(make_checkout(tmp_path, "0.10.2"))
    every = ["array_test", "lax_numpy_test", "lax_numpy_ufuncs_test", "pallas/ops_test"]
    assert select(suite, []) == every
    assert select(suite, ["*"]) == every[:3]
    assert select(suite, ["lax_numpy*", "array_test.py"]) == every[:3]
    assert select(suite, ["pallas/*"]) == every[3:]
    with pytest.raises(ClusterError, match="no test file nothing_test"):
        select(suite, ["nothing_test"])
    assert len(set(DEFAULT_FILES)) == len(DEFAULT_FILES)
