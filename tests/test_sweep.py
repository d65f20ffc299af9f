"""`harken sweep`: the grid, the runs, the figures, the page; with real PPO runs of a tiny model."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny import save_tiny

from harken import sweep
from harken.cli import main as cli
from harken.config import RunConfig
from harken.config import files as config_files
from harken.config.ppo import PPOTraining
from harken.maths import theory
from harken.run.folder import RunFolder

DOCS = Path(__file__).parents[1] / "docs" / "sweep.md"

RUN = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 4}}
data: {{path: {root}/prompts.jsonl, max_length: 96, eval_fraction: 0.25}}
training:
  type: ppo
  lr: 3e-3
  lr_schedule: constant
  eval_every: 4
  rewards:
    - {{type: python, path: "{root}/low.py:low", weight: 4.0}}
  ppo:
    updates: 5
    prompts_per_update: 12
    epochs: 2
    minibatches: 2
    max_gen_len: 8
    missing_eos_penalty: 0.0
    judges: [demo_gold]
"""
LOW = "def low(prompt, response, tokens):\n    return sum(t < 128 for t in tokens) / len(tokens)\n"
"""In units of weight 4 the responses' rewards deviate by about 0.7."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    save_tiny(root / "model")
    prompts = [{"id": f"q{i}", "prompt": f"Count to {i}", "keywords": [str(i)]} for i in range(16)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    (root / "low.py").write_text(LOW)
    (root / "run.yml").write_text(RUN.format(root=root))
    return root


COMMAND = ["--over", "training.ppo.kl_coef=0,3", "--seeds", "1,2"]
SLUGS = ["kl_coef=0_seed=1", "kl_coef=0_seed=2", "kl_coef=3_seed=1", "kl_coef=3_seed=2"]


@pytest.fixture(scope="module")
def swept(root: Path) -> Path:
    assert cli.main(["sweep", str(root / "run.yml"), *COMMAND, "--output-dir", str(root / "out")]) == 0
    return root / "out"


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    return found


# -- real runs ------------------------------------------------------------------------------------


def test_every_combination_is_trained_with_its_settings(swept: Path) -> None:
    """S2-40: each folder is a finished run of its own, under its own coefficient and seed."""
    assert sorted(p.name for p in swept.iterdir() if p.is_dir()) == SLUGS
    for slug, (kl_coef, seed) in zip(SLUGS, product((0.0, 3.0), (1, 2)), strict=True):
        config = yaml.safe_load((swept / slug / "config.yml").read_text())
        assert (config["training"]["ppo"]["kl_coef"], config["seed"]) == (kl_coef, seed)
        assert (swept / slug / "final" / "adapter_model.safetensors").exists()


def test_the_figures_are_those_of_the_runs(swept: Path) -> None:
    """S2-92: read again from each run's own lines, with other means than the code's."""
    runs = told(swept)["runs"]
    assert [run["folder"] for run in runs] == SLUGS and {run["state"] for run in runs} == {"completed"}
    for run in runs:
        lines = lines_of(swept / run["folder"])
        assert run["updates"] == len(lines) == 5
        assert run["figures"]["kl_per_sequence"] == pytest.approx(sum(x["kl/mean"] for x in lines[2:]) / 3)
        assert run["figures"]["held_out_reward"] == lines[4]["eval/reward_mean"]
        assert run["figures"]["judge_demo_gold"] == lines[4]["eval/judge_demo_gold"]
        assert run["health"] in ("healthy", "warning", "unhealthy")
    for mean in told(swept)["means"]:
        pair = [r["figures"]["reward"] for r in runs if r["keys"] == mean["keys"]]
        assert mean["figures"]["reward"]["mean"] == pytest.approx(sum(pair) / 2)
        assert mean["figures"]["reward"]["standard_error"] == pytest.approx(abs(pair[0] - pair[1]) / 2)


def test_without_a_kl_penalty_the_policy_moves_further(swept: Path) -> None:
    """S4-15, S4-18: at beta 0 the seeds end further from the reference than at a high beta."""
    free, penalised = (mean["figures"]["kl_per_sequence"]["mean"] for mean in told(swept)["means"])
    assert free > 1.3 * penalised > 0


def test_the_page_has_a_circle_for_each_run(swept: Path) -> None:
    """S4-18: of the reward, of the held-out reward, and of the judge."""
    page = (swept / "frontier.html").read_text()
    assert page.count("<svg") == 3 and page.count("<circle") == 12
    assert "kl_coef 3, seed 2: KL" in page and "demo_gold" in page


def test_finished_runs_are_kept_and_a_lost_one_is_made_again(swept: Path) -> None:
    before = {slug: (swept / slug / "final" / "adapter_model.safetensors").stat() for slug in SLUGS}
    weights = (swept / SLUGS[1] / "final" / "adapter_model.safetensors").read_bytes()
    figures = [run["figures"]["reward"] for run in told(swept)["runs"]]
    shutil.rmtree(swept / SLUGS[1] / "final")
    assert cli.main(["sweep", str(swept.parent / "run.yml"), *COMMAND, "--output-dir", str(swept)]) == 0
    for slug in SLUGS:
        now = swept / slug / "final" / "adapter_model.safetensors"
        assert (now.stat().st_mtime_ns == before[slug].st_mtime_ns) is (slug != SLUGS[1])
    assert (swept / SLUGS[1] / "final" / "adapter_model.safetensors").read_bytes() == weights
    assert [run["figures"]["reward"] for run in told(swept)["runs"]] == figures


def test_a_run_that_fails_is_reported_and_the_others_go_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "broken.py").write_text("def low(prompt, response):\n    return 1 / 0\n")
    paths = f"training.rewards[0].path={root}/broken.py:low,{root}/low.py:low"
    few = ["--set", "training.ppo.updates=1", "--set", "seed=5"]
    out = root / "failing"
    assert cli.main(["sweep", str(root / "run.yml"), "--over", paths, *few, "--output-dir", str(out)]) == 1
    first, second = told(out)["runs"]
    assert (first["state"], first["figures"], second["state"]) == ("failed", {}, "completed")
    assert "division by zero" in first["why"]
    printed = capsys.readouterr().out
    assert f"failed: {first['folder']}: " in printed
    assert "caution: training.rewards[0].path redefines the reward" in printed
    assert (out / "frontier.html").read_text().count("<circle") == 3


# -- runs that are only pretended -----------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """`train` notes what it was asked for, and writes a run of one update in no time."""
    asked: list[RunConfig] = []

    def pretend(config: RunConfig, output: Path) -> RunFolder:
        asked.append(config)
        assert isinstance(config.training, PPOTraining)
        if config.training.ppo.kl_coef == 0.5:
            raise RuntimeError("out of memory")
        run = RunFolder(output)
        run.final.mkdir(parents=True, exist_ok=True)
        line = {"step": 1, "reward/mean": 1.0, "kl/mean": config.training.ppo.kl_coef, "seconds": 7.0}
        run.metrics.write_text(json.dumps(line) + "\n")
        done = {"state": "completed", "completed": 1, "stopped_because": "finished"}
        run.status.write_text(json.dumps(done))
        return run

    monkeypatch.setattr(sweep, "train", pretend)
    return asked


def finished_pipeline(folder: Path) -> Path:
    for stage in ("01_sft", "02_rm"):
        (folder / stage / "final").mkdir(parents=True)
    return folder


def test_errors_of_any_kind_let_the_others_have_their_turn(
    root: Path, tmp_path: Path, trained: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    over = ["--over", "training.ppo.kl_coef=0.5,0.7"]
    assert cli.main(["sweep", str(root / "run.yml"), *over, "--output-dir", str(tmp_path)]) == 1
    assert len(trained) == 2
    printed = capsys.readouterr()
    assert "failed: kl_coef=0.5_seed=839: RuntimeError: out of memory" in printed.out
    assert "Traceback" in printed.err


def test_a_pipelines_ppo_starts_from_its_models(tmp_path: Path, trained: list[RunConfig]) -> None:
    source = finished_pipeline(tmp_path / "demo")
    command = ["sweep", "demo", "--from", str(source), "--over", "training.ppo.kl_coef=0,0.1"]
    assert cli.main([*command, "--set", "training.ppo.updates=3", "--output-dir", str(tmp_path / "out")]) == 0
    for config, kl_coef in zip(trained, (0.0, 0.1), strict=True):
        assert isinstance(config.training, PPOTraining) and config.training.reward_model is not None
        assert config.model_name == str(source / "01_sft" / "final")
        assert config.training.reward_model.checkpoint_path == str(source / "02_rm" / "final")
        assert (config.training.ppo.kl_coef, config.training.ppo.updates) == (kl_coef, 3)
        assert config.data.path == "demo:prompts" and config.seed == 839


def test_the_cost_is_reported_before_the_runs_start(
    root: Path, tmp_path: Path, trained: list[RunConfig]
) -> None:
    """Five updates of 7 s each, where a finished run of the grid took 7 s for one."""
    run = str(root / "run.yml")
    assert sweep.announcement(sweep.plan_runs(run, [], tmp_path, "1,2"), None) == (
        "sweep: 2 runs, 0 of them finished"
    )
    sweep.sweep(run, [], tmp_path, "1")
    message = sweep.announcement(sweep.plan_runs(run, [], tmp_path, "1,2,3,4,5"), None)
    assert message.startswith("sweep: 5 runs, 1 of them finished. An update took 7.0 s in ")
    assert message.endswith("seed=1: about 35 s per run, 2 min in total")


def test_a_pipelines_own_ppo_tells_the_cost(root: Path, tmp_path: Path) -> None:
    source = finished_pipeline(tmp_path / "demo")
    (source / "03_ppo").mkdir()
    (source / "03_ppo" / "metrics.jsonl").write_text('{"step": 1, "seconds": 600.0}\n')
    runs = sweep.plan_runs("demo", [], tmp_path / "out", "1,2", source=source)
    assert sweep.announcement(runs, source / "03_ppo").endswith("03_ppo: about 2.0 h per run, 4.0 h in total")


def test_large_grids_need_a_yes(
    root: Path, tmp_path: Path, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.MAX_RUNS == 50
    monkeypatch.setattr(sweep, "MAX_RUNS", 2)
    command = ["sweep", str(root / "run.yml"), "--output-dir", str(tmp_path), "--seeds"]
    assert cli.main([*command, "1,2,3"]) == 2 and not trained
    assert cli.main([*command, "1,2"]) == 0 and len(trained) == 2
    assert cli.main([*command, "1,2,3", "--yes"]) == 0 and len(trained) == 5


def test_the_grid_in_order(root: Path, tmp_path: Path) -> None:
    over = ["training.lr=1e-4,1e-3", "training.ppo.advantage=rloo,grpo"]
    runs = sweep.plan_runs(
        str(root / "run.yml"), over, tmp_path, "1,2", ["training.ppo.samples_per_prompt=2"]
    )
    expected = list(product(("1e-4", "1e-3"), ("rloo", "grpo"), (1, 2)))
    assert [(*run.keys.values(), run.seed) for run in runs] == expected
    assert runs[0].folder == tmp_path / "lr=1e-4_advantage=rloo_seed=1"
    for run, (lr, advantage, seed) in zip(runs, expected, strict=True):
        training = run.config.training
        assert isinstance(training, PPOTraining)
        assert (training.lr, training.ppo.advantage, run.config.seed) == (float(lr), advantage, seed)
        assert training.ppo.samples_per_prompt == 2


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=0,0.1", ["0", "0.1"]),
        ("a=x", ["x"]),
        ("a=[1, 2],null", ["[1, 2]", "null"]),
        ("a={b: [1, 2], c: 3},{b: [], c: 4}", ["{b: [1, 2], c: 3}", "{b: [], c: 4}"]),
        ("a=k=v,w", ["k=v", "w"]),
    ],
)
def test_values_are_split_where_they_end(text: str, values: list[str]) -> None:
    assert sweep.parse_axis(text) == ("a", values)


def test_a_folder_of_its_own_for_every_value() -> None:
    """Paths and texts that look alike once cleaned do not share a folder, and no name is too long."""
    values = ["a/b", "a-b", "a b", "a//b", "x" * 200, "x" * 201]
    names = [sweep.folder_name({"rewards[0].path": value}, 1) for value in values]
    assert len(set(names)) == len(values)
    assert all(re.fullmatch(r"[\w.=+-]{1,100}", name) for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "nothing to sweep"),
        (["{run}", "--over", "training.ppo.kl_coef"], "not of the form key=value,value"),
        (["{run}", "--over", "training.ppo.kl_coef=0,,1"], "not of the form key=value,value"),
        (["{run}", "--over", "training.ppo.kl_cof=0,1"], "Fix: write kl_coef"),
        (["{run}", "--over", "training.ppo.kl_coef=0,low"], "expected a number"),
        (["{run}", "--over", "training.ppo.kl_coef=0.1,1e-1"], "kl_coef=0.1_seed=839 and kl_coef=1e-1_seed=839"),
        (["{run}", "--over", "training.lr=1e-4", "--over", "training.lr=1e-5"], "give all its values in one"),
        (["{run}", "--over", "seed=1,2"], "--seeds 839,840"),
        (["{run}", "--seeds", "1,two"], "seeds are whole numbers"),
        (["demo", "--over", "training.ppo.kl_coef=0,1"], "--from outputs/demo"),
        (["demo", "--from", "{root}", "--over", "training.ppo.kl_coef=0,1"], "not a finished pipeline"),
        (["demo", "--from", "{done}", "--over", "training.ppo.kl_cof=0,1"], "Fix: write kl_coef"),
        (["smollm2-135m_sft", "--over", "training.lr=1e-4,1e-5"], "only PPO runs can be swept, and this is 'sft'"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_before_anything_trains(
    arguments: list[str],
    message: str,
    root: Path,
    tmp_path: Path,
    trained: list[RunConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = finished_pipeline(tmp_path / "done")
    given = [text.format(run=root / "run.yml", root=root, done=done) for text in arguments]
    assert cli.main(["sweep", *given, "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not trained and not (tmp_path / "out").exists()


def test_incomparable_metrics_are_reported() -> None:
    assert sweep.cautions(["training.lr", "training.ppo.kl_coef"]) == []
    (reward,) = sweep.cautions(["training.reward_model.weight"])
    (kl,) = sweep.cautions(["training.ppo.reference"])
    assert "compare judges" in reward and "KLs are not comparable" in kl


# -- the page about it ----------------------------------------------------------------------------


def test_every_command_on_the_page_can_be_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4-15, S4-17: each `harken sweep` of docs/sweep.md and of the verb's help, up to the grid it stands for."""
    planned: list[sweep.PlannedRun] = []

    def pretend(*arguments: Any, yes: bool) -> int:
        planned.extend(sweep.plan_runs(*arguments))
        return 0

    monkeypatch.setattr(sweep, "sweep", pretend)
    monkeypatch.chdir(tmp_path)
    finished_pipeline(tmp_path / "outputs" / "demo")
    shutil.copy(root / "run.yml", tmp_path / "my_run.yml")
    text = (DOCS.read_text() + Path(cli.__file__).read_text()).replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("harken sweep ")]
    assert len(commands) >= 6
    for command in commands:
        assert cli.main(shlex.split(command)[1:]) == 0, command
    coefficients = {
        run.config.training.ppo.kl_coef for run in planned if isinstance(run.config.training, PPOTraining)
    }
    assert coefficients >= {0, 0.01, 0.1, 1}


def test_every_preset_on_the_page_loads() -> None:
    """S4-17: the three documented coefficients."""
    trains = re.findall(r"^harken train --preset (\S+) --set (\S+)$", DOCS.read_text(), re.MULTILINE)
    found = [config_files.load_run(name, [setting]).training for name, setting in trains]
    assert [t.ppo.kl_coef for t in found if isinstance(t, PPOTraining)] == [0.01, 0.1, 1.0]


@pytest.mark.parametrize(("beta", "nats"), [(0.01, 5000), (0.1, 50), (1.0, 0.5), (0.5, 2), (0.29, 6)])
def test_the_page_derives_values_from_the_kl_coefficient(beta: float, nats: float) -> None:
    """S4-17, S4-18: a normal reward of deviation 1, put on a fine grid and solved without the formula."""
    assert f"{nats:,} nats" in DOCS.read_text()
    centre = 1 / beta
    reward = np.linspace(-6, centre + 6, 4001)
    log_reference = -0.5 * reward**2 - np.log(np.exp(-0.5 * reward**2).sum())
    best = theory.optimum(log_reference, reward, beta)
    assert best.kl == pytest.approx(nats, rel=0.02)
    assert best.reward == pytest.approx(1 / beta, rel=0.02)
