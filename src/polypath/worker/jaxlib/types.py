"""Names for jaxlib's own types, which ship without annotations."""

from __future__ import annotations

from typing import Any

Client = Any
"""A PJRT client."""
JaxDevice = Any
"""A device of such a client."""
Array = Any
"""An array of JAX: a shard, or the whole that this process's shards of one value form."""
Loaded = Any
"""A loaded executable."""
Options = Any
"""Compile options."""
