"""Which updates a run recorded, and one line for everything that can be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from recorded_run import rollouts

from harken.cli import main as cli
from harken.config import RunConfig
from harken.config import files as config_files
from harken.errors import UserError
from harken.inspection.recorded import format_ranges, read_step, to_rollout

MakeRun = Callable[..., Path]


def test_a_recorded_response_is_read_back_unchanged(make_run: MakeRun) -> None:
    step = read_step(make_run(), 3)
    assert [to_rollout(row) for row in step.rollouts] == rollouts()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([1, 2, 3], "1–3"), ([1, 3, 4, 5, 9, 11, 12], "1, 3–5, 9, 11–12")],
)
def test_spans(numbers: list[int], text: str) -> None:
    assert format_ranges(numbers) == text


def test_a_missing_update_names_those_that_exist(make_run: MakeRun) -> None:
    root = make_run()
    for number in (4, 5, 9):
        make_run(number=number)
    with pytest.raises(
        UserError, match=r"step 7: this update was not recorded. Fix: choose a recorded update: 3–5, 9"
    ):
        read_step(root, 7)
    (root / "credit" / "update-000004.parquet").unlink()
    with pytest.raises(
        UserError, match=r"step 4: rollouts/ has this update .*choose an update with both: 3, 5, 9"
    ):
        read_step(root, 4)


def test_a_run_of_before_has_no_credit(make_run: MakeRun) -> None:
    root = make_run()
    (root / "credit" / "update-000003.parquet").unlink()
    (root / "credit").rmdir()
    with pytest.raises(UserError, match="choose an update with both: none"):
        read_step(root, 3)


def test_a_folder_without_a_run_or_with_another_one(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run: .*name the folder of a PPO run"):
        read_step(tmp_path, 3)
    pipeline = tmp_path / "pipeline"
    make_run("pipeline/03_ppo")
    with pytest.raises(UserError, match=r"name the PPO run: .*03_ppo"):
        read_step(pipeline, 3)
    sft = tmp_path / "sft"
    sft.mkdir()
    config = RunConfig.model_validate({"data": {"path": "x"}, "training": {"type": "sft"}})
    (sft / "config.yml").write_text(config_files.dump(config))
    with pytest.raises(UserError, match=r"this is a run of type sft. Fix: name the folder of a PPO run"):
        read_step(sft, 3)


def test_tables_of_different_responses_are_refused(make_run: MakeRun) -> None:
    root = make_run()
    path = root / "credit" / "update-000003.parquet"
    table = pq.read_table(path)
    for wrong in (table.slice(1), table.take([1, 0, 2, 3, 4, 5])):
        pq.write_table(wrong, path)
        with pytest.raises(UserError, match="describe different responses"):
            read_step(root, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "{run}"], "Missing option '--step'"),
        (["trace", "{run}", "--step", "0"], "choose a recorded update: 3"),
        (["trace", "{run}", "--step", "3", "--rows", "6"], "the update has 6 responses, numbered from 0"),
        (["trace", "{run}", "--step", "3", "--rows", "a"], "'a' is not a list of row numbers"),
        (["trace", "{run}", "--step", "3", "--prompt", "x"], "no prompt 'x' in update 3"),
        (["trace", "{run}", "--step", "3", "--prompt", "x", "--rows", "1"], "cannot be combined"),
        (["trace", "{run}", "--step", "3", "--all"], "--out tokens.parquet"),
        (["replay", "{run}", "--step", "3", "--set", "training.ppo.klcoef=1"], "Fix: write kl_coef"),
        (["replay", "{run}", "--step", "3", "--set", "training.ppo.gamma=2"], "gamma"),
        (["replay", "{run}", "--step", "3", "--set", "training.ppo.max_gen_len=9"], "needs a new generation"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(
    arguments: list[str], message: str, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_run()
    assert cli.main([argument.format(run=root) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert message in output.err
