"""A few steps of a framework, on the device that it chooses by itself and on the CPU: prints the losses of both, as
JSON.

The first argument says which. Beside the losses are the devices, to see that each run was where it should be."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import polypath.torch  # noqa: F401 - It is all that a program needs.

Run = tuple[str, list[float]]
"""Where it was, and its losses."""


def regression() -> tuple[nn.Module, TensorDataset]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))
    return model, TensorDataset(torch.randn(32, 8), torch.randn(32, 1))


def with_accelerate(**options: Any) -> Run:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(**options)
    model, data = regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(data, 8, pin_memory=True))
    losses: list[float] = []
    for _ in range(2):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach()).mean().item())
    assert next(model.parameters()).device == accelerator.device
    return str(accelerator.device), losses


class Tokens(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.tokens = torch.randint(0, 64, (16, 12), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def language_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))


def adapted_model() -> Any:
    from peft import LoraConfig, get_peft_model

    model = language_model()
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def with_trainer(make: Callable[[], Any], **options: Any) -> Run:
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        every = {"logging_steps": 1, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=4, max_steps=4, learning_rate=1e-2, seed=3, **every, **options
        )
        model = make()
        trainer = Trainer(model, arguments, train_dataset=Tokens())
        trainer.train()
        assert next(model.parameters()).device == arguments.device
        return str(arguments.device), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def with_lightning(**options: Any) -> Run:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model
            self.losses: list[float] = []
            self.places: set[str] = set()

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss = nn.functional.mse_loss(self.model(batch[0]), batch[1])
            self.losses.append(loss.item())
            self.places |= {str(batch[0].device), str(self.device)}
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    model, data = regression()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    module = Module(model)
    lightning.Trainer(max_epochs=2, **quiet, **options).fit(module, DataLoader(data, 8))
    (place,) = module.places
    return place, module.losses


def of_accelerate() -> dict[str, Run]:
    return {
        "chosen": with_accelerate(),
        "cpu": with_accelerate(cpu=True),
        "bf16": with_accelerate(mixed_precision="bf16"),
    }


def of_trainer() -> dict[str, Run]:
    runs = {"chosen": with_trainer(language_model), "cpu": with_trainer(language_model, use_cpu=True)}
    return runs | {"bf16": with_trainer(language_model, bf16=True)}


def of_peft() -> dict[str, Run]:
    return {"chosen": with_trainer(adapted_model), "cpu": with_trainer(adapted_model, use_cpu=True)}


def of_lightning() -> dict[str, Run]:
    import polypath.torch.lightning

    runs = {"chosen": with_lightning(), "cpu": with_lightning(accelerator="cpu")}
    runs["named"] = with_lightning(accelerator="polypath")
    runs["given"] = with_lightning(accelerator=polypath.torch.lightning.Accelerator())
    return runs | {"bf16": with_lightning(precision="bf16-mixed")}


FRAMEWORKS = {"accelerate": of_accelerate, "trainer": of_trainer, "peft": of_peft, "lightning": of_lightning}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        print(json.dumps({name: FRAMEWORKS[name]()}))
