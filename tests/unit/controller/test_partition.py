"""Where shards lie, held against JAX's own answer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from polypath.controller.partition import intersection, shard_boxes, shard_shapes
from polypath.errors import ProtocolError
from polypath.link.protocol import Box
from polypath.types import Sharding

# In a process of its own: JAX is configured once per process.
_REFERENCE = """
import itertools, json
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 8)
cases = []
for shape, names in (((8,), "x"), ((2, 4), "xy"), ((2, 2, 2), "xyz")):
    mesh = jax.make_mesh(shape, tuple(names), axis_types=(jax.sharding.AxisType.Auto,) * len(names))
    axes = [None, *names, *itertools.permutations(names, 2), *itertools.permutations(names, 3)]
    for spec in itertools.product(axes, repeat=2):
        used = [a for part in spec if part for a in ((part,) if isinstance(part, str) else part)]
        if len(set(used)) < len(used):
            continue
        sharding = NamedSharding(mesh, P(*spec))
        proto = sharding._to_xla_hlo_sharding(2).to_proto().SerializeToString()
        where = sharding.devices_indices_map((16, 24))
        order = [d.id for d in sharding._device_assignment]
        boxes = {d.id: [s.indices(n)[:2] for s, n in zip(index, (16, 24))] for d, index in where.items()}
        cases.append((proto.hex(), order, [boxes[d] for d in order]))
print(json.dumps(cases))
"""


def test_boxes_agree_with_jax() -> None:
    run = subprocess.run([sys.executable, "-c", _REFERENCE], capture_output=True, text=True, check=True)
    cases = json.loads(run.stdout)
    assert len(cases) > 50
    for proto, devices, expected in cases:
        sharding = Sharding(tuple(devices), "", bytes.fromhex(proto))
        found = [
            [[s, s + n] for s, n in zip(box.start, box.shape, strict=True)] for box in shard_boxes(sharding, (16, 24))
        ]
        assert found == expected, proto


def test_uneven_tiles_end_with_the_array() -> None:
    # OTHER, tile dimensions [4], devices 0..3
    sharding = Sharding((5, 6, 7, 8), "", bytes((8, 3, 26, 1, 4, 34, 4, 0, 1, 2, 3)))
    assert shard_boxes(sharding, (10,)) == (Box((0,), (3,)), Box((3,), (3,)), Box((6,), (3,)), Box((9,), (1,)))
    assert shard_shapes(sharding, (10,)) == ((3,), (3,), (3,), (1,))


_TWO_TILES = bytes((8, 3, 26, 1, 2))
_HUGE = b"\xff" * 8 + b"\x7f"


@pytest.mark.parametrize(
    "proto",
    [
        b"\x08",
        b"\x1a\x05\x02",
        b"\x0b",
        b"\x08\x04",
        b"\x11\x00",
        bytes((8, 3, 26, 1, 3)),
        bytes((8, 3, 26, 9)) + _HUGE,
        _TWO_TILES + bytes((34, 2, 0, 2)),
        _TWO_TILES + bytes((34, 2, 1, 1)),
        _TWO_TILES + bytes((34, 3, 0, 1, 1)),
        _TWO_TILES + bytes((74, 9)) + _HUGE,
        _TWO_TILES + bytes((74, 2, 2, 1, 82, 2, 0, 5)),
        _TWO_TILES + bytes((74, 2, 2, 1, 82, 2, 0, 0)),
        bytes((8, 3, 26, 0xFF, 3)) + bytes(511),
    ],
)
def test_a_sharding_that_makes_no_sense_is_refused(proto: bytes) -> None:
    with pytest.raises(ProtocolError):
        shard_boxes(Sharding((0, 1), "", proto), (4,))


def test_intersection() -> None:
    assert intersection(Box((0, 0), (4, 4)), Box((2, 3), (4, 4))) == Box((2, 3), (2, 1))
    assert intersection(Box((0,), (2,)), Box((2,), (2,))) is None
