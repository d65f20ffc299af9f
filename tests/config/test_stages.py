"""Stages of a pipeline: order, folders, references, rounds, and every mistake in one line with a fix that works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config import files as config_files
from harken.config.ppo import PPOTraining
from harken.config.stage_types import STAGE_TYPES
from harken.config.stages import PipelineStage, find_stage, resolve_stages
from harken.errors import UserError

ROWS = {"path": "rows.jsonl"}
SFT: dict[str, Any] = {"type": "sft", "data": ROWS}
RM: dict[str, Any] = {"type": "reward", "data": ROWS}
PPO: dict[str, Any] = {
    "type": "ppo",
    "data": ROWS,
    "training": {"reward_model": {"checkpoint_path": "@rm"}},
}


def resolved(stages: dict[str, Any], **keys: Any) -> dict[str, PipelineStage]:
    config = PipelineConfig.model_validate({"name": "x", "stages": stages, **keys})
    return {stage.name: stage for stage in resolve_stages(config, "out")}


def run_of(stage: PipelineStage) -> RunConfig:
    assert isinstance(stage.config, RunConfig)
    return stage.config


def error_of(stages: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        resolved(stages)
    return str(caught.value)


def test_folders_are_numbered_in_order() -> None:
    found = resolved({"tune": SFT, "rm": RM, "ppo": PPO, "report": {"type": "report"}})
    assert [str(stage.root) for stage in found.values()] == [
        "out/01_tune",
        "out/02_rm",
        "out/03_ppo",
        "out/04_report",
    ]
    assert [stage.number for stage in found.values()] == [1, 2, 3, 4]


def test_a_reference_is_the_output_of_an_earlier_stage_wherever_a_name_or_path_may_stand() -> None:
    found = resolved(
        {
            "sft": SFT,
            "rm": RM | {"model_name": "@sft"},
            "other": RM | {"model_name": "@sft"},
            "ppo": PPO
            | {
                "model_name": "@sft",
                "training": {
                    "rewards": [
                        {"type": "model", "checkpoint_path": "@rm"},
                        {"type": "ensemble", "checkpoint_paths": ["@rm", "@other"]},
                    ],
                    "ppo": {"judges": [{"type": "model", "name": "second", "checkpoint_path": "@other"}]},
                },
            },
            "first": {
                "type": "evaluation",
                "policies": {"Base": "@model", "Best": {"model_name": "@sft", "best_of": 4}, "PPO": "@ppo"},
                "reward_model": "@rm",
                "data": ROWS,
            },
            "second": {
                "type": "evaluation",
                "policies": {"Again": "@first"},
                "judges": ["intact"],
            },
        },
        model_name="start",
    )
    assert run_of(found["rm"]).model_name == "out/01_sft/final"
    training = run_of(found["ppo"]).training
    assert isinstance(training, PPOTraining)
    dumped = training.model_dump()
    assert dumped["rewards"][0]["checkpoint_path"] == "out/02_rm/final"
    assert dumped["rewards"][1]["checkpoint_paths"] == ["out/02_rm/final", "out/03_other/final"]
    assert training.ppo.judges[0].model_dump()["checkpoint_path"] == "out/03_other/final"
    first, second = found["first"].config, found["second"].config
    assert isinstance(first, EvaluationConfig) and isinstance(second, EvaluationConfig)
    assert [policy.model_name for policy in first.policies.values()] == [
        "start",
        "out/01_sft/final",
        "out/04_ppo/final",
    ]
    assert first.reward_model == "out/02_rm/final"
    assert second.policies["Again"].responses == "out/05_first/responses.parquet"
    assert sorted(found["ppo"].uses) == ["other", "rm", "sft"]
    assert found["first"].policies == {"Base": "model", "Best": "sft", "PPO": "ppo"}
    assert (found["ppo"].start, found["sft"].start) == ("sft", "model")


def test_names_of_columns_may_begin_with_the_sign_of_a_reference() -> None:
    found = resolved({"sft": SFT | {"data": ROWS | {"columns": {"prompt": "@question"}}}})
    assert run_of(found["sft"]).data.columns == {"prompt": "@question"}


def test_a_stage_takes_the_pipelines_settings_unless_it_has_its_own() -> None:
    found = resolved(
        {"one": SFT, "two": SFT | {"seed": 1, "dtype": "bfloat16", "model_name": "else"}},
        model_name="start", seed=7, device="cpu", dtype="float32", tensorboard=False,
    )  # fmt: skip
    one, two = run_of(found["one"]), run_of(found["two"])
    assert (one.model_name, one.seed, one.device, one.dtype, one.tensorboard) == (
        "start",
        7,
        "cpu",
        "float32",
        False,
    )
    assert (two.model_name, two.seed, two.device, two.dtype) == ("else", 1, "cpu", "bfloat16")
    assert found["two"].start is None


def test_any_stage_may_be_left_out_and_types_may_repeat() -> None:
    assert [s.type for s in resolved({"rm": RM, "ppo": PPO}).values()] == ["reward", "ppo"]
    only = {"type": "evaluation", "policies": {"a": "@model"}, "judges": ["intact"], "data": ROWS}
    assert list(resolved({"compare": only})) == ["compare"]
    twice = resolved(
        {
            "sft": SFT,
            "rm": RM,
            "careful": PPO | {"model_name": "@sft"},
            "rm2": RM,
            "bold": PPO | {"model_name": "@sft", "training": {"reward_model": {"checkpoint_path": "@rm2"}}},
        }
    )
    assert {run_of(twice[name]).model_name for name in ("careful", "bold")} == {"out/01_sft/final"}


# -- rounds ---------------------------------------------------------------------------------------


def rounds(count: int, **group: Any) -> dict[str, Any]:
    """SFT, then `count` rounds of a reward model and PPO, each from the policy of the round before."""
    inner = {
        "rm": RM | {"model_name": "@sft"},
        "ppo": PPO | {"model_name": "@previous"},
        "check": {"type": "evaluation", "policies": {"P": "@ppo"}, "reward_model": "@rm", "data": ROWS},
    }
    return {"sft": SFT, "rounds": {"repeat": count, "start": "@sft", "stages": inner} | group}


def test_a_group_runs_in_rounds_with_numbered_names() -> None:
    """The policy of a round is its last stage that makes one; each round has a seed of its own."""
    last = {"type": "evaluation", "policies": {"First": "@ppo_1", "Last": "@rounds"}, "judges": ["intact"]}
    found = resolved(rounds(3) | {"eval": last | {"data": ROWS}}, seed=10)
    assert list(found) == [
        "sft",
        *("rm_1", "ppo_1", "check_1", "rm_2", "ppo_2", "check_2", "rm_3", "ppo_3", "check_3"),
        "eval",
    ]
    assert [run_of(found[f"ppo_{n}"]).model_name for n in (1, 2, 3)] == [
        "out/01_sft/final",
        "out/03_ppo_1/final",
        "out/06_ppo_2/final",
    ]
    assert [run_of(found[f"ppo_{n}"]).seed for n in (1, 2, 3)] == [10, 11, 12]
    rewards = [run_of(found[f"ppo_{n}"]).training for n in (1, 2, 3)]
    assert [t.reward_model.checkpoint_path for t in rewards if isinstance(t, PPOTraining)] == [
        "out/02_rm_1/final",
        "out/05_rm_2/final",
        "out/08_rm_3/final",
    ]
    assert found["eval"].policies == {"First": "ppo_1", "Last": "ppo_3"}
    assert found["ppo_2"].start == "ppo_1" and found["ppo_1"].start == "sft"


def test_the_number_of_rounds_and_the_settings_of_all_are_set_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text(yaml.safe_dump({"name": "x", "stages": rounds(1)}, sort_keys=False))
    config = config_files.load_pipeline(
        str(tmp_path / "p.yml"), ["stages.rounds.repeat=2", "stages.rounds.stages.ppo.training.lr=1e-5"]
    )
    found = {stage.name: stage for stage in resolve_stages(config, "out")}
    assert [run_of(found[name]).training.lr for name in ("ppo_1", "ppo_2")] == [1e-5, 1e-5]
    assert found["ppo_2"].key == "stages.rounds.stages.ppo"


def test_the_first_round_may_start_from_a_model_of_no_stage() -> None:
    found = resolved(rounds(1, start="org/model"))
    assert run_of(found["ppo_1"]).model_name == "org/model" and found["ppo_1"].start is None


# -- mistakes -------------------------------------------------------------------------------------

EVALUATION = {"type": "evaluation", "policies": {"a": "@model"}, "judges": ["intact"], "data": ROWS}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"sft": SFT | {"model_name": "@rm"}, "rm": RM}, "@rm is a later stage.* move stage rm above sft"),
        ({"sft": SFT | {"model_name": "@sft"}}, "@sft is this stage itself. Fix: write one of @model"),
        ({"sft": SFT, "rm": RM | {"model_name": "@stf"}}, "no stage is called 'stf'. Fix: write @sft"),
        ({"sft": SFT, "rm": RM | {"model_name": "@sft/checkpoint"}}, "no stage is called 'sft/ch"),
        ({"rm": RM, "sft": SFT | {"model_name": "@rm"}}, "@rm is a reward model, and a policy is needed"),
        ({"sft": SFT, "ppo": PPO | {"training": {"reward_model": {"checkpoint_path": "@sft"}}}},
         "stages.ppo.training.reward_model.checkpoint_path: @sft is a policy, and a reward model is needed"),
        ({"sft": SFT, "again": SFT | {"data": {"path": "@sft"}}}, "@sft is a policy, and a table is needed"),
        ({"rm": RM, "eval": EVALUATION | {"policies": {"a": "@rm"}}}, "a policy or a table is needed"),
        ({"sft": SFT, "rm": RM | {"model_name": "@previous"}}, "@previous is allowed only in a group"),
        ({"sft": {"data": ROWS}}, "stages.sft.type: this key is required. Fix: write type: and one of sft, "),
        ({"sft": SFT | {"type": "stf"}}, "no type of stage is called 'stf'. Fix: write sft"),
        ({"rm": RM | {"type": "rm"}}, "no type of stage is called 'rm'. Fix: write reward"),
        ({"sft": SFT | {"training": {"type": "ppo"}}}, "expected sft, given ppo. Fix: remove it"),
        ({"model": SFT}, "'model' is not a name for a stage"),
        ({"two words": SFT}, "'two words' is not a name for a stage"),
        ({"report": {"type": "report"}, "sft": SFT}, "the report is not the last stage. Fix: move it"),
        ({"report": {"type": "report", "title": "x"}}, "stages.report.title: unknown key"),
        ({"sft": SFT | {"gate": {"accuracy": 0.5}}}, "stages.sft.gate: unknown key"),
        ({"rm": RM | {"gate": {"accuracy": 2.0}}}, "stages.rm.gate.accuracy: .*less than or equal to 1"),
        ({"sft": SFT | {"output_dir": "x"}}, "a stage's folder is the pipeline's. Fix: remove it"),
        (rounds(2, start=None), "the first round has no @previous. Fix: write start: "),
        (rounds(0), "stages.rounds.repeat: expected a number of rounds from 1 to 100"),
        (rounds(2, stages={}), "a group has no stages"),
        (rounds(2, model_name="x"), "stages.rounds.model_name: unknown key"),
        (rounds(2, stages={"inner": rounds(2)["rounds"]}), "a group within a group"),
        (rounds(2) | {"eval": EVALUATION | {"policies": {"a": "@ppo"}}},
         "@ppo has an output in every round of rounds. Fix: write @rounds for .* or @ppo_1"),
        (rounds(2) | {"ppo_1": SFT}, "two stages are called ppo_1. Fix: rename"),
        (rounds(2, stages={"a": SFT | {"model_name": "@b"}, "b": SFT}),
         "@b is a later stage.*the policy of the round before is @previous"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_a_fix(stages: dict[str, Any], message: str) -> None:
    text = error_of(stages)
    assert re.search(message, text), text
    assert "\n" not in text


def test_an_error_names_the_line_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text(
        "name: x\nstages:\n  sft: {type: sft, data: {path: a}}\n  rm:\n    type: reward\n    model_name: '@sftt'\n"
    )
    with pytest.raises(UserError) as caught:
        config_files.load_pipeline(str(tmp_path / "p.yml"), [])
    assert str(caught.value).startswith(f"{tmp_path}/p.yml:6: stages.rm.model_name: no stage is called")


# -- the former form ------------------------------------------------------------------------------

FLAT = """
name: old
sft: {data: {path: a}}
reward: {data: {path: b}}
ppo: {data: {path: c}}
evaluation: {data: {path: d}}
"""


def test_stages_at_the_top_level_are_refused_with_the_new_form(tmp_path: Path) -> None:
    """The fix, followed to the letter, gives a file that loads."""
    path = tmp_path / "old.yml"
    path.write_text(FLAT)
    with pytest.raises(UserError) as caught:
        config_files.load_run_or_pipeline(str(path), [])
    assert f"{path}:3: sft: sft, reward, ppo, evaluation cannot be at the top level" in str(caught.value)
    assert caught.value.fix is not None
    form = caught.value.fix.removeprefix("write ").split(" with the keys of each section")[0]
    for data in ("a", "b", "c", "d"):
        form = form.replace("…", f"data: {{path: {data}}}", 1) if data != "c" else _ppo_form(form)
    path.write_text(f"name: old\n{form}\n")
    stages = resolve_stages(config_files.load_pipeline(str(path), []), "out")
    assert [stage.type for stage in stages] == ["sft", "reward", "ppo", "evaluation", "report"]


def _ppo_form(form: str) -> str:
    """Put the section's keys in place of both `…` of PPO: those of training, here none, and the others."""
    return form.replace(", …}", "}", 1).replace("…", "data: {path: c}", 1)


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("sft.training.lr=1", "write --set stages.sft.training.lr=1"),
        ("reward.gate.accuracy=0.6", "write --set stages.rm.gate.accuracy=0.6"),
        ("evaluation.max_gen_len=8", "write --set stages.eval.max_gen_len=8"),
        ("rm.training.lr=1", "write --set stages.rm.training.lr=1"),
    ],
)
def test_a_setting_of_a_stage_at_the_top_level_is_sent_below_stages(setting: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        config_files.load_pipeline("demo", [setting])
    assert caught.value.fix == fix and setting in str(caught.value)


def test_stages_are_found_by_name() -> None:
    stages = list(resolved({"sft": SFT}).values())
    assert find_stage(stages, "sft") is stages[0]
    with pytest.raises(KeyError):
        find_stage(stages, "ppo")


# -- the page about it ----------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([\w ,→]+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize(
    ("example", "names"),
    [
        ("demo", ["sft", "rm", "ppo", "eval", "report"]),
        ("RLHF, then DPO", ["sft", "rm", "ppo", "dpo", "eval", "report"]),
        ("two policies", ["sft", "rm", "careful", "bold", "eval", "report"]),
        (
            "iterated preference optimisation",
            [
                *("sft", "rm", "generate_1", "score_1", "pairs_1", "dpo_1"),
                *("generate_2", "score_2", "pairs_2", "dpo_2", "eval", "report"),
            ],
        ),
    ],
)
def test_every_example_of_the_page_loads(example: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.yml").write_text(EXAMPLES[example])
    config = config_files.load_pipeline(str(tmp_path / "my.yml"), [])
    assert [stage.name for stage in resolve_stages(config, "out")] == names


def test_the_page_has_no_other_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("<!-- example") == 4


def test_the_page_has_every_type_of_stage() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"type"} == set(STAGE_TYPES)


def test_pairs_of_each_round_are_those_of_the_policy_of_the_round_before(tmp_path: Path) -> None:
    (tmp_path / "my.yml").write_text(EXAMPLES["iterated preference optimisation"])
    config = config_files.load_pipeline(str(tmp_path / "my.yml"), [])
    found = {stage.name: stage for stage in resolve_stages(config, "out")}
    generated = found["generate_2"].config.model_dump()
    assert generated["policies"] == {"policy": "out/06_dpo_1/final"} and generated["seed"] == 840
    assert found["score_2"].config.model_dump()["responses"] == "out/07_generate_2/responses.parquet"
    assert found["pairs_2"].config.model_dump()["responses"] == "out/08_score_2/responses.parquet"
    last = run_of(found["dpo_2"])
    assert (last.model_name, last.data.path) == ("out/06_dpo_1/final", "out/09_pairs_2/pairs.jsonl")
    assert found["eval"].policies == {"SFT": "sft", "Round 1": "dpo_1", "Round 2": "dpo_2"}


def test_demonstrations_are_the_output_of_pairs_that_keep_the_best() -> None:
    pairs = {"type": "pairs", "responses": "scored.jsonl", "how": "best"}
    found = resolved({"best": pairs, "sft": SFT | {"data": {"path": "@best"}}})
    assert run_of(found["sft"]).data.path == "out/01_best/demonstrations.jsonl"
