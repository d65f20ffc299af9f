"""Write the report cards of a reward model on HH-RLHF pairs and of four sabotaged ones.

    python benchmarks/reward_cards.py PAIRS OUT [--chars 300] [--held-out 200] [--training 400]

PAIRS is a file of HH-RLHF transcripts. Only pairs with at most --chars characters on each side are used. The hidden
states of the base are computed once and kept in OUT, because they take most of the time; each model is a linear head
fitted on them, with an L2 penalty chosen by cross-validation. The models:

    hh              the labels as they are
    flipped         fitted on swapped labels
    length_biased   fitted on "the longer response is better"
    prompt_blind    the head of hh, scoring without the prompts: the reward is a function of the response alone
    constant        the weights of the head are zero
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harken.batches import collate
from harken.card.baselines import fit_pair_weights
from harken.card.build import CardJob, build_card
from harken.card.faults import percent
from harken.card.markdown import to_markdown
from harken.card.model_scorer import ModelScorer
from harken.card.sets import LAST_WEIGHTS, PairSet
from harken.config.base import DataConfig
from harken.data.sources import load_preferences, prompt_key
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead, last_states
from harken.records import Message, Preference, Prompt

EMPTY = (Message("user", "Respond."),)
L2 = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""L2 penalties of the head that are tried, on features scaled so that a pair's difference has norm 1 on average."""
FOLDS = 5


class HeadScorer(ModelScorer):
    """Score with a linear head on frozen hidden states, each computed once. `blind`: without the prompts."""

    def __init__(self, model: RewardModel, store: Path, *, blind: bool = False) -> None:
        super().__init__(model, 256, batch_tokens=1024)
        self.store, self.blind = store, blind
        self.weights, self.bias = np.zeros(model.backbone.hidden_size), 0.0
        self.states: dict[str, np.ndarray] = {}
        if store.exists():
            kept = np.load(store)
            self.states = dict(zip(kept["keys"].tolist(), kept["states"], strict=True))

    def score_pairs(self, pairs: Any) -> Any:
        """Score pairs, without their prompts if blind."""
        if self.blind:
            pairs = [replace(p, prompt=replace(p.prompt, messages=EMPTY)) for p in pairs]
        return super().score_pairs(pairs)

    def score_responses(self, prompts: Any, responses: Any) -> Any:
        """Score responses, without their prompts if blind."""
        return super().score_responses(
            [Prompt("", EMPTY)] * len(responses) if self.blind else prompts, responses
        )

    def score_tokens(self, sequences: Any, batch_tokens: int | None = None) -> Any:
        """Apply the head to the hidden states of the sequences; NaN for None."""
        self.compute([tuple(s) for s in sequences if s is not None])
        found = [np.nan if s is None else self.states[key(s)] @ self.weights + self.bias for s in sequences]
        return np.array(found, dtype=np.float64)

    @torch.no_grad()
    def compute(self, sequences: Sequence[tuple[int, ...]]) -> None:
        """Compute the hidden states that are not there yet, and keep them."""
        missing = list(dict.fromkeys(s for s in sequences if key(s) not in self.states))
        backbone = self.model.backbone
        groups = backbone.micro_batches([[s] for s in missing], self.batch_tokens)
        for number, group in enumerate(groups):
            rows = [missing[i] for i in group]
            batch = collate(rows, [[False] * len(r) for r in rows], self.model.pad_token)
            with backbone.role(None):
                states = last_states(backbone.hidden(batch), batch).float().numpy()
            self.states |= {key(row): state for row, state in zip(rows, states, strict=True)}
            if number % 20 == 0:
                print(f"{len(self.states)} states", flush=True)
        if missing:
            np.savez(
                self.store, keys=np.array(list(self.states)), states=np.stack(list(self.states.values()))
            )

    def fit(self, pairs: Sequence[Preference], labels: np.ndarray) -> np.ndarray:
        """Fit the head's weights; `labels` are probabilities that `chosen` is better."""
        self.weights = np.zeros(self.model.backbone.hidden_size)
        self.score_pairs(pairs)
        asked = [replace(p, prompt=replace(p.prompt, messages=EMPTY)) for p in pairs] if self.blind else pairs
        sides = np.stack([self.states[key(side)] for side in self.encode_pair_sides(asked)]).astype(
            np.float64
        )
        x = sides[0::2] - sides[1::2]
        x /= (scale := np.sqrt((x**2).mean(0)) * x.shape[1] ** 0.5)
        return fit_pair_weights(x, labels, choose_l2(x, labels, [prompt_key(p) for p in pairs])) / scale


def choose_l2(x: np.ndarray, labels: np.ndarray, prompts: Sequence[str]) -> float:
    """Return the L2 penalty with the lowest cross-entropy in cross-validation; a prompt's pairs stay in one fold."""
    number = {prompt: i for i, prompt in enumerate(sorted(set(prompts)))}
    fold = np.array([number[prompt] % FOLDS for prompt in prompts])
    losses = []
    for l2 in L2:
        z = np.empty(len(x))
        for i in range(FOLDS):
            z[fold == i] = x[fold == i] @ fit_pair_weights(x[fold != i], labels[fold != i], l2)
        losses.append(float((labels * np.logaddexp(0, -z) + (1 - labels) * np.logaddexp(0, z)).mean()))
    chosen = L2[int(np.argmin(losses))]
    print(f"L2 {chosen}; cross-entropy by L2: {', '.join(f'{loss:.3f}' for loss in losses)}", flush=True)
    return chosen


def key(tokens: Sequence[int]) -> str:
    """Name a token sequence."""
    return hashlib.sha256(np.array(tokens, dtype=np.int32).tobytes()).hexdigest()[:24]


def main() -> None:
    """Fit the models, write their cards, and print what each card says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chars", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--training", type=int, default=400)
    parser.add_argument("--probe-pairs", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows, _ = load_preferences(DataConfig(path=str(given.pairs)))
    short = [p for p in rows if isinstance(p, Preference) and _length(p) <= given.chars]
    prompts = sorted({prompt_key(p) for p in short})
    aside = set(prompts[: len(prompts) // 3])
    held_out = [p for p in short if prompt_key(p) in aside][: given.held_out]
    training = [p for p in short if prompt_key(p) not in aside][: given.training]
    print(f"{len(training)} training pairs, {len(held_out)} held out", flush=True)
    backbone = Backbone.load(resolve("embedded"), WEIGHT_DTYPES["bfloat16"], "cpu")
    model = RewardModel(backbone, None, ScalarHead(backbone.hidden_size, 0.0))
    weights = np.zeros(backbone.hidden_size)
    for name in ("hh", "flipped", "length_biased", "constant", "prompt_blind"):
        blind, began = name == "prompt_blind", time.process_time()
        scorer = HeadScorer(model, given.out / ("blind.npz" if blind else "states.npz"), blind=blind)
        labels = np.ones(len(training))
        if name == "flipped":
            labels = 1 - labels
        if name == "length_biased":
            labels = np.array([np.sign(len(p.chosen) - len(p.rejected)) / 2 + 0.5 for p in training])
        scorer.bias = 0.3
        if name != "constant":
            scorer.weights = weights if blind else scorer.fit(training, labels)
        weights = scorer.weights if name == "hh" else weights
        job = CardJob(scorer, [PairSet(given.pairs.name, held_out, LAST_WEIGHTS)], training, {"model": name},
                      probe_pairs=given.probe_pairs)  # fmt: skip
        card = build_card(job)
        (given.out / f"{name}.json").write_text(json.dumps(card, indent=1))
        (given.out / f"{name}.md").write_text(to_markdown(card))
        print(f"\n== {name}: {time.process_time() - began:.0f} CPU seconds")
        print(card["status"], [fault["name"] for fault in card["faults"]], percent(card["accuracy"]))
        print(card["verdict"], flush=True)


def _length(pair: Preference) -> int:
    turns = sum(len(m.content) for m in pair.prompt.messages)
    return turns + max(len(pair.chosen), len(pair.rejected))


if __name__ == "__main__":
    main()
