"""The device's module on a cluster, and tensors once the cluster is closed: prints what it finds, as JSON."""

from __future__ import annotations

import functools
import json
import warnings
from typing import Any

import jax
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import polypath
import polypath.torch
from polypath.torch.trace import trace

DEVICE = polypath.torch.device()


class Moved(Dataset[torch.Tensor]):
    """Rows that a loader's worker moves to the device."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(2).to(DEVICE)


def told(attempt: Any) -> str:
    try:
        return f"gave {attempt()}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"


def memory(mesh: Any) -> list[int]:
    """Bytes more than before, of one tensor: on one device, cut over all, whole on all; and the peak."""
    before = torch.accelerator.memory_allocated()
    torch.accelerator.reset_peak_memory_stats()
    x = torch.ones(8, 1000, device=DEVICE)
    found = [torch.accelerator.memory_allocated() - before]
    for spec in (("data",), ()):
        polypath.torch.shard(x, mesh, spec)
        found.append(torch.accelerator.memory_allocated() - before)
    del x
    found.append(torch.accelerator.memory_allocated() - before)
    return [*found, torch.accelerator.max_memory_allocated() - before]


def events(mesh: Any) -> list[bool]:
    """Whether an event is done after a wait, and times add up."""
    x = polypath.torch.shard(torch.full((64, 64), 1e-2, device=DEVICE), mesh, ("data",))
    start, middle, end = (torch.Event(enable_timing=True) for _ in range(3))
    torch.accelerator.synchronize()
    start.record()
    y = x @ x
    middle.record()
    for _ in range(10):
        y = y @ x
    end.record()
    torch.accelerator.synchronize()
    whole = start.elapsed_time(end)
    parts = start.elapsed_time(middle), middle.elapsed_time(end)
    return [end.query(), min(*parts) > 0, abs(whole - sum(parts)) < 1e-6, y.isfinite().all().item()]


def main() -> None:
    seen: dict[str, Any] = {}
    with polypath.connect():
        mesh = jax.make_mesh((8,), ("data",))
        seen["name"] = torch.polypath.get_device_name()
        seen["memory"] = memory(mesh)
        seen["events"] = events(mesh)
        data = TensorDataset(torch.arange(8.0))
        seen["pinned"] = sum(
            x.to(DEVICE, non_blocking=True).sum().item() for (x,) in DataLoader(data, 4, pin_memory=True)
        )
        seen["moved"] = told(functools.partial(list, DataLoader(Moved(), num_workers=1)))
    with polypath.start(hosts=2):
        kept, cut = torch.ones(4, device=DEVICE), torch.ones(8, device=DEVICE)
        polypath.torch.shard(cut, jax.make_mesh((2,), ("data",)), ("data",))
        pending = kept[torch.tensor([1, 0], device=DEVICE)] + 1
        whole = torch.ones(8, device=DEVICE)
        both = cut + whole  # The copy of `whole` on both devices is still on its way.
        trace.flush()
        later = kept * 2
    seen["kept"] = told(kept.tolist)
    seen["cut"] = told(lambda: (cut * 2).tolist())  # noqa: PLW0108 - It is computed there.
    seen["pending"] = told(pending.tolist)
    seen["both"] = [told(both.tolist), told(whole.tolist)]
    seen["later"] = told(later.tolist)
    seen["beside another"] = told(lambda: (kept + torch.ones(4, device=DEVICE)).tolist())  # noqa: PLW0108
    seen["moved to"] = told(lambda: kept.to("cpu"))
    alive, other = torch.ones(4, device=DEVICE), torch.zeros(4, device=DEVICE)
    other.add_(1)
    alive.add_(kept)
    other.add_(1)
    seen["written with it"] = told(alive.tolist)
    seen["undone"] = [alive.tolist(), other.tolist()]
    seen["anew"] = (torch.ones(2, device=DEVICE) + 1).tolist()
    print(json.dumps(seen))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of the fork.
    main()
