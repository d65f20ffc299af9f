"""What each key of another tool means, in which unit, and whether the hint converts it."""

from __future__ import annotations

import pytest

from harken.config.errors import FOREIGN_NAMES

SAME = ""
COEFFICIENT, RATIO, COUNT, TOKENS, PATH, TEXT = "coefficient", "ratio", "count", "tokens", "path", "text"

# foreign key: (Harken key, meaning there, unit there, unit here, what the hint has to say where they differ)
MEANINGS = {
    "adam_epsilon": ("adam_eps", "ε of Adam", COEFFICIENT, COEFFICIENT, SAME),
    "base_model": ("model_name", "model to start from", TEXT, TEXT, SAME),
    "batch": ("batch_size", "rows of an optimiser step", COUNT, COUNT, SAME),
    "beta": ("kl_coef", "weight of the KL penalty", COEFFICIENT, COEFFICIENT, SAME),
    "beta_kl": ("kl_coef", "weight of the KL penalty", COEFFICIENT, COEFFICIENT, SAME),
    "clip_eps": ("clip_range", "PPO's ε", RATIO, RATIO, SAME),
    "clip_ratio": ("clip_range", "PPO's ε", RATIO, RATIO, SAME),
    "cliprange": ("clip_range", "PPO's ε", RATIO, RATIO, SAME),
    "cliprange_value": ("value_clip_range", "largest change of a value", "reward", "reward", SAME),
    "discount": ("gamma", "discount per token", RATIO, RATIO, SAME),
    "ent_coef": ("entropy_coef", "weight of the entropy bonus", COEFFICIENT, COEFFICIENT, SAME),
    "entropy_coeff": ("entropy_coef", "weight of the entropy bonus", COEFFICIENT, COEFFICIENT, SAME),
    "eps": ("clip_range", "PPO's ε, or Adam's", "either", RATIO, "adam_eps"),
    "gae_lambda": ("lam", "λ of GAE", RATIO, RATIO, SAME),
    "gradient_accumulation_steps": (
        "micro_batch_tokens", "passes per optimiser step", COUNT, TOKENS,
        "per_device_train_batch_size × gradient_accumulation_steps",
    ),
    "horizon": ("kl_horizon", "time of KL control, or rollout length", "either", "sequences", "in sequences"),
    "init_kl_coef": ("kl_coef", "first weight of the KL penalty", COEFFICIENT, COEFFICIENT, SAME),
    "kl_coeff": ("kl_coef", "weight of the KL penalty", COEFFICIENT, COEFFICIENT, SAME),
    "kl_penalty_coef": ("kl_coef", "weight of the KL penalty", COEFFICIENT, COEFFICIENT, SAME),
    "label_smooth": ("label_smoothing", "share of wrong labels", RATIO, RATIO, SAME),
    "learning_rate": ("lr", "learning rate", COEFFICIENT, COEFFICIENT, SAME),
    "epsilon_high": ("clip_range_high", "upper ε", RATIO, RATIO, SAME),
    "loss_type": ("loss_aggregation", "how the loss is averaged", "its names", "our names", "grpo is sequence"),
    "num_generations": ("samples_per_prompt", "responses per prompt", COUNT, COUNT, SAME),
    "lora_alpha": ("lora.alpha", "scale of the adapter × rank", COEFFICIENT, COEFFICIENT, SAME),
    "lora_dropout": ("lora.dropout", "dropout before the adapter", RATIO, RATIO, SAME),
    "lora_r": ("lora.rank", "rank of the adapter", COUNT, COUNT, SAME),
    "lora_target_modules": ("lora.target_modules", "adapted modules", TEXT, TEXT, SAME),
    "lr_scheduler_type": ("lr_schedule", "shape of the schedule", "its names", "our names", "warmup_steps"),
    "max_new_tokens": ("max_gen_len", "longest response", TOKENS, TOKENS, SAME),
    "max_response_length": ("max_gen_len", "longest response", TOKENS, TOKENS, SAME),
    "max_seq_length": ("data.max_length", "longest row", "row tokens", TOKENS, "of the prompt for PPO"),
    "mini_batch_size": (
        "minibatches", "rows of a minibatch", "rows", COUNT,
        "prompts_per_update × samples_per_prompt ÷ mini_batch_size",
    ),
    "missing_eos_coef": ("missing_eos_penalty", "taken off a truncated response", "reward", "reward", SAME),
    "model": ("model_name", "model to start from", TEXT, TEXT, SAME),
    "model_name_or_path": ("model_name", "model to start from", TEXT, TEXT, SAME),
    "num_generations_per_prompt": ("samples_per_prompt", "responses per prompt", COUNT, COUNT, SAME),
    "num_mini_batches": ("minibatches", "optimiser steps per epoch", COUNT, COUNT, SAME),
    "num_ppo_epochs": ("ppo.epochs", "epochs per rollout batch", COUNT, COUNT, SAME),
    "num_rollouts": (
        "samples_per_prompt", "responses per prompt, or per update", "either", COUNT,
        "divide it by prompts_per_update",
    ),
    "num_train_epochs": ("training.epochs", "passes over the data", "fraction", COUNT, "a whole number"),
    "per_device_train_batch_size": (
        "batch_size", "rows of one pass on one device", "rows", "rows of a step",
        "per_device_train_batch_size × gradient_accumulation_steps × devices",
    ),
    "ppo_epochs": ("ppo.epochs", "epochs per rollout batch", COUNT, COUNT, SAME),
    "response_length": ("max_gen_len", "longest response", TOKENS, TOKENS, SAME),
    "reward_clip": ("score_clip", "largest absolute score", "reward", "reward", SAME),
    "reward_model_path": (
        "reward_model.checkpoint_path", "a classifier", "model", PATH, "training.rewards",
    ),
    "rm_path": ("reward_model.checkpoint_path", "a classifier", "model", PATH, "training.rewards"),
    "rollout_batch_size": (
        "prompts_per_update", "prompts or responses per update", "either", COUNT,
        "divide it by samples_per_prompt",
    ),
    "save_steps": ("checkpoints.every", "steps between checkpoints", "steps", "updates", "for PPO in updates"),
    "save_total_limit": ("checkpoints.keep", "checkpoints kept", COUNT, COUNT, SAME),
    "seq_length": ("data.max_length", "longest row", "row tokens", TOKENS, "of the prompt for PPO"),
    "target": ("kl_target", "KL of adaptive control", "nats", "nats per sequence", "nats per sequence"),
    "target_kl": (
        "kl_target", "KL of adaptive control (old TRL), or early stop (cleanrl, SB3)", "either",
        "nats per sequence", "training.ppo.target_kl_per_token, in nats per token",
    ),
    "vf_coeff": ("vf_coef", "weight of the value loss", COEFFICIENT, COEFFICIENT, SAME),
    "warmup_ratio": (
        "warmup_steps", "share of the run", RATIO, COUNT, "warmup_ratio × the number of optimiser steps",
    ),
}  # fmt: skip


def test_every_foreign_key_has_a_stated_meaning() -> None:
    assert MEANINGS.keys() == FOREIGN_NAMES.keys()


@pytest.mark.parametrize("name", MEANINGS)
def test_a_hint_is_right_in_meaning_and_unit(name: str) -> None:
    """Another unit or a second meaning needs a conversion; the same one is only a name."""
    key, _, there, here, conversion = MEANINGS[name]
    assert FOREIGN_NAMES[name].key == key
    assert bool(conversion) == (there != here) == bool(FOREIGN_NAMES[name].conversion)
    assert conversion in FOREIGN_NAMES[name].conversion
