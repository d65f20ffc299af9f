"""Turn preferences and rated responses into the examples that the losses are computed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harken.data.token_pairs import prompt_length
from harken.records import TokenDemonstration, TokenPair
from harken.seeds import permutation


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A response after its prompt, as token ids. The first `prompt_length` of `tokens` are the prompt."""

    tokens: tuple[int, ...]
    prompt_length: int

    @property
    def length(self) -> int:
        """Number of response tokens."""
        return len(self.tokens) - self.prompt_length


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """One item of a preference loss.

    Of a pair, `first` is the chosen response, `second` the rejected one and `label` the probability that the chosen is
    better. For KTO, `first` is the rated response, `label` 1 (thumb up) or 0 (thumb down), and `second` the
    response to another prompt after this one's prompt, which measures the KL.
    """

    id: str
    first: TokenResponse
    second: TokenResponse
    label: float = 1.0
    domain: str = ""
    language: str = ""

    @property
    def sides(self) -> tuple[TokenResponse, TokenResponse]:
        """Both responses."""
        return self.first, self.second


@dataclass(frozen=True, slots=True)
class RatedResponse:
    """A response with a thumb: `desirable` is up."""

    id: str
    response: TokenResponse
    desirable: bool


def pair_examples(pairs: Sequence[TokenPair], *, drop_ties: bool = False) -> list[PreferenceExample]:
    """Return one example per pair."""
    return [
        PreferenceExample(pair.id, *_sides(pair), pair.label, pair.domain, pair.language)
        for pair in pairs
        if not (drop_ties and pair.label == 0.5)
    ]


def rated_from_pairs(pairs: Sequence[TokenPair]) -> list[RatedResponse]:
    """Split each pair into a thumb up for the better side and a thumb down for the other. Ties are left out."""
    rated = []
    for pair in pairs:
        if pair.label == 0.5:
            continue
        for side, desirable in zip(_sides(pair), (pair.label > 0.5, pair.label < 0.5), strict=True):
            rated.append(RatedResponse(pair.id, side, desirable))
    return rated


def rated_from_rows(rows: Sequence[TokenDemonstration]) -> list[RatedResponse]:
    """Return the responses of rows with a thumb."""
    return [
        RatedResponse(row.id, TokenResponse(row.tokens, row.response_mask.index(True)), bool(row.desirable))
        for row in rows
    ]


def rated_examples(rated: Sequence[RatedResponse], seed: int, max_length: int) -> list[PreferenceExample]:
    """Return one example per rated response, each with the response to another prompt for KTO's KL.

    The other response is drawn once for the whole run (by the seed), so that the reference scores it once. It is
    shortened to fit `max_length`. Where all rows have one prompt, it is a response to that prompt.
    """
    order = permutation(len(rated), seed, "KTO mismatched")
    examples: list[PreferenceExample | None] = [None] * len(rated)
    for place, i in enumerate(order):
        row, other = rated[i], _mismatched(rated, order, place)
        prompt = row.response.tokens[: row.response.prompt_length]
        # One token at least: an empty response has no log-probability.
        room = max(max_length - len(prompt), 1)
        tokens = (*prompt, *other.tokens[other.prompt_length :][:room])
        second = TokenResponse(tokens, len(prompt))
        examples[i] = PreferenceExample(row.id, row.response, second, float(row.desirable))
    return [example for example in examples if example is not None]


def _mismatched(rated: Sequence[RatedResponse], order: Sequence[int], place: int) -> TokenResponse:
    """Return the next response in `order` that belongs to another prompt; the next one if there is none."""
    response = rated[order[place]].response
    prompt = response.tokens[: response.prompt_length]
    for step in range(1, len(order)):
        other = rated[order[(place + step) % len(order)]].response
        if other.tokens[: other.prompt_length] != prompt:
            return other
    return rated[order[(place + 1) % len(order)]].response


def _sides(pair: TokenPair) -> tuple[TokenResponse, TokenResponse]:
    start = prompt_length(pair)
    return TokenResponse(pair.chosen_tokens, start), TokenResponse(pair.rejected_tokens, start)
