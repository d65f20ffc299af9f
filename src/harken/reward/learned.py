"""Score responses with a trained reward model, whose tokenizer may differ from the policy's."""

from __future__ import annotations

from collections.abc import Sequence

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import ModelSource
from harken.models.roles import RewardModel, read_card
from harken.models.tokenizer import same_tokenizer
from harken.records import Rollout, Score
from harken.reward.source import clip_score, require_finite


class LearnedReward:
    """Score responses by the reward model's standardised score, clipped on request.

    With the policy's own tokenizer the model reads the sampled tokens. With another tokenizer, and where only the text
    is known (`policy_renderer` is None), the response is rendered with the reward model's chat template and tokenised
    again. In that case `max_length` (tokens) applies: the oldest turns of the prompt are dropped to fit, and the
    response is never truncated. With `score_longer` a response that leaves no room for its prompt is scored without
    truncation and counted in `longer`; else it is an error. `truncated_score` replaces the clipped score of a truncated
    response.
    """

    def __init__(
        self,
        model: RewardModel,
        policy_renderer: Renderer | None,
        weight: float = 1.0,
        clip: float | None = None,
        micro_batch_tokens: int = 8192,
        *,
        name: str = "reward_model",
        max_length: int | None = None,
        score_longer: bool = False,
        truncated_score: float | None = None,
    ) -> None:
        self.model, self.name, self.weight, self.clip = model, name, weight, clip
        self.truncated_score = truncated_score
        self.micro_batch_tokens, self.max_length = micro_batch_tokens, max_length
        self.score_longer, self.longer = score_longer, 0
        tokenizer = model.tokenizer
        shares_tokens = policy_renderer is not None and same_tokenizer(tokenizer, policy_renderer.tokenizer)
        # An encoder frames a pair of texts with its own special tokens, independent of the policy's tokenizer.
        shares_tokens = shares_tokens and isinstance(model.backbone, Backbone)
        self._own_renderer = None if shares_tokens else model.renderer()

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts in one forward over the whole conversations. Raises as `standardized_scores` does."""
        scores = [clip_score(value, self.clip) for value in self.standardized_scores(rollouts)]
        if self.truncated_score is not None:
            truncated = [r.stop == "length" for r in rollouts]
            scores = [self.truncated_score if t else s for t, s in zip(truncated, scores, strict=True)]
        return [Score(self.name, score, self.weight) for score in scores]

    def standardized_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return scores that are neither clipped nor weighted.

        Raises as `tokenize` does, and NonFinite for a score that is NaN or infinite.
        """
        raw = self.model.raw_scores([self.tokenize(r) for r in rollouts], self.micro_batch_tokens)
        return list(require_finite(self.name, rollouts, [self.model.standardize(value) for value in raw]))

    def tokenize(self, rollout: Rollout) -> list[int]:
        """Return the conversation as token ids of the reward model.

        Raises UserError, naming the prompt, when the chat template refuses the conversation or when the response
        leaves no room for the prompt within `max_length`.
        """
        if self._own_renderer is None:
            return [*rollout.prompt_tokens, *rollout.response_tokens]
        response = self._own_renderer.encode_response(rollout.text, ended=rollout.stop == "end_of_turn")
        return [*self._encode_prompt(self._own_renderer, rollout, len(response)), *response]

    def _encode_prompt(self, renderer: Renderer, rollout: Rollout, response_length: int) -> list[int]:
        prompt = rollout.prompt
        try:
            if self.max_length is None:
                return renderer.encode_prompt(prompt.messages, prompt.tools)
            fitted = renderer.fit_prompt(prompt.messages, self.max_length - response_length, prompt.tools)
            if fitted is None and self.score_longer:
                self.longer += 1
                return renderer.encode_prompt(prompt.messages, prompt.tools)
        except UserError as error:
            raise UserError(error.what, where=f"{self.name}, prompt {prompt.id}", fix=error.fix) from error
        if fitted is None:
            raise UserError(
                f"the response takes {response_length} of the {self.max_length} tokens this reward model reads, "
                "and the prompt does not fit in the rest",
                where=f"{self.name}, prompt {prompt.id}",
                fix="lower max_gen_len, or train the reward model with a larger data.max_length",
            )
        return fitted[0]


def trained_max_length(source: ModelSource) -> int | None:
    """Return the length in tokens a reward model was trained with, from its card; None when the card has none."""
    return read_card(source.folder).max_length
