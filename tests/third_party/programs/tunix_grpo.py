"""tunix: GRPO on a tiny random Llama 3: rollouts with a key-value cache, rewards, a reference model, updates."""

import json
import tempfile

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.models.llama3 import model as llama3
from tunix.rl import reshard, rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout
from tunix.sft import metrics_logger

flax.config.update("flax_always_shard_variable", False)
mesh = jax.make_mesh((2, 4), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
WORDS = ["<pad>", "<s>", "</s>", "red", "green", "blue", "one", "two", "three", "four", "five", "six"]
Role = rl_cluster.Role
config = llama3.ModelConfig(
    num_layers=1,
    vocab_size=len(WORDS),
    embed_dim=32,
    hidden_dim=64,
    num_heads=4,
    head_dim=8,
    num_kv_heads=4,
    rope_theta=10_000,
    norm_eps=1e-5,
    weight_tying=True,
)


class Tokenizer:
    def pad_id(self):
        return 0

    def bos_id(self):
        return 1

    def eos_id(self):
        return 2

    def encode(self, text, **_):
        return [WORDS.index(word) for word in text.split()]

    def decode(self, ids, **_):
        return " ".join(WORDS[i] for i in ids)


def make():
    return reshard.reshard_model_to_mesh(llama3.Llama3(config, rngs=nnx.Rngs(params=0)), mesh)


told = []


def reward(prompts, completions, **_):
    told.append(list(completions))
    return [float(sum(word in ("red", "green", "blue") for word in text.split())) for text in completions]


prompts = [{"prompts": np.array(["one two three", "four five six"])}, {"prompts": np.array(["one one one", "six two"])}]
with tempfile.TemporaryDirectory() as folder:
    cluster = rl_cluster.RLCluster(
        actor=make(),
        reference=make(),
        tokenizer=Tokenizer(),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), mesh),
            rollout_engine="vanilla",
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.adam(1e-2),
                eval_every_n_steps=10,
                max_steps=2,
                mini_batch_size=2,
                train_micro_batch_size=2,
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_tokens_to_generate=6, max_prompt_length=4, kv_cache_size=16, temperature=1.0
            ),
        ),
    )
    learner = grpo_learner.GRPOLearner(
        rl_cluster=cluster,
        algo_config=grpo_learner.GRPOConfig(num_generations=4, num_iterations=1, beta=0.04),
        reward_fns=reward,
    )
    learner.train(prompts)
    actor = nnx.state(cluster.actor_trainer.model, nnx.Param)
    logger = cluster.actor_trainer.metrics_logger
    print(
        json.dumps(
            {
                "completions": told,
                "losses": [float(x) for x in logger.get_metric_history("actor", "loss", metrics_logger.Mode.TRAIN)],
                "weights": [float(jnp.abs(x).sum()) for x in jax.tree.leaves(actor)],
            }
        )
    )
