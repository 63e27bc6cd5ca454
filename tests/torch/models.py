"""Small models of transformers' configs with random weights, each with data, and a plan for tensor parallelism.

The plans cut what a hand would: a layer's first matrices by their outputs, its second by their inputs, embeddings by
their features. `model` is the mesh's axis of 4 devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

BATCH, TIME, VOCABULARY, WIDTH, CLASSES = 8, 16, 96, 64, 12
IMAGE = 32

OUT = ("model", None)
"""How `Linear` has its weight if its outputs are split; it has `(out, in)`, and GPT-2's `Conv1D` `(in, out)`."""
IN = (None, "model")

Plan = Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Case:
    """A model and what is done with it."""

    make: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], dict[str, Tensor]]
    """One batch, with labels."""
    plan: Plan
    prompt: tuple[str, ...] = ()
    """What of a batch it generates from; empty if it does not."""


def text(generator: torch.Generator) -> dict[str, Tensor]:
    """A language model's, which predicts each next token."""
    tokens = torch.randint(3, VOCABULARY, (BATCH, TIME), generator=generator)
    return {"input_ids": tokens, "labels": tokens}


def masked_text(generator: torch.Generator) -> dict[str, Tensor]:
    """Every fourth token is hidden and to be told; rows have padding."""
    tokens = torch.randint(3, VOCABULARY, (BATCH, TIME), generator=generator)
    hidden = torch.arange(TIME) % 4 == 1
    present = (torch.arange(TIME) < TIME - torch.arange(BATCH)[:, None] % 3).long()
    return {
        "input_ids": tokens.masked_fill(hidden, 2),
        "attention_mask": present,
        "labels": tokens.masked_fill(~hidden, -100),
    }


def image(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "pixel_values": torch.randn(BATCH, 3, IMAGE, IMAGE, generator=generator),
        "labels": torch.randint(CLASSES, (BATCH,), generator=generator),
    }


def sound(generator: torch.Generator) -> dict[str, Tensor]:
    """Spectrograms of 2 * 20 frames, and what is said in them."""
    labels = torch.randint(3, VOCABULARY, (BATCH, TIME), generator=generator)
    return {"input_features": torch.randn(BATCH, 16, 40, generator=generator), "labels": labels}


def translation(generator: torch.Generator) -> dict[str, Tensor]:
    source, target = (torch.randint(3, VOCABULARY, (BATCH, TIME), generator=generator) for _ in range(2))
    return {"input_ids": source, "attention_mask": torch.ones_like(source), "labels": target}


def gpt2() -> nn.Module:
    sizes = {"n_positions": 64, "n_embd": WIDTH, "n_layer": 2, "n_head": 4}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **off, **_tokens()))


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**_llama_sizes()))


def mixtral() -> nn.Module:
    return MixtralForCausalLM(MixtralConfig(**_llama_sizes(), num_local_experts=4, num_experts_per_tok=2))


def bert() -> nn.Module:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **sizes, **off, max_position_embeddings=64))


def vit() -> nn.Module:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=IMAGE, patch_size=8, num_labels=CLASSES))


def resnet() -> nn.Module:
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, num_labels=CLASSES))


def whisper() -> nn.Module:
    parts = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}
    both = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in parts.items()}
    sizes = {"d_model": WIDTH, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 64}
    off = {"dropout": 0.0, "suppress_tokens": None, "begin_suppress_tokens": None}
    return WhisperForConditionalGeneration(WhisperConfig(vocab_size=VOCABULARY, **both, **sizes, **off, **_tokens()))


def t5() -> nn.Module:
    sizes = {"d_model": WIDTH, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    tokens = _tokens() | {"decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, **sizes, dropout_rate=0.0, **tokens))


def _llama_sizes() -> dict[str, Any]:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 64}
    return {"vocab_size": VOCABULARY, **sizes, "num_attention_heads": 4, "num_key_value_heads": 2, **_tokens()}


def _tokens() -> dict[str, int]:
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}


_LLAMA: Plan = {
    "model.embed_tokens.weight": IN,
    "model.layers.*.self_attn.[qkv]_proj.weight": OUT,
    "model.layers.*.self_attn.o_proj.weight": IN,
    "lm_head.weight": OUT,
}
_BERT: Plan = {
    "*.attention.self.query.*": ("model",),
    "*.attention.self.key.*": ("model",),
    "*.attention.self.value.*": ("model",),
    "*.attention.output.dense.weight": IN,
    "*.intermediate.dense.*": ("model",),
    "*.layer.*.output.dense.weight": IN,
}

CASES = {
    "gpt2": Case(
        gpt2,
        text,
        {
            "transformer.wte.weight": IN,
            "transformer.h.*.c_attn.weight": IN,
            "transformer.h.*.attn.c_proj.weight": OUT,
            "transformer.h.*.c_fc.weight": IN,
            "transformer.h.*.mlp.c_proj.weight": OUT,
        },
        ("input_ids",),
    ),
    "llama": Case(
        llama,
        text,
        {
            **_LLAMA,
            "model.layers.*.mlp.gate_proj.weight": OUT,
            "model.layers.*.mlp.up_proj.weight": OUT,
            "model.layers.*.mlp.down_proj.weight": IN,
        },
        ("input_ids",),
    ),
    "mixtral": Case(
        mixtral,
        text,
        {**_LLAMA, "model.layers.*.mlp.experts.*": ("model", None, None)},  # Each device has an expert.
        ("input_ids",),
    ),
    "bert": Case(bert, masked_text, {**_BERT, "bert.embeddings.word_embeddings.weight": IN}),
    "vit": Case(
        vit,
        image,
        {
            "*.attention.[qkv]_proj.*": ("model",),
            "*.attention.o_proj.weight": IN,
            "*.mlp.fc1.*": ("model",),
            "*.mlp.fc2.weight": IN,
        },
    ),
    "whisper": Case(
        whisper,
        sound,
        {
            "*.[qkv]_proj.weight": OUT,
            "*.out_proj.weight": IN,
            "*.fc1.weight": OUT,
            "*.fc2.weight": IN,
            "model.encoder.conv1.weight": ("model", None, None),
        },
        ("input_features",),
    ),
    "t5": Case(
        t5,
        translation,
        {
            "shared.weight": IN,
            "*Attention.[qkv].weight": OUT,
            "*Attention.o.weight": IN,
            "*.wi.weight": OUT,
            "*.wo.weight": IN,
        },
        ("input_ids", "attention_mask"),
    ),
    "resnet": Case(
        resnet,
        image,
        {"*.layer.0.convolution.weight": ("model",), "*.layer.1.convolution.weight": (None, "model")},
    ),
}
