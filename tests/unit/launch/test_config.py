import pytest

from polypath.errors import ClusterError
from polypath.launch.config import check_name, check_shape, simulates


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((0, None, 1, None), "at least one host, not 0"),
        ((-1, None, 1, None), "at least one host"),
        ((1, 0, 1, None), "at least one device, not 0"),
        ((3, None, 2, None), "3 hosts cannot be split into 2 islands"),
        ((2, None, 0, None), "into 0 islands"),
        ((2, None, 4, None), "into 4 islands"),
        ((1, None, 1, "G/P"), "no platform 'G/P': say cpu, cuda"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(shape: tuple[int, int | None, int, str | None], sentence: str) -> None:
    with pytest.raises(ClusterError, match=sentence):
        check_shape(*shape)


def test_a_cluster_that_can_be_is_not() -> None:
    check_shape(4, 2, 2, "cpu")
    check_shape(1, None, 1, None)
    check_shape(1, None, 1, "a_plugin")


@pytest.mark.parametrize(
    ("platform", "simulated"),
    [(None, None), ("cpu", None), ("cuda", None), ("simulated", "cpu"), ("simulated-tpu", "tpu")],
)
def test_what_simulated_devices_say_they_are(platform: str | None, simulated: str | None) -> None:
    assert simulates(platform) == simulated


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a b", "-a", "x" * 41])
def test_a_name_that_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot name a cluster"):
        check_name(name)
