"""Load the judge of a configuration."""

from __future__ import annotations

from typing import Any

from harken.config.judge import (
    EndpointJudge,
    JudgeConfig,
    LocalJudge,
    PythonJudge,
    RewardModelJudge,
    RuleJudge,
)
from harken.config.rewards import ModelPart, PythonPart, RulePart
from harken.config.run import WeightDtypeName
from harken.judging.endpoint import EndpointPairJudge
from harken.judging.local import LocalPairJudge
from harken.judging.pair import PairJudge
from harken.judging.scored import ScoredPairJudge
from harken.models.backbone import Backbone
from harken.models.device import choose_device
from harken.models.find_tokenizer import tokenizer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import require_use, resolve
from harken.models.roles import lineage_fingerprint
from harken.reward.build import RewardLoader, resolve_sources
from harken.run.terminal import say

SCORER_BATCH_TOKENS = 8192
"""Tokens of a micro-batch of a reward model that is used as a judge."""


def load_judge(config: JudgeConfig, device: str = "auto", dtype: WeightDtypeName = "bfloat16") -> PairJudge:
    """Load a judge. Raises UserError for a missing model, an unknown rule, a wrong function or a missing key."""
    if isinstance(config, EndpointJudge):
        return EndpointPairJudge(config)
    if isinstance(config, LocalJudge):
        return _load_local(config, device, dtype)
    return _load_scorer(config, device, dtype)


def _load_local(config: LocalJudge, device: str, dtype: WeightDtypeName) -> LocalPairJudge:
    source = require_use(resolve(config.model_name), "policy")
    say(f"judge {config.column}: {source.describe()}")
    weight_dtype, adapter = WEIGHT_DTYPES[dtype], None
    if source.kind == "adapter" and source.base is not None:
        backbone, adapter = Backbone.load(source.base, weight_dtype, choose_device(device)), "judge"
        backbone.load_adapter(adapter, source.folder)
        backbone.set_tokenizer(source, tokenizer_of(source))
    else:
        backbone = Backbone.load(source, weight_dtype, choose_device(device))
    return LocalPairJudge(config, backbone, adapter, lineage_fingerprint(source))


def _load_scorer(
    config: RewardModelJudge | RuleJudge | PythonJudge, device: str, dtype: WeightDtypeName
) -> ScoredPairJudge:
    part: ModelPart | RulePart | PythonPart
    if isinstance(config, RewardModelJudge):
        part = ModelPart(type="model", checkpoint_path=config.checkpoint_path, name=config.column)
    elif isinstance(config, RuleJudge):
        part = RulePart(type="rule", name=config.rule)
    else:
        part = PythonPart(type="python", path=config.path, timeout_s=config.timeout_s)
    resolved = resolve_sources([part])
    loader = RewardLoader(None, WEIGHT_DTYPES[dtype], choose_device(device), SCORER_BATCH_TOKENS)
    (source,) = loader.sources(resolved, None, role="judge")
    identity: dict[str, Any] = {
        "type": config.type,
        **resolved.lineage()[part.column],
        "temperature": config.temperature,
    }
    return ScoredPairJudge(source, config.temperature, identity)
