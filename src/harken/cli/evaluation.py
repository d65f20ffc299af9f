"""Define commands that compare policies after training: eval, compare, frontier. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harken.cli.options import OutputDir, Set, without_none
from harken.config import files as config_files
from harken.config.evaluation_options import policies_from, scorers_from
from harken.errors import UserError

evaluation_commands = typer.Typer(rich_markup_mode=None)


Policies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]POLICY...",
        help="Models, run folders, checkpoints or files of responses. The first is the baseline.",
    ),
]
EvaluationFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="NAME|FILE", help="A preset or a YAML file with the keys of an evaluation."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The prompts.", show_default="those of the files of responses"),
]
ScorerOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCORER",
        show_default="a column reward or score that all files have, else intact",
        help="A reward model's folder, my_reward.py:score, a rule such as intact, or column:NAME. Repeatable; the "
        "first gives the reward.",
    ),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Leave out the prompts of these rows, such as exported pairs of a review. Repeatable.",
    ),
]
Budgets = Annotated[
    str | None,
    typer.Option(metavar="N,N", help="Also compare the responses truncated at these numbers of tokens."),
]
BatchSensitivity = Annotated[
    int | None,
    typer.Option(metavar="N", help="Generate and score N prompts again, one at a time, and report changes."),
]
Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="NAME",
        help="sycophancy: probes of sycophancy and stubbornness in place of prompts (docs/sycophancy.md).",
    ),
]


@evaluation_commands.command("eval")
def evaluate(
    policies: Policies = None,
    config_file: EvaluationFile = None,
    data: Data = None,
    scorer: ScorerOption = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Responses per prompt.", show_default="1, or all of the files"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="0: greedy decoding.", show_default="0")
    ] = None,
    max_gen_len: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens per response.", show_default="64; 48 with --suite")
    ] = None,
    leave_out: LeaveOut = None,
    budgets: Budgets = None,
    batch_sensitivity: BatchSensitivity = None,
    suite_name: Suite = None,
    set_: Set = None,
    output_dir: OutputDir = None,
) -> None:
    """Compare policies on the same prompts.

    Prints tables, audits every response, and writes a page. A policy is a model that generates here, or a file of
    responses that another system generated: JSONL, JSON, parquet or CSV with a response and its prompt or prompt_id in
    every row.

    \b
    Examples:
      harken eval base.jsonl ours.jsonl
      harken eval base.jsonl ours.jsonl --scorer outputs/02_rm
      harken eval sft=outputs/01_sft ppo=outputs/03_ppo --data my_heldout.jsonl
      harken eval outputs/03_ppo --max-gen-len 256 --budgets 64,128
      harken eval --config my_eval.yml --output-dir outputs/04_eval
      harken eval --suite sycophancy embedded outputs/03_ppo
      harken eval --suite sycophancy outputs/03_ppo --data truthfulqa.jsonl
    """
    settings: dict[str, Any] = {} if not policies else {"policies": policies_from(policies)}
    if suite_name is not None:
        options = {
            "--scorer": scorer, "--samples": samples, "--temperature": temperature, "--leave-out": leave_out,
            "--budgets": budgets, "--batch-sensitivity": batch_sensitivity,
        }  # fmt: skip
        _check_suite(suite_name, options)
        settings |= without_none(data=None if data is None else [data], max_gen_len=max_gen_len)
        _evaluate_sycophancy(config_file, set_ or [], output_dir, settings)
        return
    settings |= (scorers_from(scorer) if scorer else {}) | without_none(
        data=None if data is None else {"path": data},
        leave_out=leave_out,
        samples=samples,
        temperature=temperature,
        max_gen_len=max_gen_len,
        budgets=_integers(budgets, "--budgets"),
        batch_sensitivity=batch_sensitivity,
    )
    _evaluate_responses(config_file, set_ or [], output_dir, settings)


def _evaluate_responses(
    config_file: str | None, overrides: list[str], output_dir: Path | None, values: dict[str, Any]
) -> None:
    if config_file is None and "policies" not in values:
        raise UserError(
            "no policies to compare",
            fix="name models or files of responses, or a file of settings with --config (harken eval --help)",
        )
    config = config_files.load_evaluation(config_file, overrides, output_dir, values)

    from harken import report as reports
    from harken.evaluation import budget_table, suite
    from harken.run import json_io
    from harken.run.terminal import show

    folder = suite.run_evaluation(config, Path(str(config.output_dir)))
    reports.report([folder.root])
    show("\n" + "\n".join(json_io.read_object(folder.audit)["description"]))
    if folder.budgets.exists():
        show(budget_table.budget_table(budget_table.read_budgets(folder.budgets)))


def _check_suite(name: str, options: dict[str, Any]) -> None:
    """Raise UserError for an unknown suite, and for options that the suites do not have."""
    if name != "sycophancy":
        raise UserError(f"there is no suite {name!r}", where="--suite", fix="write --suite sycophancy")
    if unused := [option for option, value in options.items() if value is not None]:
        raise UserError(
            f"the suite does not use {', '.join(unused)}: probes are scored by log-probabilities",
            where="--suite sycophancy",
            fix="remove them (keys of the suite: docs/sycophancy.md)",
        )


def _evaluate_sycophancy(
    config_file: str | None, overrides: list[str], output_dir: Path | None, values: dict[str, Any]
) -> None:
    if config_file is None and "policies" not in values:
        raise UserError(
            "no policies to evaluate",
            where="--suite sycophancy",
            fix="name models or run folders (harken eval --help)",
        )
    config = config_files.load_sycophancy(config_file, overrides, output_dir, values)

    from harken.generation.sycophancy import run_sycophancy
    from harken.run import json_io
    from harken.run.terminal import show
    from harken.sycophancy.table import sycophancy_table

    folder = run_sycophancy(config, Path(str(config.output_dir)))
    results = json_io.read_object(folder.results)
    show("\n" + sycophancy_table(results, results["references"]))


def _integers(text: str | None, option: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UserError(
            f"{text!r} is not a list of whole numbers", where=option, fix="write it as in 64,128"
        ) from None


@evaluation_commands.command("compare")
def compare_command(
    left: Annotated[Path, typer.Argument(metavar="A", help="A run, an evaluation or a pipeline.")],
    right: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
) -> None:
    """Show how two runs, evaluations or pipelines differ.

    Lists the settings that differ, and compares the results. Settings are grouped by what they can change. A comparison
    is called confounded where settings of several kinds differ. Policies of one name in two evaluations are compared on
    the prompts that both have.

    \b
    Examples:
      harken compare outputs/03_ppo outputs/03_ppo-kl0.05  two training runs
      harken compare outputs/04_eval outputs/04_eval-256   two evaluations
      harken compare outputs/demo outputs/demo-2           two pipelines
    """
    from harken.evaluation.compare_folders import compare_folders
    from harken.run.terminal import show

    show("\n".join(comparison.text() for comparison in compare_folders(left, right)).rstrip())


@evaluation_commands.command("frontier")
def frontier_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a PPO run.")],
    best_of: Annotated[
        int, typer.Option(metavar="N", min=1, help="Responses per prompt to choose from.")
    ] = 16,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "--prompts",
            metavar="N",
            min=1,
            show_default="all",
            help="Use the first N held-out prompts.",
        ),
    ] = None,
) -> None:
    """Compare a PPO run with best of n at equal KL.

    Also says whether the run over-optimised its reward. Samples from the policy that PPO started from, scores by the
    run's own reward and judges, and shows both curves against KL. `harken report` draws them on the page.

    \b
    Examples:
      harken frontier outputs/03_ppo
      harken frontier outputs/03_ppo --best-of 32 --limit 64
    """
    from harken.evaluation import overoptimisation
    from harken.evaluation.frontier import study_best_of_n
    from harken.evaluation.run_summary import read_metrics
    from harken.run.folder import RunFolder
    from harken.run.terminal import show

    curve = overoptimisation.read_best_of_n(study_best_of_n(run, best_of, limit))
    points = overoptimisation.checkpoint_points(read_metrics(RunFolder(run)))
    show(overoptimisation.frontier_table(points, curve))
    show("\n" + "\n".join(overoptimisation.sentences(points, curve)))
