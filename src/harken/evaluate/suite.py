"""Every policy answers every held-out prompt once; one reward model and the rule judges score all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harken.config import EvaluationConfig
from harken.data import sources
from harken.data.chat import Renderer
from harken.evaluate import audit, compare
from harken.models.backbone import Backbone
from harken.models.check_output import check_vocabulary
from harken.models.device import choose_device
from harken.models.resolve import ModelSource, require, resolve
from harken.models.roles import RewardModel, lineage_fingerprint
from harken.records import Prompt, Rollout
from harken.reward.judges import find_judges
from harken.reward.learned import LearnedReward, reading_limit
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run import atomic
from harken.run.claim import claim
from harken.run.folder import EvaluationFolder
from harken.run.tables import write_rows
from harken.run.tracking import counter, say

SCORING_TOKENS = 4096


def run(config: EvaluationConfig, output: Path) -> EvaluationFolder:
    """Generate, score, compare, write. A finished evaluation of the same configuration is left as it is.

    Raises UserError when a policy or the reward model is not what its name says, or the folder holds
    another evaluation.
    """
    folder = EvaluationFolder(output)
    judges = find_judges(config.judges)
    policies = {name: require(resolve(model), "policy") for name, model in config.policies.items()}
    reward = require(resolve(config.reward_model), "reward")
    # The contents of the models belong to the settings: an evaluation never mixes two of them.
    contents = {
        name: lineage_fingerprint(source) for name, source in [*policies.items(), ("reward model", reward)]
    }
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {"fingerprints": contents}
    if claim(folder.config, settings, folder.summary) and folder.summary.exists():
        say(f"{output}: this evaluation is finished; nothing to do")
        return folder
    prompts, report = sources.load_prompts(config.data, seed=config.seed)
    for line in report.lines():
        say(line)
    answers = {name: _answer(name, source, prompts, config) for name, source in policies.items()}
    rewards = _score(reward, answers, config)
    rows = [
        _row(
            name,
            rollout,
            value,
            {j: judge(rollout.prompt, rollout.text, rollout.stop) for j, judge in judges.items()},
        )
        for name, said in answers.items()
        for rollout, value in zip(said.rollouts, rewards[name], strict=True)
    ]
    write_rows(folder.responses, rows)
    summary = compare.compare(rows, judges=list(judges), tie_epsilon=config.tie_epsilon, seed=config.seed)
    atomic.write_json(folder.summary, summary)
    say(f"{output}: {summary['n']} answers a policy compared")
    return folder


@dataclass(frozen=True)
class _Answers:
    """What a policy said, and the tokenizer it said it with."""

    rollouts: list[Rollout]
    renderer: Renderer


def _answer(name: str, source: ModelSource, prompts: Sequence[Prompt], config: EvaluationConfig) -> _Answers:
    """One answer a prompt. An adapter stays an adapter: merging would round what was trained."""
    say(f"{name}: {source.describe()}")
    device, dtype = choose_device(config.device), getattr(torch, config.dtype)
    if source.kind == "adapter":
        assert source.base is not None
        backbone, role = Backbone.load(source.base, dtype, device), "policy"
        backbone.load_adapter(role, source.folder)
    else:
        backbone, role = Backbone.load(source, dtype, device), None
    check_vocabulary(backbone.tokenizer, backbone.output_weight, source.name)
    renderer = Renderer(backbone.tokenizer)
    engine = InProcessEngine(backbone, renderer, role, config.data.max_length)
    sampling = Sampling(config.max_gen_len, config.temperature, config.seed)
    with counter(f"{name} answers", len(prompts)) as count:
        rollouts = engine.generate(prompts, sampling, name, "evaluation", on_progress=count.update)
    return _Answers(rollouts, renderer)


def _score(
    source: ModelSource, answers: dict[str, _Answers], config: EvaluationConfig
) -> dict[str, list[float]]:
    """All answers in one pass of the reward model, so that equal answers get equal rewards."""
    model = RewardModel.load(source, getattr(torch, config.dtype), choose_device(config.device))
    sequences: list[list[int]] = []
    for said in answers.values():
        learned = LearnedReward(model, said.renderer, max_length=reading_limit(source))
        sequences += [learned.tokens(rollout) for rollout in said.rollouts]
    say(f"scoring {len(sequences)} answers with {source.name}")
    values = iter([model.standard(raw) for raw in model.raw_scores(sequences, SCORING_TOKENS)])
    return {name: [next(values) for _ in said.rollouts] for name, said in answers.items()}


def _row(policy: str, rollout: Rollout, reward: float, judged: dict[str, float]) -> dict[str, Any]:
    prompt = rollout.prompt
    return {
        "prompt_id": prompt.id,
        "policy": policy,
        "sample": rollout.sample,
        "domain": prompt.domain,
        "language": prompt.language,
        "prompt": prompt.last_user_message,
        "messages": json.dumps(
            [{"role": m.role, "content": m.content} for m in prompt.messages], ensure_ascii=False
        ),
        "response": rollout.text,
        "prompt_tokens": len(rollout.prompt_tokens),
        "response_tokens": len(rollout.response_tokens),
        "stop": rollout.stop,
        "reward": reward,
        **{f"score_{name}": value for name, value in judged.items()},
        "repeated_4grams": audit.repetition(rollout.text),
        "empty": not rollout.text.strip(),
        "cap_hit": rollout.stop == "length",
    }
