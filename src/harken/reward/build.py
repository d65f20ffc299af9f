"""Build the reward sources of a configuration: find and check every part first, load the models later.

A part is an entry of `training.rewards`, a judge of PPO or a judge of an evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.config.preference_training import OnlineDPOTraining
from harken.config.rewards import (
    ClassifierPart,
    EnsemblePart,
    HonestyBonusPart,
    ModelPart,
    PythonPart,
    RewardPart,
    SycophancyPenaltyPart,
)
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.quantised import WeightDtype, compute_dtype
from harken.models.resolve import ModelSource, Use, require_use, resolve
from harken.models.roles import RewardModel, RoleRow, ScalarHead, lineage_fingerprint, read_card, role_row
from harken.reward.classifier import ClassifierReward, check_classifier, load_classifier
from harken.reward.ensemble import EnsembleReward
from harken.reward.judges import JudgeReward, find_judges
from harken.reward.learned import LearnedReward, trained_max_length
from harken.reward.provided_function import open_function
from harken.reward.python_function import PythonReward
from harken.reward.rules import penalties
from harken.reward.source import RewardSource
from harken.reward.sycophancy import SycophancyReward
from harken.run.tracking import say
from harken.sycophancy.detector import ClassifierDetector, Detector, RuleDetector
from harken.sycophancy.model_detectors import (
    ContrastDetector,
    ProjectionDetector,
    load_language_model,
    read_direction,
    warn_if_fitted_elsewhere,
)


@dataclass(frozen=True)
class ResolvedSources:
    """Reward parts with their models and functions. No weights are loaded yet."""

    parts: tuple[RewardPart, ...]
    models: dict[str, list[ModelSource]]
    """Models of each part, by the part's name: its reward model, its ensemble's members or its classifier."""
    functions: dict[str, PythonReward]

    def only(self, part: RewardPart) -> ResolvedSources:
        """Return a copy with `part` as the only part."""
        return ResolvedSources((part,), self.models, self.functions)

    def lineage(self) -> dict[str, Any]:
        """Return each part's name and fingerprint, for the manifest and the fingerprint of an evaluation."""
        return dict(map(self._lineage, self.parts))

    def _lineage(self, part: RewardPart) -> tuple[str, dict[str, Any]]:
        if isinstance(part, PythonPart):
            return part.column, {"name": part.path, "fingerprint": self.functions[part.column].sha256}
        members = self.models.get(part.column, [])
        prints = "\n".join(lineage_fingerprint(member) for member in members)
        if isinstance(part, SycophancyPenaltyPart | HonestyBonusPart) and part.direction is not None:
            prints += f"\n{read_direction(part.direction).facts.get('sha256')}"
        return part.column, {
            "name": ", ".join(member.name for member in members) or part.column,
            "fingerprint": hashlib.sha256(prints.encode()).hexdigest() if members else None,
        }


def resolve_sources(parts: Sequence[RewardPart]) -> ResolvedSources:
    """Find every model and import every Python file, before any weights are loaded.

    Raises UserError when a model is missing or of the wrong kind, a rule is unknown, or a Python function cannot be
    called.
    """
    models: dict[str, list[ModelSource]] = {}
    functions: dict[str, PythonReward] = {}
    for part in parts:
        if isinstance(part, PythonPart):
            functions[part.column] = open_function(part)
        elif isinstance(part, ModelPart):
            models[part.column] = [require_use(resolve(part.checkpoint_path), "reward")]
        elif isinstance(part, EnsemblePart):
            models[part.column] = [require_use(resolve(path), "reward") for path in part.checkpoint_paths]
        elif isinstance(part, ClassifierPart):
            models[part.column] = [resolve(part.model_name)]
            check_classifier(models[part.column][0])
        elif isinstance(part, SycophancyPenaltyPart | HonestyBonusPart):
            if part.model_name is not None:
                use: Use = "reward" if part.detector == "classifier" else "policy"
                models[part.column] = [require_use(resolve(part.model_name), use)]
            if part.direction is not None:
                warn_if_fitted_elsewhere(read_direction(part.direction), models[part.column][0])
        else:
            find_judges([part.name])
    return ResolvedSources(tuple(parts), models, functions)


@dataclass(frozen=True)
class ResolvedRewards:
    """The reward model, reward parts and judges of PPO or online DPO. No weights are loaded yet."""

    training: PPOTraining | OnlineDPOTraining
    reward_model: ModelSource | None
    """The model of `training.reward_model`; None without one and for a random one."""
    rewards: ResolvedSources
    judges: ResolvedSources

    def lineage(self) -> dict[str, Any]:
        """Return names and fingerprints for the manifest: `reward_model` (None without one), `rewards`, `judges`."""
        main: dict[str, Any] | None = None
        if self.training.random_reward:
            main = {"name": "random", "fingerprint": None}
        elif self.reward_model is not None:
            main = {
                "name": self.reward_model.name,
                "fingerprint": lineage_fingerprint(self.reward_model),
            }
        return {"reward_model": main, "rewards": self.rewards.lineage(), "judges": self.judges.lineage()}


def resolve_rewards(training: PPOTraining | OnlineDPOTraining) -> ResolvedRewards:
    """Find the reward model, the parts of `rewards` and the judges, before any weights are loaded.

    Raises UserError as `resolve_sources` does, and when the reward model was trained on another base than the
    configuration names.
    """
    settings, main = training.reward_model, None
    if settings is not None and not settings.random_for_debugging:
        main = require_use(resolve(settings.checkpoint_path), "reward")
        _check_base(main, settings.model_name)
    return ResolvedRewards(
        training, main, resolve_sources(training.rewards), resolve_sources(training.rollout.judges)
    )


@dataclass
class Rewards:
    """The loaded reward sources of a run and their frozen weights."""

    sources: list[RewardSource] = field(default_factory=list)
    """In order: the reward model, the parts of `training.rewards`, the penalties."""
    judges: list[RewardSource] = field(default_factory=list)
    """Scorers of held-out responses; nothing is trained on them."""
    reward_model: RewardModel | None = None
    """The model of `training.reward_model`."""
    frozen_parameters: dict[str, list[nn.Parameter]] = field(default_factory=dict)
    """Weights that must not change, by component, without those of the policy's base."""
    origins: dict[str, str] = field(default_factory=dict)
    """Description of where each component was loaded from."""

    def role_rows(self) -> list[RoleRow]:
        """Return the role table's rows of these components."""
        return [
            role_row(name, self.frozen_parameters[name], self.origins[name])
            for name in self.frozen_parameters
        ]

    def add_frozen(self, component: str, parameters: Iterable[nn.Parameter], origin: str) -> None:
        """Add a component of frozen weights."""
        self.frozen_parameters[component], self.origins[component] = list(parameters), origin


def load_rewards(
    resolved: ResolvedRewards,
    config: RunConfig,
    policy: ModelSource,
    shared_base: Backbone | None,
    renderer: Renderer,
    weight_dtype: WeightDtype,
    device: torch.device,
) -> Rewards:
    """Load the reward model, the reward parts and the judges. Reward models trained on the same base share it.

    `shared_base` is the policy's backbone before its adapter is added; reward models on the policy's base become
    adapters on it. None when the policy's base is itself trained, because the reward must not change with the policy.
    `renderer` is the policy's.
    """
    training = resolved.training
    loader = RewardLoader(shared_base, weight_dtype, device, 2 * training.micro_batch_tokens)
    rewards = loader.rewards
    main, source = training.reward_model, resolved.reward_model
    if main is not None:
        model = (
            loader.model(source, "reward", "reward model") if source else loader.random(policy, config.seed)
        )
        rewards.reward_model = model
        learned = loader.learned_reward(
            model, source, renderer, "reward_model", main.weight, training.rollout.score_clip
        )
        learned.truncated_score = training.rollout.missing_eos_score
        rewards.sources.append(learned)
    rewards.sources += loader.sources(resolved.rewards, renderer)
    rewards.sources += penalties(training.rollout)
    rewards.judges = loader.sources(resolved.judges, renderer, role="judge")
    return rewards


class RewardLoader:
    """Load each model of the parts once, and share bases between them.

    Models trained on the base of `shared_base` become adapters on it. `rewards` lists the frozen weights.
    """

    def __init__(
        self,
        shared_base: Backbone | None,
        weight_dtype: WeightDtype,
        device: torch.device,
        micro_batch_tokens: int,
    ) -> None:
        self.shared_base, self.weight_dtype, self.device = shared_base, weight_dtype, device
        self.micro_batch_tokens = micro_batch_tokens
        self.bases: list[AdaptedModel] = [shared_base] if shared_base is not None else []
        self.rewards = Rewards()
        self._models: dict[str, RewardModel] = {}
        self._classifiers: dict[str, ClassifierReward] = {}
        self._detectors: dict[tuple[str, str | None, str | None], Detector] = {}

    def sources(
        self, resolved: ResolvedSources, renderer: Renderer | None, role: str = "reward"
    ) -> list[RewardSource]:
        """Return a reward source for each part.

        `renderer` is that of the policy whose responses are scored; None for responses that are only text.
        """
        return [self._source(part, resolved, renderer, role) for part in resolved.parts]

    def _source(
        self, part: RewardPart, resolved: ResolvedSources, renderer: Renderer | None, role: str
    ) -> RewardSource:
        name, models = part.column, resolved.models.get(part.column, [])
        if isinstance(part, PythonPart):
            return resolved.functions[name]
        if isinstance(part, ModelPart):
            model = self.model(models[0], f"{role}_{name}", f"{role} {name}")
            return self.learned_reward(model, models[0], renderer, name, part.weight, part.clip)
        if isinstance(part, EnsemblePart):
            members = []
            for index, source in enumerate(models, 1):
                model = self.model(source, f"{role}_{name}_{index}", f"{role} {name} {index}")
                members.append(self.learned_reward(model, source, renderer, name))
            return EnsembleReward(name, members, part.combine, part.k, part.weight, part.clip)
        if isinstance(part, ClassifierPart):
            return self._classifier(part, models[0], f"{role} {name}")
        if isinstance(part, SycophancyPenaltyPart | HonestyBonusPart):
            detector = self._detector(part, models, renderer, f"{role} {name}")
            return SycophancyReward(name, detector, part.type, part.weight)
        return JudgeReward(part.name, part.weight)

    def _detector(
        self,
        part: SycophancyPenaltyPart | HonestyBonusPart,
        models: Sequence[ModelSource],
        renderer: Renderer | None,
        component: str,
    ) -> Detector:
        """Return a part's detector. Two parts with the same detector load its model once."""
        key = (part.detector, part.model_name, part.direction)
        if key in self._detectors:
            return self._detectors[key]
        detector: Detector = RuleDetector()
        if part.detector == "classifier":
            model = self.model(models[0], component.replace(" ", "_"), component)
            learned = self.learned_reward(model, models[0], renderer, part.column)
            detector = ClassifierDetector(learned.standardized_scores)
        elif part.detector in ("contrast", "steering"):
            say(f"{component}: {models[0].describe()}")
            # Its own copy: the policy's base has adapters that train, and a detector must not change with the policy.
            backbone, role, reader = load_language_model(models[0], self.weight_dtype, self.device)
            self.rewards.add_frozen(component, backbone.model.parameters(), f"detector, {models[0].name}")
            if part.detector == "contrast":
                detector = ContrastDetector(backbone, role, reader)
            else:
                detector = ProjectionDetector(backbone, role, reader, read_direction(str(part.direction)))
        self._detectors[key] = detector
        return detector

    def _classifier(self, part: ClassifierPart, source: ModelSource, component: str) -> ClassifierReward:
        if component not in self._classifiers:
            say(f"{component}: {source.describe()}")
            loaded = load_classifier(
                source, part, compute_dtype(self.weight_dtype), self.device, self.micro_batch_tokens
            )
            self.rewards.add_frozen(component, loaded.model.parameters(), f"classifier, {source.name}")
            self._classifiers[component] = loaded
        return self._classifiers[component]

    def model(self, source: ModelSource, adapter: str, component: str) -> RewardModel:
        """Return a trained reward model, on an already loaded base if it was trained on that one."""
        if component in self._models:
            return self._models[component]
        say(f"{component}: {source.describe()}")
        base_fingerprint = lineage_fingerprint(source.base) if source.base is not None else None
        matching = (
            b
            for b in self.bases
            if b.source is not None and lineage_fingerprint(b.source) == base_fingerprint
        )
        model = RewardModel.load(source, self.weight_dtype, self.device, next(matching, None), adapter)
        self._register_base(model.backbone, (source.base or source).name)
        kind = "the shared base" if model.backbone is self.shared_base else "its own base"
        origin = "head" if model.adapter is None else f"adapter on {kind}"
        parameters = [*model.backbone.adapter_parameters(adapter).values(), *model.head.parameters()]
        self.rewards.add_frozen(component, parameters, f"{origin}, {source.name}")
        self._models[component] = model
        return model

    def random(self, policy: ModelSource, seed: int) -> RewardModel:
        """Return a reward model with an untrained head, on the policy's base or, when that is trained, on a copy."""
        say(
            "warning: RANDOM REWARD. The reward head is untrained; the manifest marks this run as `random reward`"
        )
        backbone = self.shared_base or Backbone.load(policy, self.weight_dtype, self.device)
        self._register_base(backbone, policy.name)
        size = backbone.hidden_size
        head = ScalarHead(size, (size + 1) ** -0.5, seed).to(self.device).requires_grad_(False)
        self.rewards.add_frozen("reward model", head.parameters(), "random")
        return RewardModel(backbone, None, head)

    def learned_reward(
        self,
        model: RewardModel,
        source: ModelSource | None,
        renderer: Renderer | None,
        name: str,
        weight: float = 1.0,
        clip: float | None = None,
    ) -> LearnedReward:
        """Return the model as a reward source. `source` is None for the random one, which has no card."""
        limit = trained_max_length(source) if source is not None else None
        return LearnedReward(
            model, renderer, weight, clip, self.micro_batch_tokens, name=name, max_length=limit
        )

    def _register_base(self, backbone: AdaptedModel, name: str) -> None:
        """Add a newly loaded base to the frozen weights."""
        if any(backbone is base for base in self.bases):
            return
        self.bases.append(backbone)
        count = len(self.bases) - (self.shared_base is not None)
        component = "reward base" if count == 1 else f"reward base {count}"
        parameters = [p for key, p in backbone.model.named_parameters() if "lora_" not in key]
        self.rewards.add_frozen(component, parameters, f"its own model, {name}")


def _check_base(reward: ModelSource, base: str) -> None:
    if not base:
        return
    card = read_card(reward.folder)
    if lineage_fingerprint(resolve(base)) != card.base_fingerprint:
        raise UserError(
            f"this reward model was trained on {card.base or 'another model'}, not on {base}",
            where="training.reward_model.model_name",
            fix="leave model_name empty, or name the base it was trained on",
        )
