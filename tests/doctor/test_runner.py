"""A whole examination: stages, stand-ins, what is left behind, what is printed, exit codes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from healthy_pipeline import PAPER, HealthyPipeline

from harken.cli import main as cli
from harken.config import PipelineConfig, RunConfig
from harken.doctor.check import ALL, Check, StageChecks
from harken.doctor.finding import CheckLevel, CheckResult, Diagnosis
from harken.doctor.registry import CHECKS
from harken.doctor.runner import diagnose
from harken.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def pipeline(healthy: HealthyPipeline, output: Path) -> dict[str, Any]:
    """The healthy's three stages as a pipeline whose stages have not run."""
    stages: dict[str, Any] = {}
    for stage in ("sft", "reward", "ppo"):
        config = healthy.config(stage)
        stages[stage] = {"type": stage, **{key: config[key] for key in ("data", "lora", "training")}}
    stages["reward"]["model_name"] = stages["ppo"]["model_name"] = "@sft"
    stages["ppo"]["training"]["reward_model"] = {"checkpoint_path": "@reward"}
    tested = {"path": str(healthy.root / "heldout.jsonl"), "max_length": 64}
    return {
        "name": "healthy",
        "model_name": str(healthy.root / "base"),
        "dtype": "float32",
        "output_dir": str(output),
        "stages": stages
        | {
            "eval": {
                "type": "evaluation",
                "policies": {"SFT": "@sft", "PPO": "@ppo"},
                "reward_model": "@reward",
                "data": tested,
                "max_gen_len": 24,
            }
        },
    }


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_a_pipeline_before_its_first_stage(
    healthy: HealthyPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-27: base model and an untrained head stand in, and it is said; nothing is written, nothing left behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = files(healthy.root)
    settings = pipeline(healthy, tmp_path / "outputs")
    diagnosis = diagnose(PipelineConfig.model_validate(settings), "healthy")
    assert files(healthy.root) == before
    assert list(scratch.iterdir()) == [] and not (tmp_path / "outputs").exists()
    found = {(f.stage, f.name): f for f in diagnosis.findings}
    assert {stage for stage, _ in found} == {"sft", "reward", "ppo"}
    assert (
        "is used instead" in found["ppo", "model_found"].measured
        and found["ppo", "model_found"].level == "note"
    )
    assert "untrained head is used instead" in found["ppo", "reward_found"].measured
    assert found["ppo", "sft_first"].level == "ok"
    # The sft_missing base never ends a response. It is not what PPO will start from: no warning.
    assert found["ppo", "responses_end"].level == "note"
    assert diagnosis.exit_code == 0, "\n".join(diagnosis.lines(colour=False))


def test_a_pipeline_is_examined_with_what_it_has_made(healthy: HealthyPipeline, tmp_path: Path) -> None:
    """S0-27: where SFT and reward model are trained, PPO is examined on them."""
    for name, made in (("01_sft", "sft"), ("02_reward", "reward")):
        (tmp_path / name).symlink_to(healthy.root / made)
    config = PipelineConfig.model_validate(pipeline(healthy, tmp_path))
    checks = [check for check in PAPER if check.name in ("model_found", "reward_found", "reward_base")]
    found = {(f.stage, f.name): f for f in diagnose(config, checks=checks).findings}
    assert {f.level for f in found.values()} == {"ok"}
    assert str(tmp_path / "02_reward") in found["ppo", "reward_found"].measured


def test_an_error_is_reported_once_by_the_first_check(healthy: HealthyPipeline) -> None:
    """Every check that needs the missing model points to the finding that says so."""
    config = RunConfig.model_validate(healthy.config("ppo") | {"model_name": "/no/such/model"})
    diagnosis = diagnose(config)
    reported = [f for f in diagnosis.findings if f.level == "error"]
    assert [f.name for f in reported] == ["model_found"]
    assert reported[0].measured == "/no/such/model: no such model" and reported[0].fix
    blind = [f for f in diagnosis.findings if f.measured == "not checked: see model_found"]
    assert len(blind) > 20 and {f.level for f in blind} == {"note"}
    assert {"kl_coefficient", "rows_kept"} <= {f.name for f in diagnosis.findings if f.level == "ok"}


@pytest.mark.parametrize("error", [UserError("bad", where="here", fix="mend it"), RuntimeError("bad")])
def test_an_exception_of_a_check_becomes_its_finding(error: Exception) -> None:
    def look(context: object) -> Any:
        raise error

    found = StageChecks("ppo", None).run(Check("broken", ALL, "", "it matters", "", look))
    assert (found.level, found.name, found.why) == ("error", "broken", "it matters")
    assert "bad" in found.measured and found.fix


def test_an_internal_error_of_the_preflight_is_raised() -> None:
    def look(context: object) -> Any:
        raise AttributeError("no such part")

    with pytest.raises(AttributeError):
        StageChecks("ppo", None).run(Check("broken", ALL, "", "", "", look))


def finding(level: CheckLevel) -> CheckResult:
    return CheckResult("ppo", f"a_{level}", level, "1 nat", "it matters", "mend it", 0.5)


@pytest.mark.parametrize(
    ("levels", "code"),
    [(["ok"], 0), (["ok", "note"], 0), (["warning", "note"], 1), (["warning", "error", "ok"], 2), ([], 0)],
)
def test_the_exit_code_is_that_of_the_worst(levels: list[CheckLevel], code: int) -> None:
    assert Diagnosis("x", tuple(map(finding, levels)), 1.0).exit_code == code


def test_lines_name_the_reason_and_the_fix() -> None:
    """A line a check; why under warnings and errors, the fix under all but ok; colour only when asked for."""
    diagnosis = Diagnosis("demo", tuple(map(finding, ("ok", "note", "warning", "error"))), 3.2)
    lines = diagnosis.lines(colour=False)
    assert lines[0] == "ok      ppo  a_ok       1 nat"
    assert [line.split()[0] for line in lines[:-2]] == [
        "ok", "note", "fix:", "warning", "why:", "fix:", "error", "why:", "fix:"
    ]  # fmt: skip
    assert lines[-1] == "demo: 4 checks in 3 s: 1 error, 1 warning, 1 note"
    assert not any("\x1b" in line for line in lines)
    assert diagnosis.lines(colour=True)[-3].startswith("        ") and "\x1b[31merror" in "".join(
        diagnosis.lines(colour=True)
    )


def test_the_command_line(
    healthy: HealthyPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes 0, 1 and 2, findings as JSON, --set, and a mistake in the file as one line."""
    file = tmp_path / "run.yml"
    file.write_text(yaml.safe_dump(healthy.config("sft")))
    assert cli.main(["doctor", str(file)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert cli.main(["doctor", str(file), "--set", "training.lr=1e-2"]) == 1
    assert "warning sft  learning_rate" in capsys.readouterr().out
    assert cli.main(["doctor", str(file), "--set", "training.lr=0.1", "--json"]) == 2
    reported = json.loads(capsys.readouterr().out)
    assert (reported["level"], reported["exit_code"]) == ("error", 2)
    worst = [f for f in reported["findings"] if f["level"] == "error"]
    assert [f["name"] for f in worst] == ["learning_rate"] and worst[0]["why"] and worst[0]["fix"]
    assert cli.main(["doctor", str(file), "--set", "training.lrr=1"]) == 2
    assert "Fix: write lr" in capsys.readouterr().err


def test_every_check_is_explained_and_documented() -> None:
    """A sentence why and a cost; docs/doctor.md has a line for each."""
    assert len(CHECKS) >= 40 and len({check.name for check in CHECKS}) == len(CHECKS)
    text = (ROOT / "docs" / "doctor.md").read_text()
    for check in CHECKS:
        assert check.why.endswith(".") and check.cost
        assert f"| `{check.name}` | {', '.join(check.kinds)} | {check.what} | {check.cost} |" in text
