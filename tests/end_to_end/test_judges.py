"""Judges of every kind in a PPO run and in an evaluation: what each says is what it says alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from oracles import stage_of_a_run
from tiny import save_tiny, tiny_tokenizer
from tiny_rewards import answer, save_reward_model
from transformers import LlamaConfig, LlamaForSequenceClassification

from harken.cli.main import main
from harken.config.files import load_run
from harken.data.chat import Renderer
from harken.models.resolve import resolve
from harken.models.roles import RewardModel
from harken.records import Message
from harken.run.tables import read_rows

FUNCTION = """
def vowels(prompt, response):
    return None if prompt.endswith("0") else float(sum(letter in "aeiourz" for letter in response))
"""
JUDGES = """
    - intact
    - {{type: python, path: judges.py:vowels}}
    - {{type: model, name: second, checkpoint_path: {root}/rm2}}
    - {{type: model, name: third, checkpoint_path: {root}/rm3}}
    - {{type: model, name: other, checkpoint_path: {root}/rm_other}}
    - {{type: ensemble, name: jury, checkpoint_paths: [{root}/rm1, {root}/rm2], combine: min}}
    - {{type: classifier, name: tone, model_name: {root}/classifier, label: good}}
"""
PPO = """
model_name: {root}/model
dtype: float32
tensorboard: false
lora: {{rank: 4}}
data: {{path: {root}/prompts.jsonl, max_length: 96, eval_fraction: 0.5}}
checkpoints: {{every: 1}}
training:
  type: ppo
  lr: 1e-2
  eval_every: 1
  reward_model: {{checkpoint_path: {root}/rm1}}
  ppo:
    updates: 2
    prompts_per_update: 4
    epochs: 1
    max_gen_len: 8
    judges:
"""
EVALUATION = """
policies: {{Base: {root}/model, PPO: {root}/out}}
reward_model: {root}/rm1
dtype: float32
data: {{path: {root}/prompts.jsonl, max_length: 96}}
max_gen_len: 12
judges:
"""
NAMES = ["intact", "vowels", "second", "third", "other", "jury", "tone"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PPO run and an evaluation that all seven judges watched."""
    root = tmp_path_factory.mktemp("judges")
    base, other = save_tiny(root / "model"), save_tiny(root / "different", seed=3, hidden=48)
    save_reward_model(root / "rm1", base, seed=1)
    save_reward_model(root / "rm2", base, seed=2)
    save_reward_model(root / "rm3", base, seed=6)
    save_reward_model(root / "rm_other", other, seed=5)
    save_classifier(root / "classifier")
    prompts = [{"id": f"q{i}", "prompt": f"Count to {i}"} for i in range(8)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    (root / "judges.py").write_text(FUNCTION)
    indented = "".join(f"    {line}\n" for line in JUDGES.strip("\n").splitlines())
    (root / "ppo.yml").write_text((PPO + indented).format(root=root))
    (root / "eval.yml").write_text((EVALUATION + JUDGES.strip("\n") + "\n").format(root=root))
    assert run(root, "train", "--preset", "ppo.yml", "--output-dir", "out") == 0
    assert run(root, "eval", "--config", "eval.yml", "--output-dir", "compared") == 0
    return root


def save_classifier(folder: Path) -> None:
    torch.manual_seed(4)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1},
        pad_token_id=0,
        initializer_range=0.3,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(root: Path, *words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return main([*words])


def test_the_columns_of_an_evaluation_hold_each_judges_scores(finished: Path) -> None:
    """S0-42: every score of every response, by the model itself on the conversation's own tokens."""
    rows = read_rows(finished / "compared" / "responses.parquet")
    assert len(rows) == 16
    said = {policy: [r["response"] for r in rows if r["policy"] == policy] for policy in ("Base", "PPO")}
    assert said["Base"] != said["PPO"], "or the scores of one could pass for the other's"
    renderer = Renderer(tiny_tokenizer())
    alone = {
        name: RewardModel.load(resolve(str(finished / name)), torch.float32, "cpu")
        for name in ("rm1", "rm2", "rm3", "rm_other")
    }
    classifier = LlamaForSequenceClassification.from_pretrained(finished / "classifier")
    for row in rows:
        messages = tuple(Message(m["role"], m["content"]) for m in json.loads(row["messages"]))
        text, ended = row["response"], row["stop"] == "end_of_turn"
        vowels = None if row["prompt"].endswith("0") else float(sum(c in "aeiourz" for c in text))
        assert row["score_vowels"] == vowels
        message = [*renderer.encode_prompt(messages), *renderer.encode_response(text, ended)]
        if len(message) != row["prompt_tokens"] + row["response_tokens"]:
            continue  # bytes that are no text cross to another tokenizer's model as replacement signs
        values = {
            name: model.standardize(model.raw_scores([message], 1000)[0]) for name, model in alone.items()
        }
        assert row["score_second"] == pytest.approx(values["rm2"], abs=1e-4)
        assert row["score_third"] == pytest.approx(values["rm3"], abs=1e-4)
        assert row["score_other"] == pytest.approx(values["rm_other"], abs=1e-4)
        assert row["score_jury"] == pytest.approx(min(values["rm1"], values["rm2"]), abs=1e-4)
        assert row["reward"] == pytest.approx(values["rm1"], abs=1e-4)
        with torch.no_grad():
            bad, good = classifier(torch.tensor([message])).logits[0].tolist()
        if ended:  # the classifier's own template ends every turn
            assert row["score_tone"] == pytest.approx(good - bad, abs=1e-3)
        assert row["score_intact"] in (0.0, 1.0)


def test_the_summary_has_a_figure_of_every_judge(finished: Path) -> None:
    """A prompt that a judge leaves out is left out of its mean alone."""
    summary = json.loads((finished / "compared" / "summary.json").read_text())
    rows = read_rows(finished / "compared" / "responses.parquet")
    assert summary["judges"] == NAMES
    for line in summary["table"]:
        for name in NAMES:
            known = [
                r[f"score_{name}"]
                for r in rows
                if r["policy"] == line["policy"] and r[f"score_{name}"] is not None
            ]
            assert line["judges"][name]["n"] == len(known) == (7 if name == "vowels" else 8)
            assert line["judges"][name]["value"] == pytest.approx(sum(known) / len(known))


def test_a_ppo_run_logs_every_judge_and_its_change(finished: Path) -> None:
    """The reward model that trains is no judge; a guard goes by its own name."""
    line = json.loads((finished / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    for name in NAMES:
        assert f"eval/{'guard' if name == 'intact' else 'judge'}_{name}" in line
        assert {f"eval/change_{name}", f"eval/change_error_{name}"} <= line.keys()
    lineage = json.loads((finished / "out" / "manifest.json").read_text())["lineage"]
    assert list(lineage["judges"]) == NAMES
    assert len(lineage["judges"]["vowels"]["fingerprint"]) == 64


def test_the_judges_of_a_ppo_run_score_as_they_do_alone(finished: Path, tmp_path: Path) -> None:
    """Two of them, the reward model and the policy are adapters of one base."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        stage = stage_of_a_run(load_run("ppo.yml", []), tmp_path / "out")
    rollouts = [answer(text, f"Say {text}") for text in ("one", "two and more", "three")]
    rows = [[*r.prompt_tokens, *r.response_tokens] for r in rollouts]
    sources = {"rm1": stage.reward_sources[0]} | {judge.name: judge for judge in stage.heldout.judges}
    for name, folder in {"rm1": "rm1", "second": "rm2", "third": "rm3", "other": "rm_other"}.items():
        model = RewardModel.load(resolve(str(finished / folder)), torch.float32, "cpu")
        alone = [model.standardize(score) for score in model.raw_scores(rows, 1000)]
        assert [score.value for score in sources[name].score(rollouts)] == pytest.approx(alone, abs=1e-4)


def test_an_evaluation_resumes_after_a_judges_shards_were_lost(finished: Path, tmp_path: Path) -> None:
    """What is made again is what was made before."""
    again = tmp_path / "again"
    shutil.copytree(finished / "compared", again)
    wanted = read_rows(again / "responses.parquet")
    for name in ("summary.json", "responses.parquet", "SHA256SUMS"):
        (again / name).unlink()
    assert run(finished, "eval", "--config", "eval.yml", "--output-dir", str(again)) == 0
    assert read_rows(again / "responses.parquet") == wanted


def test_a_changed_judge_is_refused(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a run nor an evaluation mixes two judges of one name."""
    shutil.copytree(finished / "out", tmp_path / "out")
    for lost in ("final", "checkpoints/step-000002"):
        shutil.rmtree(tmp_path / "out" / lost)
    try:
        (finished / "judges.py").write_text(FUNCTION + "# another mind\n")
        assert run(finished, "train", "--preset", "ppo.yml", "--output-dir", str(tmp_path / "out")) != 0
        assert "judge vowels (judges.py:vowels) changed since the run began" in capfd.readouterr().err
        assert run(finished, "eval", "--config", "eval.yml", "--output-dir", "compared") != 0
        assert "judge vowels" in capfd.readouterr().err.splitlines()[-1]
    finally:
        (finished / "judges.py").write_text(FUNCTION)
