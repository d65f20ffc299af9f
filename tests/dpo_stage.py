"""DPO and online DPO stages over the tiny model, built the way a run builds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ppo_stage import RuleReward, share_of_low_tokens
from tiny import tiny_backbone, tiny_tokenizer

from harken.config import RunConfig
from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.resolve import ModelSource
from harken.models.roles import Policy
from harken.records import Message, Prompt, Rollout, TokenPair
from harken.reward.build import Rewards
from harken.run.folder import RunFolder
from harken.train.dpo.examples import PreferenceExample, pair_examples, rated_examples, rated_from_pairs
from harken.train.dpo.models import ADAPTER, PolicyModels
from harken.train.dpo.online import OnlineDPOStage
from harken.train.dpo.stage import DPOStage

PAIRS = [
    TokenPair(
        f"p{i}",
        (*range(9, 12 + i % 3), 40 + i, 41, 2),
        (*range(9, 12 + i % 3), 90, *[91] * (i % 4), 2),
        prompt_length=3 + i % 3,
    )
    for i in range(12)
]


def dpo_config(kind: str = "dpo", **keys: Any) -> RunConfig:
    """A small run in float32; `keys` change training, its part named like the type changes that part."""
    training: dict[str, Any] = {"type": kind, "lr": 1e-2, "lr_schedule": "constant"}
    if kind == "dpo":
        training |= {"batch_size": 4, "epochs": 2, "dpo": {"max_gen_len": 4, "eval_prompts": 2}}
    else:
        section = {"updates": 4, "prompts_per_update": 3, "samples_per_prompt": 3, "max_gen_len": 4}
        training |= {
            "reward_model": {"random_for_debugging": True},
            "online_dpo": section | {"missing_eos_penalty": 0.0},
        }
    training[kind] = training[kind] | keys.pop(kind, {})
    return RunConfig.model_validate(
        {
            "dtype": "float32",
            "seed": keys.pop("seed", 839),
            "tensorboard": False,
            "lora": keys.pop("lora", {"rank": 4}),
            "data": {"path": "rows", "max_length": 64},
            "training": training | keys,
        }
    )


def examples_for(config: RunConfig, pairs: Sequence[TokenPair]) -> list[PreferenceExample]:
    if config.training.dpo.loss == "kto":  # type: ignore[union-attr]
        return rated_examples(rated_from_pairs(pairs), config.seed, config.data.max_length)
    return pair_examples(pairs)


def models_for(config: RunConfig, root: Path, backbone: Backbone | None = None) -> PolicyModels:
    backbone = backbone or tiny_backbone()
    if config.lora:
        backbone.add_adapter(ADAPTER, config.lora, config.seed)
        policy, reference = Policy(backbone, ADAPTER), Policy(backbone, None)
    else:
        backbone.train_all_weights()
        policy, reference = Policy(backbone, None), Policy(tiny_backbone(), None)
    return PolicyModels(config, SOURCE, policy, reference, root)


class _Source(ModelSource):
    """Stands for the model's source, of which only name and fingerprint are read."""

    def __init__(self) -> None:
        object.__setattr__(self, "name", "tiny")

    @property
    def lineage_fingerprint(self) -> str:
        return "tiny"


SOURCE = _Source()


def asked(count: int) -> list[Prompt]:
    return [Prompt(f"q{i}", (Message("user", "x" * (1 + 3 * i % 17)),)) for i in range(count)]


def dpo_stage(
    root: Path,
    config: RunConfig | None = None,
    pairs: Sequence[TokenPair] = PAIRS,
    backbone: Backbone | None = None,
) -> DPOStage:
    """A DPO stage whose first pairs are held out too; its reference's scores go to `root`."""
    config = config or dpo_config()
    models = models_for(config, root, backbone)
    engine = models.engine(Renderer(tiny_tokenizer()), 64)
    examples = examples_for(config, pairs)
    root.mkdir(parents=True, exist_ok=True)
    return DPOStage(config, models, examples, examples[:4], engine, asked(3), RunFolder(root))


def online_stage(
    root: Path,
    config: RunConfig | None = None,
    rule: Callable[[Rollout], float] = share_of_low_tokens,
    prompts: int = 6,
) -> OnlineDPOStage:
    """An online DPO stage with a rule as its reward."""
    config = config or dpo_config("online_dpo")
    models = models_for(config, root)
    models.rewards = Rewards([RuleReward(rule)])
    engine = models.engine(Renderer(tiny_tokenizer()), 64)
    return OnlineDPOStage(config, models, engine, asked(prompts), asked(2), RunFolder(root))
