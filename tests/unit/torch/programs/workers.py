"""Tensors of the device and a DataLoader's workers: what comes of each case, a line of JSON each.

The first two cases are the first of the process to use JAX, the others come when the device has been used.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

import polypath.torch


class Rows(Dataset[torch.Tensor]):
    """The rows of a tensor, moved to the device or not."""

    def __init__(self, rows: torch.Tensor, *, move: bool = False) -> None:
        self.rows = rows
        self.move = move

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        row = self.rows[index]
        return row.to("polypath") if self.move else row


def tell(case: str, dataset: Dataset[torch.Tensor], **options: Any) -> None:
    try:
        result: Any = [batch.tolist() for batch in DataLoader(dataset, 2, num_workers=1, **options)]
    except Exception as error:
        result = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    print(json.dumps({case: result}), flush=True)


def main() -> None:
    here = torch.arange(4.0).reshape(2, 2)
    pending = torch.ones(2, device=polypath.torch.device())
    tell("of the CPU", Rows(here))
    tell("pending elsewhere", Rows(here), pin_memory=True)
    there = here.to(polypath.torch.device())
    assert (there + pending).sum().item() == 10
    tell("of the device", Rows(there))
    tell("moved", Rows(here, move=True))
    tell("sent", Rows(there), multiprocessing_context="spawn")
    tell("of the CPU, after", Rows(here))
    print(json.dumps({"here": there.tolist()}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # JAX warns of every fork.
    sys.exit(main())
