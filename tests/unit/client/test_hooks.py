"""What hooks do that needs no cluster: `tests/cluster/test_answers.py` has the rest."""

from __future__ import annotations

from unittest import mock

import jax.numpy as jnp
import numpy as np

from polypath.client.together import _Group


def transfers(answer: bytes | None) -> mock.Mock:
    return mock.Mock(**{"links.wait.return_value": answer})


def test_what_landed_together_is_told_apart_whatever_the_order() -> None:
    arrays = [jnp.arange(6, dtype=jnp.int8).reshape(2, 3), jnp.float32(2.5), jnp.array([True, False]), jnp.ones(5)]
    group = _Group(transfers(b""), arrays)
    group.request = mock.Mock()
    order, data = [2, 0, 3, 1], b"".join(np.asarray(arrays[index]).tobytes() for index in [2, 0, 3, 1])
    group.room[:] = np.frombuffer(np.array(order, np.uint32).tobytes() + data, np.uint8)
    for place, array in enumerate(arrays):
        found = group.elements(place)
        assert found is not None
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, array, strict=True)


def test_what_does_not_land_is_left_to_jaxlib() -> None:
    gone = transfers(None)
    group = _Group(gone, [jnp.ones(2), jnp.ones(3)])
    group.request = mock.Mock()
    assert [group.elements(place) for place in (0, 1)] == [None, None]
    gone.links.wait.assert_called_once_with(group.request)
