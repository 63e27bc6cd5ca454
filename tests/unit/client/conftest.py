"""The fixtures of the launcher's tests: a runtime folder of its own, and nothing left after."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("launch_fixtures", Path(__file__).parents[1] / "launch" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

runtime = _fixtures.runtime
fake_head = _fixtures.fake_head
