"""A trained reward model as a reward source, whatever its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.resolve import ModelSource
from harken.models.roles import RewardModel, read_card
from harken.models.tokenizer import same_tokenizer
from harken.records import Rollout, Score
from harken.reward.source import clipped, finite


class LearnedReward:
    """The reward model's standardised score, clipped on request.

    With the policy's own tokenizer the model reads the very tokens that were sampled; with another,
    the answer crosses as text: decoded, put into its own chat template, encoded. `max_length` (tokens)
    holds there: the prompt loses its oldest turns to keep it, the answer nothing. `cut_score` takes the
    place of the (clipped) score of an answer that did not end.
    """

    def __init__(
        self,
        model: RewardModel,
        policy_renderer: Renderer,
        weight: float = 1.0,
        clip: float | None = None,
        micro_batch_tokens: int = 8192,
        *,
        name: str = "reward_model",
        max_length: int | None = None,
        cut_score: float | None = None,
    ) -> None:
        self.model, self.name, self.weight, self.clip = model, name, weight, clip
        self.cut_score = cut_score
        self.micro_batch_tokens, self.max_length = micro_batch_tokens, max_length
        tokenizer = model.tokenizer
        self._bridge = None if same_tokenizer(tokenizer, policy_renderer.tokenizer) else Renderer(tokenizer)

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One forward of the reward model over the whole conversations. Raises as `values` does."""
        scores = [clipped(value, self.clip) for value in self.values(rollouts)]
        if self.cut_score is not None:
            cut = [r.stop == "length" for r in rollouts]
            scores = [self.cut_score if c else s for c, s in zip(cut, scores, strict=True)]
        return [Score(self.name, score, self.weight) for score in scores]

    def values(self, rollouts: Sequence[Rollout]) -> list[float]:
        """The standardised scores, neither clipped nor weighted. Raises as `tokens` does, and NonFinite on NaN."""
        raw = self.model.raw_scores([self.tokens(r) for r in rollouts], self.micro_batch_tokens)
        return list(finite(self.name, rollouts, [self.model.standardize(value) for value in raw]))

    def tokens(self, rollout: Rollout) -> list[int]:
        """The conversation as the reward model's tokens.

        Raises UserError, naming the prompt, when its chat template refuses the conversation or when the answer
        leaves no room for the prompt within `max_length`.
        """
        if self._bridge is None:
            return [*rollout.prompt_tokens, *rollout.response_tokens]
        answer = self._bridge.encode_response(rollout.text, ended=rollout.stop == "end_of_turn")
        return [*self._prompt(self._bridge, rollout, len(answer)), *answer]

    def _prompt(self, bridge: Renderer, rollout: Rollout, taken: int) -> list[int]:
        prompt = rollout.prompt
        try:
            if self.max_length is None:
                return bridge.encode_prompt(prompt.messages, prompt.tools)
            fitted = bridge.fit_prompt(prompt.messages, self.max_length - taken, prompt.tools)
        except UserError as error:
            raise UserError(error.what, where=f"{self.name}, prompt {prompt.id}", fix=error.fix) from error
        if fitted is None:
            raise UserError(
                f"the answer takes {taken} of the {self.max_length} tokens this reward model reads, "
                "and the prompt does not fit beside it",
                where=f"{self.name}, prompt {prompt.id}",
                fix="lower max_gen_len, or train the reward model with a larger data.max_length",
            )
        return fitted[0]


def reading_limit(source: ModelSource) -> int | None:
    """The tokens a trained reward model was trained to read, from its card; None when the card does not say."""
    return read_card(source.folder).max_length
