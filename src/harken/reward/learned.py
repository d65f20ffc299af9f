"""A trained reward model as a reward source, whatever its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from harken.data.chat import Renderer
from harken.models.roles import RewardModel
from harken.models.tokenizer import same_tokenizer
from harken.records import Rollout, Score


class LearnedReward:
    """The reward model's standardised score, clipped on request.

    With the policy's own tokenizer the model reads the very tokens that were sampled; with another,
    the answer crosses as text: decoded, put into its own chat template, encoded.
    """

    name = "reward_model"

    def __init__(
        self,
        model: RewardModel,
        policy_renderer: Renderer,
        weight: float = 1.0,
        clip: float | None = None,
        micro_batch_tokens: int = 8192,
    ) -> None:
        self.model, self.weight, self.clip = model, weight, clip
        self.micro_batch_tokens = micro_batch_tokens
        tokenizer = model.backbone.tokenizer
        self._bridge = None if same_tokenizer(tokenizer, policy_renderer.tokenizer) else Renderer(tokenizer)

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One forward of the reward model over the whole conversations."""
        raw = self.model.raw_scores([self.tokens(r) for r in rollouts], self.micro_batch_tokens)
        return [Score(self.name, self._clipped(self.model.standard(value)), self.weight) for value in raw]

    def tokens(self, rollout: Rollout) -> list[int]:
        """The conversation as the reward model's tokens."""
        if self._bridge is None:
            return [*rollout.prompt_tokens, *rollout.response_tokens]
        prompt = self._bridge.prompt(rollout.prompt.messages)
        return [*prompt, *self._bridge.response(rollout.text, ended=rollout.stop == "end_of_turn")]

    def _clipped(self, value: float) -> float:
        return value if self.clip is None else max(-self.clip, min(self.clip, value))
