"""Define `harken card`: the report card of a reward model. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harken.cli.options import output_dir_option
from harken.run.terminal import show


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished reward run.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Further pairs, RewardBench or RM-Bench rows. Repeatable."),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "--pairs",
            min=1,
            metavar="N",
            show_default="all pairs",
            help="Score N pairs of each file, chosen by the seed.",
        ),
    ] = None,
    probe_pairs: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of pairs whose responses are edited.")
    ] = 200,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="The policy: compare its size with the reward model's.")
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Several responses per prompt: print the best-of-n curve."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The SFT model: accuracy by distance from it.",
            show_default="the SFT run that the reward model was trained on",
        ),
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Accuracy against pairs, and against flipped labels.")
    ] = False,
    output_dir: Annotated[Path | None, output_dir_option("RUN/card", resumes=False)] = None,
) -> None:
    """Say whether a reward model is worth optimising against.

    Scores held-out pairs, compares with simple baselines, edits responses in ways that add no quality, and names the
    faults: constant, flipped_labels, saturated, prefers_longer, prefers_shorter, ignores_prompt, exploitable,
    learnt_judge_bias. Writes card.json and card.md. The exit code is 0 for any card; the `gate` of a pipeline stops it.

    \b
    Examples:
      harken card outputs/02_rm
      harken card outputs/02_rm --data golden.jsonl --data rewardbench.parquet
      harken card outputs/02_rm --policy outputs/03_ppo --learning-curve
      harken card outputs/02_rm --samples outputs/samples/responses.parquet
    """
    from harken.card.markdown import card_lines
    from harken.card.run_card import CardRequest, card_of_run, run_of

    request = CardRequest(
        data=[str(path) for path in data or []],
        pairs=pairs,
        probe_pairs=probe_pairs,
        policy=policy,
        samples=samples,
        reference=reference,
        learning_curve=learning_curve,
    )
    report = card_of_run(run, request, output_dir)
    show("\n".join(card_lines(report)))
    show(f"\ncard     {(output_dir or run_of(run).card.root) / 'card.md'}")
