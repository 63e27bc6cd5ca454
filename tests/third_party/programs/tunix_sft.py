"""tunix: LoRA fine-tuning of a tiny random Llama 3 by `PeftTrainer`, with checkpoints, over a mesh of 2 x 4 devices."""

import json
import tempfile

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import qwix
from flax import nnx
from tunix.models.llama3 import model as llama3
from tunix.rl import reshard
from tunix.sft import metrics_logger, peft_trainer, utils

VOCABULARY, LENGTH, BATCH, STEPS = 64, 16, 8, 6
flax.config.update("flax_always_shard_variable", False)
mesh = jax.make_mesh((2, 4), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
config = llama3.ModelConfig(
    num_layers=2,
    vocab_size=VOCABULARY,
    embed_dim=32,
    hidden_dim=64,
    num_heads=4,
    head_dim=8,
    num_kv_heads=4,
    rope_theta=10_000,
    norm_eps=1e-5,
    weight_tying=True,
)


def make():
    model = llama3.Llama3(config, rngs=nnx.Rngs(params=0))
    lora = qwix.LoraProvider(module_path=".*q_proj|.*v_proj|.*gate_proj|.*down_proj", rank=4, alpha=8.0)
    model = qwix.apply_lora_to_model(model, lora, rngs=nnx.Rngs(1), **model.get_model_input())
    return reshard.reshard_model_to_mesh(model, mesh)


def data(seed, count):
    random = np.random.default_rng(seed)
    for _ in range(count):
        start = random.integers(0, VOCABULARY, (BATCH, 1))
        tokens = (start + 5 * np.arange(LENGTH)) % VOCABULARY
        yield peft_trainer.TrainingInput(
            input_tokens=tokens.astype(np.int32), input_mask=np.ones(tokens.shape, np.int32)
        )


def model_input(x):
    mask = x.input_tokens >= 0
    return {
        "input_tokens": x.input_tokens,
        "input_mask": x.input_mask,
        "positions": utils.build_positions_from_mask(mask),
        "attention_mask": utils.make_causal_attn_mask(mask),
    }


def trainer_of(model, folder, steps):
    config = peft_trainer.TrainingConfig(
        eval_every_n_steps=2,
        max_steps=steps,
        gradient_accumulation_steps=1,
        checkpoint_root_directory=f"{folder}/checkpoints",
        checkpointing_options=ocp.CheckpointManagerOptions(save_interval_steps=2, max_to_keep=2),
    )
    trainer = peft_trainer.PeftTrainer(model, optax.adamw(2e-2), config)
    return trainer.with_gen_model_input_fn(model_input)


def history(trainer, mode):
    return [float(x) for x in trainer.metrics_logger.get_metric_history("", "loss", mode)]


with tempfile.TemporaryDirectory() as folder, mesh:
    model = make()
    base = np.asarray(model.layers[0].attn.q_proj.w[...])
    trainer = trainer_of(model, folder, STEPS)
    trainer.train(list(data(0, STEPS)), list(data(1, 2)))
    again = trainer_of(make(), folder, STEPS + 2)
    resumed = again.train_steps
    again.train(list(data(0, STEPS + 2)), list(data(1, 2)))
    q = model.layers[0].attn.q_proj
    print(
        json.dumps(
            {
                "losses": history(trainer, metrics_logger.Mode.TRAIN),
                "evaluations": history(trainer, metrics_logger.Mode.EVAL),
                "resumed": resumed,
                "later losses": history(again, metrics_logger.Mode.TRAIN),
                "frozen": bool((np.asarray(q.w[...]) == base).all()),
                "adapters": sorted(
                    [jax.tree_util.keystr(path), float(jnp.abs(x).sum())]
                    for path, x in jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.LoRAParam))
                ),
                "sharding": str(q.w[...].sharding.spec),
            }
        )
    )
