"""Make demonstrations and pairs by the constitutional recipe: response, critique by a principle, revision.

Source: Bai et al. 2022, arXiv:2212.08073, section 3 (the supervised phase); the pairs compare the revision with
the first response, and `harken label` can have a judge decide them again (their second phase).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harken.config.constitution import ConstitutionConfig, LocalWriter, Principle
from harken.data import sources
from harken.evaluation import fixed_inputs
from harken.generation.constitution_page import write_steps_page
from harken.generation.once import WrittenResults, write_once
from harken.generation.principles import read_principles
from harken.generation.writers import Writer, load_writer
from harken.records import Message, Prompt
from harken.run import atomic, signals
from harken.run.counted import counted
from harken.run.folder import PairsFolder
from harken.run.lock import write_lock
from harken.run.shards import load_or_make_shard
from harken.run.terminal import counter
from harken.seeds import derive_seed

PROMPTS_IN_A_SHARD = 8
"""Number of prompts per shard."""
ASK_CRITIQUE = "Critique your last response. {critique}"
ASK_REVISION = "Rewrite your last response. {revision} Reply with the new response and nothing else."
SMALL_MODEL_NOTE = "note: a small model's critiques are weak. Read steps.html before you train on the rows"


def run_constitution(config: ConstitutionConfig, output: Path) -> PairsFolder:
    """Write steps.jsonl, steps.html, demonstrations.jsonl and pairs.jsonl. With the same folder it resumes.

    Raises UserError when the prompts, the principles or the model cannot be read, and RunFailed when an endpoint fails.
    """
    principles = read_principles(config.principles)
    prompts, _ = sources.load_prompts(config.data, seed=config.seed)
    writer = load_writer(config)
    with write_lock(output):
        with signals.handle_signals():
            folder = _run(config, principles, prompts, writer, PairsFolder(output))
        signals.raise_if_pending()
        return folder


def _run(
    config: ConstitutionConfig,
    principles: Sequence[Principle],
    prompts: Sequence[Prompt],
    writer: Writer,
    folder: PairsFolder,
) -> PairsFolder:
    settings = config.model_dump(mode="json", exclude={"output_dir"}) | {
        "fingerprints": {"writer": writer.identity, "prompts": fixed_inputs.fingerprint_prompts(prompts)},
        "principle_texts": [principle.model_dump() for principle in principles],
    }

    def make() -> WrittenResults:
        steps = _steps(config, principles, prompts, writer, folder.shards)
        counts = Counter(_left_out(step) or "pairs" for step in steps)
        kept_steps = [step for step in steps if not _left_out(step)]
        _write_lines(folder.steps, steps)
        _write_lines(folder.demonstrations, [_demonstration(step) for step in kept_steps])
        _write_lines(folder.pairs, [_pair(step) for step in kept_steps])
        write_steps_page(folder.page, steps)
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.items() if reason != "pairs")
        lines = [SMALL_MODEL_NOTE] if isinstance(config.writer, LocalWriter) else []
        lines += [f"without a pair: {reasons}"] if reasons else []
        lines.append(
            f"{folder.pairs}: {counted(len(kept_steps), 'pair')} of {counted(len(prompts), 'prompt')}; "
            f"read them in {folder.page}"
        )
        return WrittenResults(
            {"writer": writer.identity, "principles": config.principles}, dict(counts), lines
        )

    write_once(folder, settings, make)
    return folder


def _steps(
    config: ConstitutionConfig,
    principles: Sequence[Principle],
    prompts: Sequence[Prompt],
    writer: Writer,
    shards: Path,
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    with counter("constitution", len(prompts)) as count:
        for start in range(0, len(prompts), PROMPTS_IN_A_SHARD):
            signals.raise_if_stopped()
            batch = prompts[start : start + PROMPTS_IN_A_SHARD]
            path = shards / f"steps-{start:06d}.jsonl"
            steps += load_or_make_shard(path, partial(_batch, config, principles, batch, writer))
            count.update(len(batch))
    return steps


def _batch(
    config: ConstitutionConfig, principles: Sequence[Principle], prompts: Sequence[Prompt], writer: Writer
) -> list[dict[str, Any]]:
    """Return one row per prompt: the response, and for each round principle, critique and revision."""
    responses = writer.write([prompt.messages for prompt in prompts], "constitution response")
    current, rounds = list(responses), [list[dict[str, str]]() for _ in prompts]
    for round_index in range(config.rounds):
        chosen = [
            principles[derive_seed(config.seed, "principle", prompt.id, round_index) % len(principles)]
            for prompt in prompts
        ]
        conversations = [
            [
                *prompt.messages,
                Message("assistant", text),
                Message("user", ASK_CRITIQUE.format(critique=principle.critique)),
            ]
            for prompt, text, principle in zip(prompts, current, chosen, strict=True)
        ]
        critiques = writer.write(conversations, f"constitution critique {round_index}")
        conversations = [
            [
                *turns,
                Message("assistant", critique),
                Message("user", ASK_REVISION.format(revision=principle.revision)),
            ]
            for turns, critique, principle in zip(conversations, critiques, chosen, strict=True)
        ]
        current = writer.write(conversations, f"constitution revision {round_index}")
        for steps, principle, critique, revision in zip(rounds, chosen, critiques, current, strict=True):
            steps.append({"principle": principle.name, "critique": critique, "revision": revision})
    return [
        {
            "id": prompt.id,
            "prompt": [message.to_dict() for message in prompt.messages],
            "response": response,
            "rounds": steps,
            "model": writer.identity["model"],
        }
        for prompt, response, steps in zip(prompts, responses, rounds, strict=True)
    ]


def _left_out(step: dict[str, Any]) -> str:
    """Return why a row is left out of demonstrations and pairs; "" if it is used."""
    texts = [
        step["response"],
        *(step_round[key] for step_round in step["rounds"] for key in ("critique", "revision")),
    ]
    if not all(text.strip() for text in texts):
        return "with an empty step"
    return "with a revision that changes nothing" if texts[-1].strip() == texts[0].strip() else ""


def _columns(step: dict[str, Any]) -> dict[str, Any]:
    last_round = step["rounds"][-1]
    return {
        "model": step["model"],
        "principle": ", ".join(step_round["principle"] for step_round in step["rounds"]),
        "critique": last_round["critique"],
        "revision": last_round["revision"],
    }


def _demonstration(step: dict[str, Any]) -> dict[str, Any]:
    turn = {"role": "assistant", "content": step["rounds"][-1]["revision"]}
    return {"id": step["id"], "messages": [*step["prompt"], turn], **_columns(step)}


def _pair(step: dict[str, Any]) -> dict[str, Any]:
    sides = {"chosen": step["rounds"][-1]["revision"], "rejected": step["response"]}
    return {
        "id": step["id"],
        "prompt": step["prompt"],
        **{side: [{"role": "assistant", "content": text}] for side, text in sides.items()},
        "preference_strength": 1.0,
        "rater": "constitution",
        **_columns(step),
    }


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    atomic.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
