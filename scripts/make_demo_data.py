"""Make the demo's data: responses of the embedded model, compared by the rule in `harken.reward.demo_gold`.

    python scripts/make_demo_data.py --model embedded --candidates candidates.jsonl.gz

1. Prompts come from scripts/demo_prompts/<domain>.jsonl, written for this project, and are split by the seed.
2. The model responds to each training prompt eight times: at two temperatures, with the prompt as written and
   with HINT appended (without it, few responses end within the token limit). `--candidates` stores them, so that
   pairs can be made again without sampling.
3. Pairs are drawn from responses that ended by themselves, and labelled by the gold rule with noise.

The same seed, model and machine give the same files, byte for byte. Everything here is synthetic.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from harken import seeds
from harken.records import Message, Prompt
from harken.reward.demo_gold import GOLD_VERSION, gold_score, keyword_hits, normalised_words

SEED = 839
DOMAINS = ("facts", "advice", "writing", "explain")
SPLIT = {"preferences": 80, "extra": 24, "heldout": 24}
"""Prompts per domain: in the preferences; only in the PPO prompts; never in training."""

HINT = " Answer in one short sentence."
TEMPERATURES = (1.0, 0.7)
SAMPLES = 2
"""Samples per prompt and temperature, with and without the hint."""
MAX_TOKENS = 128

PAIRS_PER_PROMPT = 4
TIE_BELOW = 0.02
"""A pair is a tie if its gold scores differ by less than this."""
TIES_KEPT = 0.35
"""Share of the ties that are kept."""
NOISE_TEMPERATURE = 0.1
"""P(label = the better response) = 1 / (1 + exp(-|difference of gold| / this)): Bradley–Terry."""

DEMO = Path(__file__).parents[1] / "src" / "harken" / "data" / "demo"
PROMPTS = Path(__file__).parent / "demo_prompts"

Row = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--model", default="embedded", help="anything model_name accepts")
    options.add_argument("--candidates", type=Path, default=Path("candidates.jsonl.gz"))
    options.add_argument("--out", type=Path, default=DEMO)
    chosen = options.parse_args()
    groups = split_prompts(read_prompts())
    if not chosen.candidates.exists():
        write(chosen.candidates, sample_candidates(groups["preferences"], chosen.model))
    candidates = read(chosen.candidates)
    pairs = make_pairs(groups["preferences"], candidates)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write(chosen.out / "preferences.jsonl.gz", pairs)
    write(chosen.out / "prompts.jsonl.gz", map(prompt_row, groups["preferences"] + groups["extra"]))
    write(chosen.out / "heldout.jsonl.gz", map(prompt_row, groups["heldout"]))
    report(groups["preferences"], candidates, pairs)


def read_prompts() -> list[Prompt]:
    """Read all prompts, domain by domain, in the order of their files."""
    return [
        Prompt(
            row["id"], (Message("user", row["prompt"]),), domain, "en", details={"keywords": row["keywords"]}
        )
        for domain in DOMAINS
        for row in map(json.loads, (PROMPTS / f"{domain}.jsonl").read_text().splitlines())
    ]


def split_prompts(prompts: list[Prompt]) -> dict[str, list[Prompt]]:
    """Return the prompts of each split, with domains mixed."""
    groups: dict[str, list[Prompt]] = {name: [] for name in SPLIT}
    for domain in DOMAINS:
        rows = [p for p in prompts if p.domain == domain]
        order = iter(seeds.permutation(len(rows), SEED, "demo split", domain))
        for name, count in SPLIT.items():
            groups[name] += [rows[next(order)] for _ in range(count)]
    return {
        name: [group[i] for i in seeds.permutation(len(group), SEED, "demo order", name)]
        for name, group in groups.items()
    }


def sample_candidates(prompts: list[Prompt], model: str) -> list[Row]:
    """Sample responses of the model to each prompt, and record their settings."""
    import torch

    from harken.data.chat import Renderer
    from harken.models.backbone import Backbone
    from harken.models.resolve import resolve
    from harken.rollout.engine import Sampling
    from harken.rollout.in_process import InProcessEngine

    backbone = Backbone.load(resolve(model), torch.bfloat16, "cpu")
    engine = InProcessEngine(backbone, Renderer(backbone.tokenizer), None, prompt_limit=128, batch_size=64)
    rows = []
    for hint in ("", HINT):
        asked = [Prompt(p.id, (Message("user", p.last_user_message + hint),), p.domain) for p in prompts]
        for temperature in TEMPERATURES:
            sampling = Sampling(MAX_TOKENS, temperature, seed=SEED, samples=SAMPLES)
            purpose = f"demo candidates {temperature}{hint}"
            for rollout in engine.generate(asked, sampling, "base", purpose):
                rows.append(
                    {
                        "id": rollout.prompt.id,
                        "text": rollout.text,
                        "stop": rollout.stop,
                        "tokens": len(rollout.response_tokens),
                        "temperature": temperature,
                        "hinted": bool(hint),
                    }
                )
            print(f"{len(rows)} candidates", flush=True)
    return rows


def make_pairs(prompts: list[Prompt], candidates: list[Row]) -> list[Row]:
    """Draw up to PAIRS_PER_PROMPT labelled pairs per prompt from its distinct responses that ended."""
    ended: dict[str, list[str]] = {p.id: [] for p in prompts}
    for row in candidates:
        text = row["text"].strip()
        if row["stop"] == "end_of_turn" and normalised_words(text) and text not in ended[row["id"]]:
            ended[row["id"]].append(text)
    pairs = []
    for prompt in prompts:
        draw = seeds.generator(SEED, "demo pairs", prompt.id)
        options = list(combinations(ended[prompt.id], 2))
        kept: list[Row] = []
        for i in draw.permutation(len(options)):
            left, right = options[i]
            pair = label_pair(prompt, left, right, draw)
            if pair and len(kept) < PAIRS_PER_PROMPT:
                kept.append({**pair, "id": f"{prompt.id}-pair-{len(kept)}"})
        pairs += kept
    return pairs


def label_pair(prompt: Prompt, left: str, right: str, draw: np.random.Generator) -> Row | None:
    """Return the pair in random order with a noisy label, or None for a tie that is dropped."""
    swap, noise = draw.random() < 0.5, draw.random()
    a, b = (right, left) if swap else (left, right)
    difference = gold_score(prompt, a, "end_of_turn") - gold_score(prompt, b, "end_of_turn")
    if abs(difference) < TIE_BELOW:
        if noise >= TIES_KEPT:
            return None
        label = "tie"
    else:
        label = "A" if noise < 1.0 / (1.0 + math.exp(-difference / NOISE_TEMPERATURE)) else "B"
    return {
        **prompt_row(prompt),
        "response_a": a,
        "response_b": b,
        "label": label,
        "source": f"synthetic: {GOLD_VERSION}",
    }


def prompt_row(prompt: Prompt) -> Row:
    """Return the stored form of a prompt."""
    return {
        "id": prompt.id,
        "prompt": prompt.last_user_message,
        "keywords": prompt.details["keywords"],
        "domain": prompt.domain,
        "language": prompt.language,
        "source": "synthetic: written for the Harken demo",
    }


def report(prompts: list[Prompt], candidates: list[Row], pairs: list[Row]) -> None:
    """Print the facts that the README of the data states."""
    by_id = {p.id: p for p in prompts}
    for row in candidates:
        row["gold"] = gold_score(by_id[row["id"]], row["text"], row["stop"])
        row["domain"] = by_id[row["id"]].domain
    print("| candidates | n | ended ≤ 64 | ended ≤ 128 | gold mean | sd | 10 % | 50 % | 90 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    groups = {d: [r for r in candidates if r["domain"] == d] for d in DOMAINS}
    for hinted in (False, True):
        for t in TEMPERATURES:
            name = f"T {t}{', hinted' if hinted else ''}"
            groups[name] = [r for r in candidates if (r["temperature"], r["hinted"]) == (t, hinted)]
    for name, rows in (groups | {"all": candidates}).items():
        done = [r["stop"] == "end_of_turn" for r in rows]
        short = [ok and r["tokens"] <= 64 for ok, r in zip(done, rows, strict=True)]
        scores = np.array([r["gold"] for r in rows])
        low, middle, high = np.quantile(scores, [0.1, 0.5, 0.9])
        print(
            f"| {name} | {len(rows)} | {np.mean(short):.0%} | {np.mean(done):.0%} | {scores.mean():.2f} "
            f"| {scores.std():.2f} | {low:.2f} | {middle:.2f} | {high:.2f} |"
        )
    print({d: sum(p["domain"] == d for p in pairs) for d in DOMAINS}, len(pairs), "pairs")
    print(pair_facts(by_id, pairs))


def pair_facts(prompts: dict[str, Prompt], pairs: list[Row]) -> dict[str, float]:
    """Return rates of ties and label flips, and the accuracy of simple rules (a rule's tie counts one half)."""
    decided = [p for p in pairs if p["label"] != "tie"]
    signs = [1.0 if p["label"] == "A" else -1.0 for p in decided]

    def agreement(measure: Any) -> float:
        gaps = [measure(p, p["response_a"]) - measure(p, p["response_b"]) for p in decided]
        return float(np.mean([(np.sign(gap) * sign + 1) / 2 for gap, sign in zip(gaps, signs, strict=True)]))

    def prompt_of(row: Row) -> Prompt:
        return prompts[row["id"].rsplit("-pair-", 1)[0]]

    def hits(row: Row, text: str) -> int:
        return keyword_hits(row["keywords"], normalised_words(text))

    return {
        "ties": 1 - len(decided) / len(pairs),
        "flips": 1 - agreement(lambda row, text: gold_score(prompt_of(row), text, "end_of_turn")),
        "shorter wins": agreement(lambda row, text: -len(normalised_words(text))),
        "longer wins": agreement(lambda row, text: len(normalised_words(text))),
        "more keywords wins": agreement(hits),
    }


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write gzipped JSONL without a timestamp, so that equal rows give equal bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


if __name__ == "__main__":
    main()
