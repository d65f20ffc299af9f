"""The command line: each command is one call into a package.

Commands import what they call when they run: torch and transformers take seconds to import, and
`harken --help`, `harken presets` and a mistyped key should respond at once.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from harken import __version__
from harken.cli.chat import policy_commands
from harken.cli.data import data_commands
from harken.cli.evaluation import evaluation_commands
from harken.cli.generation import generation_commands
from harken.cli.inspection import inspection_commands
from harken.cli.judge import judge_commands, label_commands
from harken.cli.next_steps import QUICK, after_demo
from harken.cli.options import AcceptChanges, OutputDir, Set, output_dir_option
from harken.cli.os_errors import FIX_DISK_FULL, OS_ERROR_FIXES
from harken.cli.preflight import preflight
from harken.cli.presets import presets
from harken.cli.review import hard_negative_commands, review_commands
from harken.cli.sycophancy import sycophancy_commands
from harken.config import files as config_files
from harken.config.stages import resolve_stages
from harken.errors import UserError, describe_exception, is_third_party_error
from harken.run import crash_report, signals, streams
from harken.run.lock import resume_hint
from harken.run.signals import Stopped
from harken.run.terminal import show, strip_control

THREAD_TIMEOUT = 5.0
"""Seconds that threads of user code may run after the command ends."""
MAX_MESSAGE = 2000
"""Largest number of characters of an error line, which may quote text of any length."""
FILES = {
    "card", "demo", "train", "pipeline", "sweep", "eval", "generate", "score", "pairs", "hard-negatives", "review",
    "judge", "label", "constitution", "export", "report",
}  # fmt: skip
"""Commands whose results are in files, so that lost output is not an error."""

app = typer.Typer(
    name="harken",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(inspection_commands)
app.add_typer(preflight)
app.add_typer(data_commands, name="data")
app.add_typer(evaluation_commands)
app.add_typer(generation_commands)
app.add_typer(policy_commands)
app.add_typer(judge_commands, name="judge")
app.add_typer(label_commands)
app.add_typer(review_commands, name="review")
app.add_typer(hard_negative_commands)
app.add_typer(sycophancy_commands, name="sycophancy")
app.add_typer(presets, name="presets")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. A usage error is one line on stderr and code 2.

    Code 1: the command started but failed: user code raised, too many steps were not finite, frozen weights changed, or
    Harken has a bug (the error line names a file with the traceback). With HARKEN_DEBUG=1 every error is raised.
    """
    if arguments is not None:
        return _run(arguments)
    signals.raise_on_terminate()
    streams.make_output_non_failing()
    code = _run(None)
    _end_in_time(code)
    return code


def _run(arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("HARKEN_DEBUG") == "1":
        return app(words or ["--help"], prog_name="harken", standalone_mode=False) or 0
    try:
        code = app(words or ["--help"], prog_name="harken", standalone_mode=False) or 0
    except UserError as error:
        return _print_error(str(error), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "harken"
        return _print_error(f"{error.format_message().rstrip('.')}. Fix: see {command} --help")
    except OSError as error:
        if error.errno not in OS_ERROR_FIXES:
            return _report_bug(error)
        where, fix = error.filename or "a file", OS_ERROR_FIXES[error.errno]
        return _print_error(f"{where}: {error.strerror}. Fix: {fix}")
    except Stopped as stop:
        code = int(stop.code or 0)
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        if not is_third_party_error(error) and not isinstance(error, SystemExit):
            raise
        return _report_bug(error)
    if code in (129, 130, 143):
        _print_error(f"interrupted. {resume_hint()}".strip())
    # A closed pipe, as in `harken … | head`, is not an error; any other write error of the output is.
    problem = streams.write_error("stdout")
    if code == 0 and problem is not None and problem.errno != errno.EPIPE and not FILES & set(words[:1]):
        fix = OS_ERROR_FIXES.get(problem.errno or 0, FIX_DISK_FULL)
        return _print_error(f"standard output: {problem.strerror}. Fix: {fix}")
    return code


def _report_bug(error: BaseException) -> int:
    """Report an unexpected exception as a bug in Harken, and write its traceback to a file."""
    path = crash_report.write_crash_report(error)
    attach = f"attach {path}" if path else "attach the traceback, which HARKEN_DEBUG=1 shows"
    return _print_error(
        f"internal error ({describe_exception(error)}). This is a bug in Harken, please report it and {attach}. "
        "Finished work is kept: run the same command again to resume",
        1,
    )


def _end_in_time(code: int) -> None:
    """Exit after THREAD_TIMEOUT even if a thread of a reward function never ends; the interpreter would wait for it."""
    isolation = sys.modules.get("harken.reward.isolation")  # not imported here, because it imports torch
    if isolation is None or not isolation.running_user_threads():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    timer = threading.Timer(THREAD_TIMEOUT, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _print_error(text: str, code: int = 2) -> int:
    line = " ".join(strip_control(text).split())
    if len(line) > MAX_MESSAGE:  # the end often states the fix
        line = f"{line[: MAX_MESSAGE * 2 // 3]} … {line[-MAX_MESSAGE // 3 :]}"
    print(f"harken: {line}", file=sys.stderr)
    return code


def _version(show_version: bool) -> None:
    if show_version:
        typer.echo(f"harken {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """RLHF you can see into. Runs supervised fine-tuning, reward-model training, PPO, evaluation and a report.

    \b
    Examples:
      harken demo                              run the whole pipeline on a laptop
      harken presets list                      list the shipped configurations
      harken train --preset smollm2-135m_sft   train one stage
    """


@app.command()
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Run two steps per stage, to test the installation.")
    ] = False,
    output_dir: OutputDir = None,
) -> None:
    """Run the whole pipeline on the embedded data.

    Prints the next steps at the end.

    \b
    Examples:
      harken demo
      harken demo --quick --output-dir /tmp/harken-demo
    """
    folder = output_dir or Path("outputs/demo-quick" if quick else "outputs/demo")
    config = config_files.load_pipeline("demo", list(QUICK) if quick else [], folder)

    from harken import pipeline as pipelines

    pipelines.run_pipeline(config, folder)
    show(after_demo(resolve_stages(config, folder)[-1].output))


@app.command()
def train(
    preset: Annotated[
        str,
        typer.Option("--preset", "--config", metavar="NAME|FILE", help="A preset's name or a YAML file."),
    ],
    set_: Set = None,
    output_dir: OutputDir = None,
    accept_changes: AcceptChanges = False,
) -> None:
    """Train one stage, for example a reward model or PPO.

    A stage is SFT, a reward model, a classifier, PPO, DPO or online DPO. With the same folder, an interrupted run
    resumes. If the configuration, data, weights or versions have changed since it began, the command exits with an
    error that lists the changes.

    \b
    Examples:
      harken train --preset smollm2-135m_sft --output-dir outputs/01_sft
      harken train --preset smollm2-135m_rm --output-dir outputs/02_rm \\
          --set model_name=outputs/01_sft/final
      harken train --preset smollm2-135m_ppo --output-dir outputs/03_ppo \\
          --set model_name=outputs/01_sft/final \\
          --set training.reward_model.checkpoint_path=outputs/02_rm/final
      harken train --preset my_run.yml --set training.ppo.kl_coef=0.05
    """
    config = config_files.load_run(preset, set_ or [], output_dir)

    from harken.train.launch import train as train_stage

    train_stage(config, Path(str(config.output_dir)), accept_changes=accept_changes)


@app.command()
def pipeline(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A preset's name or a YAML file.")],
    set_: Set = None,
    output_dir: OutputDir = None,
    accept_changes: AcceptChanges = False,
) -> None:
    """Run the named stages of a file in order.

    For example SFT, reward model, PPO, evaluation and report. Each stage may use the outputs of earlier ones: @sft is
    that of stage sft. With the same folder, an interrupted pipeline resumes. Types of stages: docs/pipelines.md.

    \b
    Examples:
      harken pipeline hh-dolly-smollm2
      harken pipeline my_pipeline.yml --output-dir outputs/kl-0.02 \\
          --set stages.ppo.training.ppo.kl_coef=0.02
    """
    config = config_files.load_pipeline(name, set_ or [], output_dir)

    from harken import pipeline as pipelines

    pipelines.run_pipeline(config, Path(str(config.output_dir)), accept_changes=accept_changes)


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A PPO run, or a pipeline with --from.")],
    over: Annotated[
        list[str] | None, typer.Option(metavar="KEY=V,V", help="Values to try for one key. Repeatable.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N", help="Seeds to run each combination with.", show_default="that of the run"
        ),
    ] = None,
    set_: Set = None,
    from_: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="A finished pipeline.")] = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --from: the PPO stage.", show_default="the only one"),
    ] = None,
    output_dir: OutputDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Allow more than 50 runs.")] = False,
) -> None:
    """Train PPO under every combination of settings.

    Prints reward, held-out reward, judges and KL of each, mean ± standard error over seeds, and draws reward
    against KL. The same command resumes the sweep and keeps finished runs.

    \b
    Examples:
      harken sweep demo --from outputs/demo --over training.ppo.kl_coef=0,0.1,1
      harken sweep my_run.yml --over training.lr=1e-5,3e-5 --seeds 839,840
    """
    folder = output_dir or Path("outputs") / f"sweep-{Path(name).stem}"

    from harken import sweep as sweeps

    failed = sweeps.sweep(name, over or [], folder, seeds, set_ or [], from_, stage, yes=yes)
    raise typer.Exit(1 if failed else 0)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A pipeline, runs, an evaluation, a folder of them, or files of responses.",
        ),
    ],
    output_dir: Annotated[Path | None, output_dir_option("05_report in the folder", resumes=False)] = None,
    split: Annotated[
        bool,
        typer.Option(
            "--split", help="Write a small page and files of tokens beside it: index.html and shards/."
        ),
    ] = False,
) -> None:
    """Build the HTML report of runs and evaluations.

    It also reads a whole pipeline, and files of responses made elsewhere.

    \b
    Examples:
      harken report outputs/demo                    a pipeline
      harken report outputs                         a folder that holds the stages
      harken report outputs/03_ppo outputs/04_eval  a run and its evaluation
      harken report outputs/03_ppo                  one run
      harken report outputs/sweep --split           several runs side by side
      harken report responses.jsonl others.parquet  responses made anywhere
    """
    from harken import report as reports

    reports.report(folders, output_dir, split=split)


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A run, an evaluation, a pipeline, or a parent folder.")
    ],
) -> None:
    """Find damaged and missing files.

    Reads every file of every finished run, final model, evaluation and report under the folder, and every
    checkpoint, and compares them with their checksums. Exit code 1: a file is damaged or missing.

    \b
    Examples:
      harken verify outputs/demo
      harken verify outputs/03_ppo/final
    """
    from harken.run import verify as verification

    verified = verification.verify(folder)
    for folder_check in verified:
        typer.echo("\n".join(folder_check.lines()))
    raise typer.Exit(1 if any(folder_check.problems for folder_check in verified) else 0)


if __name__ == "__main__":
    sys.exit(main())
