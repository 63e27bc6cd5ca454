"""`torch.polypath`, as far as it is about random numbers: what `torch.cuda` has, and what checkpointing asks for.

Each operator that draws takes its numbers from the seed and from how many have drawn before it, so a state is these
two, as 16 bytes in the order of CUDA's (seed, offset). There is one device, so all devices are this one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import torch

from polypath.torch.errors import TorchError
from polypath.torch.trace import trace


class RandomState:
    """What `torch.polypath` has of random numbers."""

    _initialized = True
    """torch.utils.checkpoint keeps the random state only of a device whose module says so."""

    def init(self) -> None:
        """Do nothing: the device is ready once polypath.torch is imported."""

    def _lazy_call(self, call: Callable[[], Any], **_: Any) -> None:
        """Do now what torch would put off until a device is ready."""
        call()

    def manual_seed(self, seed: int) -> None:
        trace.manual_seed(int(seed))

    def manual_seed_all(self, seed: int) -> None:
        self.manual_seed(seed)

    def seed(self) -> None:
        """Begin anew with a seed that nobody knows."""
        self.manual_seed(secrets.randbits(63))

    def seed_all(self) -> None:
        self.seed()

    def initial_seed(self) -> int:
        return trace.seed

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """Where the random numbers are, as a tensor of the CPU."""
        return torch.tensor(trace.random_state(), dtype=torch.int64).view(torch.uint8)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [self.get_rng_state()]

    def set_rng_state(self, new_state: torch.Tensor, device: Any = None) -> None:
        """Go on with the random numbers from there.

        Raises:
            TorchError: it is no state that `get_rng_state` has given.
        """
        if new_state.dtype != torch.uint8 or new_state.numel() != 16:
            raise TorchError(
                f"A random state of the device is 16 bytes, as torch.polypath.get_rng_state() gives them; this is "
                f"{new_state.dtype} of shape {tuple(new_state.shape)}."
            )
        seed, drawn = new_state.cpu().reshape(-1).contiguous().view(torch.int64).tolist()
        trace.set_random_state((seed, drawn))

    def set_rng_state_all(self, new_states: Iterable[torch.Tensor]) -> None:
        for state in new_states:
            self.set_rng_state(state)
