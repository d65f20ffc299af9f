"""Define commands that inspect a recorded update: trace, replay. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harken.cli.options import Set
from harken.run.terminal import has_colour, show

inspection_commands = typer.Typer(rich_markup_mode=None)


@inspection_commands.command()
def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a PPO run.")],
    step: Annotated[int, typer.Option(metavar="N", help="Update number, starting at 1.")],
    rows: Annotated[
        str | None,
        typer.Option(metavar="0,3", help="Rows to show.", show_default="the best, median and worst reward"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="ID", help="Show the responses to one prompt.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.parquet", help="Write one row per token.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="With --out: write the tokens of every response.")
    ] = False,
) -> None:
    """Show recorded responses of an update, token by token.

    Log-probabilities, ratio, advantage, return, value, KL and reward, one line per token.

    \b
    Examples:
      harken trace outputs/03_ppo --step 10
      harken trace outputs/03_ppo --step 10 --rows 0,3
      harken trace outputs/03_ppo --step 10 --all --out tokens.parquet
    """
    from harken.inspection import trace as traces

    for line in traces.trace(run, step, rows, prompt, out, everything=all_, colour=has_colour()):
        typer.echo(line)


@inspection_commands.command()
def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a PPO run.")],
    step: Annotated[int, typer.Option(metavar="N", help="Update number, starting at 1.")],
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="Write the recomputed values.")
    ] = None,
) -> None:
    """Recompute a recorded update under other settings.

    Recomputes advantages and losses from the recorded rewards and log-probabilities, without generation or a model.
    Keys of training.ppo: kl_coef, kl_estimator, kl_in, gamma, lam, advantage, whiten_advantages, scale_rewards,
    drop_uniform_groups, loss_aggregation, importance_sampling_level, truncated, missing_eos_penalty, missing_eos_score,
    score_clip, length_penalty, repetition_penalty, overlong, clip_range, clip_range_high, vf_coef; and
    training.reward_model.weight, training.rewards[0].weight.

    \b
    Examples:
      harken replay outputs/03_ppo --step 10
      harken replay outputs/03_ppo --step 10 --set training.ppo.kl_coef=0.2
    """
    from harken.inspection import replay as replays

    for line in replays.replay(run, step, set_ or [], out):
        show(line)
