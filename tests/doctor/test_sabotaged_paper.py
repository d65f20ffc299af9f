"""Broken settings, tokenizers, rows and folders: the doctor names the cause, before what suffers from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from healthy_pipeline import (
    GOOD,
    PAPER,
    THINGS,
    HealthyPipeline,
    demonstration,
    first_cause,
    pair,
    words,
    write,
)
from tiny import CHATML, save_tiny, tiny_model, tiny_tokenizer
from tiny_rewards import save_reward_model
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from harken.doctor.finding import CheckLevel

Spoilt = dict[str, Any]
Spoil = Callable[[HealthyPipeline, Path], Spoilt]
CASES: list[tuple[Spoil, str, CheckLevel]] = []


def names(finding: str, level: CheckLevel) -> Callable[[Spoil], Spoil]:
    """What the function spoils has to be called this."""

    def keep(corrupt: Spoil) -> Spoil:
        CASES.append((corrupt, finding, level))
        return corrupt

    return keep


def ppo(healthy: HealthyPipeline, **keys: Any) -> Spoilt:
    config = healthy.config("ppo")
    config["training"]["ppo"] |= keys
    return config


def on_tokenizer(healthy: HealthyPipeline, folder: Path, tokenizer: PreTrainedTokenizerFast) -> Spoilt:
    """SFT on the tiny model with another tokenizer beside it."""
    tiny_model().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return healthy.config("sft") | {"model_name": str(folder / "model")}


def reloaded(template: str = CHATML) -> PreTrainedTokenizerFast:
    """The byte tokenizer, an object of its own, with another template."""
    inner = tiny_tokenizer().backend_tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = template
    return tokenizer


# -- tokenizers -----------------------------------------------------------------------------------


@names("generation_prompt", "error")
def a_template_without_generation_prompt(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """P2: the policy would have to write "assistant" itself."""
    return on_tokenizer(healthy, folder, reloaded(CHATML.partition("{% if add_generation_prompt %}")[0]))


@names("generation_prompt", "error")
def a_template_that_asks_in_other_words(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """P2, P7: asked with "bot", tuned with "assistant"."""
    return on_tokenizer(healthy, folder, reloaded(CHATML.replace("<|im_start|>assistant", "<|im_start|>bot")))


@names("end_of_turn", "warning")
def a_template_that_drops_the_end_of_turn(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """P2: nothing in the template says that a response is over."""
    return on_tokenizer(healthy, folder, reloaded(CHATML.replace("<|im_end|>", "")))


@names("round_trip", "error")
def a_tokenizer_that_folds_case(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """P7: what is decoded is not what was encoded."""
    tokenizer = reloaded()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return on_tokenizer(healthy, folder, tokenizer)


# -- rows -----------------------------------------------------------------------------------------


@names("rows_kept", "error")
def a_layout_nobody_knows(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    path = write(folder / "rows.jsonl", ({"frage": "?", "antwort": "!"} for _ in range(9)))
    return healthy.config("sft") | {"data": {"path": path}}


@names("rows_kept", "error")
def a_file_that_is_not_there(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("ppo") | {"data": {"path": str(folder / "none.jsonl")}}


@names("rows_kept", "warning")
def rows_without_responses(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-16: a quarter of the rows is dropped."""
    rows = [demonstration(i) | ({"response": " "} if i % 4 == 0 else {}) for i in range(80)]
    return healthy.config("sft") | {
        "data": {"path": write(folder / "rows.jsonl", rows), "eval_fraction": 0.1}
    }


@names("max_length", "error")
def a_max_length_that_keeps_nothing(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-21: the chat template alone takes more."""
    config = healthy.config("ppo")
    config["data"]["max_length"] = 12
    return config


@names("max_length", "warning")
def a_max_length_that_drops_the_long_responses(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-21: a third of the responses does not fit, and is never learnt."""
    rows = [demonstration(i) | ({"response": words(GOOD, i) * 8} if i % 3 == 0 else {}) for i in range(80)]
    path = write(folder / "rows.jsonl", rows)
    return healthy.config("sft") | {"data": {"path": path, "max_length": 64, "eval_fraction": 0.1}}


@names("leakage", "error")
def prompts_that_leak_into_the_held_out(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """Half of the held-out prompts are trained on."""
    config = healthy.config("ppo")
    leaked = ({"prompt": f"say {thing}"} for thing in THINGS[70:90])
    config["data"]["eval_path"] = write(folder / "heldout.jsonl", leaked)
    return config


@names("repeated_rows", "warning")
def rows_that_stand_there_four_times(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    path = write(folder / "rows.jsonl", (demonstration(i % 20) for i in range(80)))
    return healthy.config("sft") | {"data": {"path": path, "eval_fraction": 0.1}}


@names("preference_direction", "warning")
def chosen_and_rejected_swapped(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S1-49: everything runs, and the worse response is preferred."""
    rows = [pair(i) for i in range(80)]
    swapped = (row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows)
    path = write(folder / "pairs.jsonl", swapped)
    return healthy.config("reward") | {"data": {"path": path, "eval_fraction": 0.2}}


@names("responses_fit", "warning")
def responses_longer_than_max_gen_len(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-21, P22: the policy was taught what it may not write."""
    return ppo(healthy, max_gen_len=6)


# -- lineage and folders --------------------------------------------------------------------------


@names("model_found", "error")
def a_model_that_is_not_there(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("sft") | {"model_name": str(folder / "no-model")}


@names("sft_first", "warning")
def ppo_on_a_model_that_was_never_tuned(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-27: with a reward model trained on that very base."""
    base = save_tiny(folder / "base")
    reward = save_reward_model(folder / "reward", base)
    config = healthy.config("ppo") | {"model_name": base}
    config["training"]["reward_model"] = {"checkpoint_path": reward}
    return config


@names("reward_found", "error")
def a_reward_model_that_is_a_policy(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("ppo", reward_model={"checkpoint_path": str(healthy.root / "sft")})


@names("reward_found", "error")
def a_reward_model_on_another_base_than_named(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-27: the configuration says which base it must stand on."""
    reward = save_reward_model(folder / "reward", save_tiny(folder / "other", seed=9))
    named = {"checkpoint_path": reward, "model_name": str(healthy.root / "sft")}
    return healthy.config("ppo", reward_model=named)


@names("reward_base", "note")
def a_reward_model_on_another_base(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-27: allowed, and told."""
    reward = save_reward_model(folder / "reward", save_tiny(folder / "other", seed=9))
    return healthy.config("ppo", reward_model={"checkpoint_path": reward})


@names("reward_base", "error")
def a_base_that_changed_under_its_reward_model(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S0-27: same folder, other weights."""
    other = save_tiny(folder / "other", seed=9)
    reward = save_reward_model(folder / "reward", other)
    save_tiny(folder / "other", seed=10)
    return healthy.config("ppo", reward_model={"checkpoint_path": reward})


@names("output_folder", "error")
def an_output_folder_that_cannot_be_made(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    (folder / "file").write_text("")
    return healthy.config("sft") | {"output_dir": str(folder / "file" / "run")}


@names("output_folder", "error")
def an_output_folder_of_another_run(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    shutil.copytree(healthy.root / "reward", folder / "run")
    return healthy.config("sft") | {"output_dir": str(folder / "run")}


# -- settings -------------------------------------------------------------------------------------


@names("learning_rate", "error")
def a_learning_rate_of_a_tenth(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S2-82."""
    return healthy.config("ppo", lr=0.1)


@names("learning_rate", "warning")
def the_rate_of_an_adapter_for_every_weight(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S2-82: what suits LoRA destroys a model that trains whole."""
    return healthy.config("ppo", lr=4e-4) | {"lora": None}


@names("kl_coefficient", "warning")
def no_kl_at_all(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S2-34."""
    return ppo(healthy, kl_coef=0.0)


@names("kl_units", "warning")
def a_kl_target_per_token(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """P18: 0.1 nats are a target per token."""
    return ppo(healthy, kl_control="adaptive", kl_target=0.1)


@names("epochs_and_batches", "warning")
def twenty_epochs(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S2-41."""
    return ppo(healthy, epochs=20)


@names("clip_range", "warning")
def a_clip_that_clips_nothing(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return ppo(healthy, clip_range=0.9)


@names("temperature", "warning")
def a_temperature_of_three(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return ppo(healthy, temperature=3.0)


@names("combinations", "warning")
def an_untrained_reward_head(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("ppo", reward_model={"random_for_debugging": True})


@names("combinations", "error")
def neither_whitening_nor_a_critic(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return ppo(healthy, whiten_advantages=False, vf_coef=0.0)


@names("enough_prompts", "warning")
def more_prompts_an_update_than_there_are(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return ppo(healthy, prompts_per_update=128)


@names("schedule_and_batches", "warning")
def a_warm_up_longer_than_the_run(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("sft", warmup_steps=500)


@names("judges", "error")
def a_judge_nobody_knows(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return ppo(healthy, judges=["gold"])


@names("judges", "warning")
def a_judge_that_is_the_reward(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    config = ppo(healthy)
    path = config["training"]["reward_model"]["checkpoint_path"]
    config["training"]["ppo"]["judges"] = [{"type": "model", "checkpoint_path": path}]
    return config


@names("kl_coefficient", "warning")
def a_kl_coefficient_far_below_the_range(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    """S2-34."""
    return ppo(healthy, kl_coef=0.0005)


@names("stop_on", "error")
def a_finding_that_is_misspelt(healthy: HealthyPipeline, folder: Path) -> Spoilt:
    return healthy.config("ppo") | {"health": {"stop_on": ["kl_explosoin"]}}


@pytest.mark.parametrize(("corrupt", "finding", "level"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_cause_is_named(
    healthy: HealthyPipeline, tmp_path: Path, corrupt: Spoil, finding: str, level: CheckLevel
) -> None:
    """The first finding as bad as this one, among the checks that need no model, has the right name."""
    assert first_cause(corrupt(healthy, tmp_path), level, PAPER) == (finding, level)
