"""Every kind of file that a pipeline leaves behind, damaged in every way a disk damages: found, never used."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_pipeline import TinyFolder, run_config, run_pipeline

from harken import pipeline
from harken.cli.main import main
from harken.config import EvaluationConfig, PipelineConfig
from harken.config.rewards import ClassifierPart
from harken.config.stages import find_stage, resolve_stages
from harken.doctor.check import StageChecks
from harken.doctor.context import Context, PipelineInfo, recorded_config
from harken.doctor.environment import output_folder
from harken.errors import UserError
from harken.evaluation import suite
from harken.evaluation.run_summary import read_metrics
from harken.inspection.recorded import read_config, read_step
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import RewardModel
from harken.models.tokenizer import load_tokenizer
from harken.pipeline import page as pipeline_page
from harken.pipeline import run as pipeline_run
from harken.plan import architecture
from harken.reward.classifier import load_classifier
from harken.run import atomic, checkpoint, checksums, json_io, manifest, status
from harken.run.config_lock import lock_config
from harken.run.credit_table import read_credit
from harken.run.folder import RunFolder
from harken.run.tables import read_rows
from harken.train.launch import has_sft, train
from harken.train.ppo.stage import PPOStage

FLIPS, CUTS = 200, 100


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_pipeline(tmp_path_factory.mktemp("damage")) / "out"


def policy(out: Path) -> object:
    return Backbone.load(resolve(str(TinyFolder(out).ppo.root)), torch.float32, "cpu")


def tuned(out: Path) -> object:
    return Backbone.load(resolve(str(TinyFolder(out).sft.final)), torch.float32, "cpu")


def judge(out: Path) -> object:
    return RewardModel.load(resolve(str(TinyFolder(out).reward.root)), torch.float32, "cpu")


def sections(out: Path) -> object:
    folder = TinyFolder(out)
    return pipeline_page.page_sections({"reward": folder.reward}, folder.evaluation)


def text(name: str) -> Callable[[Path], object]:
    return lambda out: checksums.read_verified_text(out / name)


STEP = "update-000002.parquet"
READERS: dict[str, Callable[[Path], object]] = {
    "03_ppo/final/adapter_model.safetensors": policy,
    "03_ppo/final/adapter_config.json": policy,
    "03_ppo/final/value_head.safetensors": policy,
    "03_ppo/final/tokenizer.json": policy,
    "03_ppo/final/tokenizer_config.json": lambda out: load_tokenizer(TinyFolder(out).ppo.final),
    "03_ppo/final/chat_template.jinja": lambda out: load_tokenizer(TinyFolder(out).ppo.final),
    "03_ppo/final/SHA256SUMS": policy,
    "02_rm/final/adapter_model.safetensors": judge,
    "02_rm/final/reward_head.safetensors": judge,
    "02_rm/final/reward.json": judge,
    "02_rm/final/SHA256SUMS": judge,
    "01_sft/final/model.safetensors": tuned,
    "01_sft/final/config.json": policy,
    "01_sft/final/generation_config.json": tuned,
    "03_ppo/config.yml": lambda out: read_config(out / "03_ppo"),
    "03_ppo/manifest.json": lambda out: manifest.read_manifest(out / "03_ppo" / "manifest.json"),
    "03_ppo/data_report.json": text("03_ppo/data_report.json"),
    "03_ppo/metrics.jsonl": lambda out: read_metrics(RunFolder(out / "03_ppo")),
    f"03_ppo/rollouts/{STEP}": lambda out: read_rows(out / "03_ppo" / "rollouts" / STEP),
    f"03_ppo/credit/{STEP}": lambda out: read_credit(out / "03_ppo" / "credit" / STEP),
    "02_rm/card/rows.json": text("02_rm/card/rows.json"),
    "03_ppo/SHA256SUMS": lambda out: read_metrics(RunFolder(out / "03_ppo")),
    "04_eval/config.yml": lambda out: lock_config(out / "04_eval" / "config.yml", {}, out),
    "04_eval/manifest.json": lambda out: manifest.read_manifest(out / "04_eval" / "manifest.json"),
    "04_eval/responses.parquet": lambda out: read_rows(out / "04_eval" / "responses.parquet"),
    "04_eval/summary.json": text("04_eval/summary.json"),
    "04_eval/audit.json": sections,
    "04_eval/SHA256SUMS": text("04_eval/summary.json"),
    "02_rm/card/card.json": text("02_rm/card/card.json"),
    "02_rm/card/card.md": sections,
    "02_rm/card/SHA256SUMS": sections,
    "pipeline.yml": pipeline.report_pipeline,
    "results.json": text("results.json"),
    "05_report/report.html": text("05_report/report.html"),
    "SHA256SUMS": pipeline.report_pipeline,
}
"""File → what Harken reads it with. The tests of commands below show that these are what they read with."""


def damages(content: bytes, seed: str) -> Iterator[bytes]:
    """One byte changed at a random place, then all from a random place on cut away."""
    draw = random.Random(seed)
    for _ in range(FLIPS):
        place = draw.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :]
    for _ in range(CUTS):
        yield content[: draw.randrange(len(content))]


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", READERS)
def test_200_flips_and_100_truncations_of_each_kind_are_found(finished: Path, name: str) -> None:
    file, read = finished / name, READERS[name]
    content = file.read_bytes()
    found = 0
    try:
        for wrong in damages(content, name):
            file.write_bytes(wrong)
            with pytest.raises(UserError) as error:
                read(finished)
            assert "damaged" in str(error.value) and file.name in str(error.value), error.value
            found += 1
    finally:
        file.write_bytes(content)
    print(f"{name}: {found} of {FLIPS + CUTS} found, none read")


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "MANIFEST.json"])
def test_damaged_checkpoints_are_set_aside(finished: Path, tmp_path: Path, name: str) -> None:
    step = "step-000004"
    shutil.copytree(finished / "03_ppo" / "checkpoints" / step, tmp_path / step)
    content = (tmp_path / step / name).read_bytes()
    found = 0
    for wrong in damages(content, name):
        (tmp_path / step / name).write_bytes(wrong)
        assert checkpoint.latest(tmp_path) is None
        (tmp_path / "quarantine" / step).rename(tmp_path / step)
        found += 1
    (tmp_path / step / name).write_bytes(content)
    assert checkpoint.latest(tmp_path) is not None
    print(f"{name}: {found} of {FLIPS + CUTS} found, none loaded")


def test_whole_files_are_read_and_sha256sum_agrees(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for name, read in READERS.items():
        if name != "04_eval/config.yml":  # its reader compares it with another configuration
            read(out)
    read_step(out / "03_ppo", 2)
    checksummed = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("SHA256SUMS"))
    stages = ["01_sft", "02_rm", "03_ppo"]
    assert checksummed == sorted(
        [".", *stages, *(f"{stage}/final" for stage in stages), "02_rm/card", "04_eval"]
    )
    for folder in checksummed if shutil.which("sha256sum") else []:
        command = ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"]
        subprocess.run(command, cwd=out / folder, check=True)


def test_every_file_that_may_not_change_has_a_checksum(finished: Path) -> None:
    unsealed = set()
    for path in finished.rglob("*"):
        if path.is_file() and path.name != checksums.CHECKSUMS:
            listed = [checksums.read_checksums(folder) or {} for folder in path.parents[:2]]
            names = [path.relative_to(folder).as_posix() for folder in path.parents[:2]]
            if not any(name in sums for name, sums in zip(names, listed, strict=True)):
                unsealed.add(path.relative_to(finished).as_posix())
    passing = ("/checkpoints/", "/best/", ".writer.lock")
    rest = {name for name in unsealed if not any(mark in name for mark in passing)}
    assert rest == {f"{stage}/status.json" for stage in ("01_sft", "02_rm", "03_ppo")}


# -- commands ---------------------------------------------------------------------------------------


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished pipeline, to be damaged. Its stages still stand on the first one's models."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x01
    file.write_bytes(content)


def tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


COMMANDS = [
    *(
        (name, ["report", "{out}"])
        for name in (
            *(
                "pipeline.yml",
                "SHA256SUMS",
                "01_sft/metrics.jsonl",
                "02_rm/manifest.json",
                "03_ppo/config.yml",
            ),
            *("03_ppo/data_report.json", "04_eval/responses.parquet", "04_eval/summary.json"),
        )
    ),
    *(
        (f"03_ppo/{name}", [verb, "{out}/03_ppo", "--step", "2"])
        for verb in ("trace", "replay")
        for name in ("config.yml", f"rollouts/{STEP}", f"credit/{STEP}", "SHA256SUMS")
    ),
    ("03_ppo/final/tokenizer.json", ["trace", "{out}/03_ppo", "--step", "2"]),
    ("03_ppo/final/adapter_model.safetensors", ["model", "{out}/03_ppo"]),
    ("03_ppo/final/adapter_config.json", ["model", "{out}/03_ppo"]),
    ("01_sft/final/config.json", ["plan", "{out}/sft.yml", "--no-measure"]),
    ("01_sft/final/config.json", ["plan", "{out}/sft.yml", "--set", "model_name={out}/01_sft/final"]),
    ("01_sft/final/model.safetensors", ["train", "--preset", "{out}/sft.yml", "--output-dir", "{out}/new"]),
    ("03_ppo/config.yml", ["train", "--preset", "{out}/03_ppo/config.yml", "--output-dir", "{out}/03_ppo"]),
]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[f"{c[0]}-{n}" for n, c in COMMANDS])
def test_commands_report_a_damaged_file_and_change_nothing(
    again: Path, capsys: pytest.CaptureFixture[str], name: str, command: list[str]
) -> None:
    rows = again.parent / "pairs.jsonl"
    rows.write_text('{"prompt": "a?", "chosen": "b", "rejected": "c"}\n' * 8)
    sft = {"model_name": f"{again}/01_sft", "data": {"path": str(rows)}, "training": {"type": "sft"}}
    (again / "sft.yml").write_text(json.dumps(sft | {"dtype": "float32", "tensorboard": False}))
    if command[0] == "train" and "03_ppo" in name:  # the command's own file is another, and whole
        shutil.copy(again / "03_ppo" / "config.yml", again / "same.yml")
        command = [part.replace("{out}/03_ppo/config.yml", "{out}/same.yml") for part in command]
    flip(again / name)
    before = tree(again)
    assert main([part.format(out=again) for part in command]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "damaged" in message and Path(name).name in message, message
    after = {path: content for path, content in tree(again).items() if again / "new" not in path.parents}
    assert after == before


LLAMA = '{"model_type": "llama", "hidden_size": 32}'
PPO_CONFIG = """
model_name: embedded
data: {path: a}
seed: 32
training: {type: ppo, reward_model: {checkpoint_path: b}}
"""
ALONE: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "object": ("a.json", '{"a": 32}', lambda folder: json_io.read_object(folder / "a.json")),
    "list": ("a.json", "[32]", lambda folder: json_io.read_list(folder / "a.json")),
    "lines": ("a.jsonl", '{"a": 32}\n', lambda folder: json_io.read_lines(folder / "a.jsonl")),
    "model": ("config.json", LLAMA, lambda folder: resolve(str(folder))),
    "model_to_plan": ("config.json", LLAMA, lambda folder: architecture._read_config("m", folder)),
    "run_to_inspect": ("config.yml", PPO_CONFIG, lambda folder: read_config(folder)),
}


@pytest.mark.parametrize("case", ALONE)
def test_each_reader_checks_what_it_reads_by_itself(tmp_path: Path, case: str) -> None:
    """The change leaves a valid file with another number, which nothing but its checksum tells."""
    name, content, read = ALONE[case]
    (tmp_path / name).write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    checksums.write_checksums(tmp_path)
    read(tmp_path)
    (tmp_path / name).write_text(content.replace("32", "33"))
    with pytest.raises(UserError, match=rf"{name}: is damaged"):
        read(tmp_path)


def test_an_evaluation_meets_a_model_that_was_damaged_since(
    again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says damaged, not that the folder holds another evaluation; also when the model was resolved before."""
    source = resolve(str(again / "03_ppo"))
    reward = resolve(str(again / "02_rm"))
    flip(again / "03_ppo" / "final" / "adapter_model.safetensors")
    flip(again / "02_rm" / "final" / "reward_head.safetensors")
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is damaged"):
        _ = source.fingerprint
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is damaged"):
        Backbone.load(source, torch.float32, "cpu")
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is damaged"):
        assert source.base is not None
        Backbone.load(source.base, torch.float32, "cpu").load_adapter("policy", source.folder)
    with pytest.raises(UserError, match=r"reward_head.safetensors: is damaged"):
        RewardModel.load(reward, torch.float32, "cpu")
    scorer = resolve(str(again / "01_sft"))
    flip(again / "01_sft" / "final" / "model.safetensors")
    part = ClassifierPart(type="classifier", model_name=str(scorer.folder))
    with pytest.raises(UserError, match=r"model.safetensors: is damaged"):
        load_classifier(scorer, part, torch.float32, torch.device("cpu"), 1000)


def test_a_damaged_manifest_is_no_sft_model(again: Path) -> None:
    source = resolve(str(again / "01_sft"))
    assert has_sft(source)
    flip(again / "01_sft" / "manifest.json")
    with pytest.raises(UserError, match=r"manifest.json: is damaged"):
        has_sft(source)


def test_the_doctor_finds_a_damaged_record(again: Path) -> None:
    """Of the run behind a model, and of the run that is there already."""
    flip(again / "01_sft" / "config.yml")
    with pytest.raises(UserError, match=r"config.yml: is damaged"):
        recorded_config(resolve(str(again / "01_sft")))
    config = run_config(settings(again), again, "sft").model_copy(update={"model_name": "embedded"})
    seen = StageChecks("sft", Context(config, again / "01_sft", again, PipelineInfo())).run(output_folder)
    assert seen.level == "error" and "config.yml: is damaged" in seen.measured


def test_verify_names_one_damaged_file_among_all(again: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(again)]) == 0
    flip(again / "03_ppo" / "rollouts" / STEP)
    assert main(["verify", str(again)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [f"  rollouts/{STEP} is damaged: its sha256 is not the one in SHA256SUMS"]


# -- when checksums are written and removed -------------------------------------------------------------------


def settings(finished: Path) -> PipelineConfig:
    return PipelineConfig.model_validate(yaml.safe_load((finished / "pipeline.yml").read_text()))


def evaluation_config(finished: Path) -> EvaluationConfig:
    found = find_stage(resolve_stages(settings(finished), finished), "eval").config
    assert isinstance(found, EvaluationConfig)
    return found


def test_checksums_are_written_before_final_appears_and_the_run_is_finished(
    finished: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksums are gone while training goes on: what it listed is changing."""
    run = RunFolder(again / "03_ppo")
    shutil.rmtree(run.final)
    shutil.rmtree(run.checkpoints / "step-000004")
    seen: dict[str, bool] = {}
    step, write, publish = PPOStage.step, status.write_status, atomic.publish_folder

    def stepped(self: PPOStage, number: int) -> dict[str, float]:
        seen["while it trains"] = (run.root / checksums.CHECKSUMS).exists()
        read_metrics(run)
        return step(self, number)

    def written(run: RunFolder, **facts: Any) -> None:
        if facts["stopped_because"] == "finished":
            seen["when it is finished"] = (run.root / checksums.CHECKSUMS).exists()
        write(run, **facts)

    def published(unfinished: Path, folder: Path) -> None:
        if folder == run.final:
            checksummed = (run.root / checksums.CHECKSUMS).exists() and (
                unfinished / checksums.CHECKSUMS
            ).exists()
            seen["when final comes"] = checksummed
        publish(unfinished, folder)

    monkeypatch.setattr(PPOStage, "step", stepped)
    monkeypatch.setattr(status, "write_status", written)
    monkeypatch.setattr(atomic, "publish_folder", published)
    train(run_config(settings(finished), finished, "ppo"), run.root)
    assert seen == {"while it trains": False, "when final comes": True, "when it is finished": True}
    assert main(["verify", str(run.root)]) == 0


def test_an_evaluation_that_ended_before_its_checksums_gets_them_from_the_same_command(
    finished: Path, again: Path
) -> None:
    evaluation = evaluation_config(finished)
    before = (again / "04_eval" / checksums.CHECKSUMS).read_bytes()
    (again / "04_eval" / checksums.CHECKSUMS).unlink()
    suite.run_evaluation(evaluation, again / "04_eval")
    assert (again / "04_eval" / checksums.CHECKSUMS).read_bytes() == before
    (again / "04_eval" / "summary.json").unlink()
    suite.run_evaluation(evaluation, again / "04_eval")
    assert main(["verify", str(again / "04_eval")]) == 0


def test_an_evaluation_that_starts_again_has_no_checksums_until_its_end(
    finished: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*args: object, **keys: object) -> None:
        raise KeyboardInterrupt

    (again / "04_eval" / "summary.json").unlink()
    monkeypatch.setattr(suite, "write_rows", ended)
    with pytest.raises(KeyboardInterrupt):
        suite.run_evaluation(evaluation_config(finished), again / "04_eval")
    assert not (again / "04_eval" / checksums.CHECKSUMS).exists()


def test_a_report_that_is_built_again_gets_new_checksums(
    again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (again / "05_report" / "report.html").unlink()
    assert main(["report", str(again)]) == 0
    assert main(["verify", str(again)]) == 0

    def no_page(*args: object, **keys: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_page, "build_report", no_page)
    assert main(["report", str(again)]) == 130
    assert not (again / checksums.CHECKSUMS).exists()


def test_a_resumed_pipeline_has_no_checksums_until_its_report(
    finished: Path, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipeline.yml may be another then: it is no damage."""

    def ended(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_run, "train", ended)
    shutil.rmtree(again / "01_sft" / "final")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run_pipeline(settings(finished).model_copy(update={"title": "Another"}), again)
    assert "Another" in checksums.read_verified_text(again / "pipeline.yml")
