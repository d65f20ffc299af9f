"""The Python interface: what it loads, trains and refuses, and that its runs are those of `harken train`."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import harken
from harken.api.configs import reward_settings
from harken.api.rows import as_prompts, write_given_rows
from harken.config.base import DataConfig
from harken.config.files import load_run
from harken.data import sources
from harken.errors import UserError
from harken.records import Message, Prompt
from harken.reward.provided_function import ProvidedReward
from harken.reward.python_function import PythonReward
from harken.run.folder import RunFolder
from harken.run.tables import read_rows
from harken.train.launch import train
from harken.train.sampler import draw_prompts

LOAD: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
RUN: dict[str, Any] = {**LOAD, "lora": {"rank": 2}, "tensorboard": False, "lr": 1e-3}
CONFIG = harken.PPOConfig(updates=2, prompts_per_update=2, max_gen_len=4, epochs=1, samples_per_prompt=2)
PROMPTS = ["Ask 1", "Ask 2", "Ask 3"]


def count_letters(prompt: str, response: str) -> float:
    return float(len(response)) / 10


def final_files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("adapter_config.json", "SHA256SUMS")
    }


# -- import ---------------------------------------------------------------------------------------


def test_importing_harken_imports_no_torch() -> None:
    code = "import sys, harken; print(sorted({'torch', 'transformers', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_api_is_an_attribute_of_harken() -> None:
    import harken.api

    assert sorted(harken.__all__) == sorted(harken.api.__all__)
    for name in harken.__all__:
        assert getattr(harken, name) is getattr(harken.api, name)
        assert callable(getattr(harken, name)) and getattr(harken.api, name).__doc__, name
    assert set(harken.__all__) <= set(dir(harken))
    with pytest.raises(AttributeError, match="no attribute 'PP0'"):
        _ = harken.PP0


def test_the_stub_names_what_harken_offers() -> None:
    """A type checker, which reads the stub, sees the names of `harken.__all__` and no others."""
    stub = Path(harken.__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^    (\w+) as \1,$", stub, re.MULTILINE)) == sorted(harken.__all__)


def test_no_module_hides_a_name_of_the_api() -> None:
    """An import of `harken.X` would replace the attribute X of the package, for every X of the API."""
    modules = {entry.name for entry in pkgutil.iter_modules(harken.__path__)}
    assert not modules & set(harken.__all__)


# -- rows -----------------------------------------------------------------------------------------


def test_prompts_of_python_are_those_of_a_file(tmp_path: Path) -> None:
    """Strings, conversations, records and rows have the ids and fields that the loader gives them."""
    conversation = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    record = Prompt(
        "mine", (Message("user", "Why?"),), "science", "en", "because", {"keywords": ["a"]}, '[{"name": "f"}]'
    )
    rows = ["Explain rainbows.", conversation, record, {"prompt": "And?", "id": "x", "answer": "no"}]
    write_given_rows(rows, tmp_path / "rows.jsonl")
    loaded, report = sources.load_prompts(DataConfig(path=str(tmp_path / "rows.jsonl")))
    assert not report.dropped
    assert as_prompts(rows) == loaded


def test_rows_that_a_run_began_with_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "train.jsonl"
    write_given_rows(["a", "b"], path)
    write_given_rows(["a", "b"], path)
    with pytest.raises(UserError, match=r"began with other rows.*Fix: give the same rows"):
        write_given_rows(["a", "c"], path)
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([3], "int is not a prompt or a row"),
        ([{"prompt": {1, 2}}], "row 1: the row cannot be written"),
    ],
)
def test_rows_that_are_none_are_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_given_rows(rows, tmp_path / "rows.jsonl")


def test_one_text_is_no_list_of_prompts() -> None:
    with pytest.raises(UserError, match="Fix: give a list"):
        as_prompts("Explain rainbows.")


# -- loaded models --------------------------------------------------------------------------------


def test_a_policy_generates_and_a_reward_model_scores(made_models: Path) -> None:
    """S2-74, S4-04, S4-28: a list of texts for each prompt; scores are numpy numbers, those that PPO would be given."""
    policy = harken.load_policy(made_models / "sft", **LOAD)
    texts = policy.generate(["Hi", "Hi", "Ho"], max_gen_len=5, samples=2)
    assert [len(t) for t in texts] == [2, 2, 2]
    assert texts[0] != texts[1], "a repeated prompt gets other draws"
    assert texts == policy.generate(["Hi", "Hi", "Ho"], max_gen_len=5, samples=2)
    assert texts[2] == policy.generate(["Ho"], max_gen_len=5, samples=2)[0]
    greedy = policy.rollouts(["Hi"], max_gen_len=3, temperature=0)[0]
    assert greedy.response_tokens and len(greedy.response_tokens) <= 3

    reward_model = harken.load_reward_model(made_models / "rm", **LOAD)
    scores = reward_model.score(["Hi", "Hi", "Ho"], texts)
    assert scores.shape == (3, 2) and scores.dtype == np.float64
    flat = reward_model.score(["Hi", "Hi"], [texts[0][0], texts[0][1]])
    assert flat.tolist() == pytest.approx(scores[0].tolist(), abs=1e-5)
    with pytest.raises(UserError, match="2 prompts and 1 responses"):
        reward_model.score(["Hi", "Ho"], ["x"])
    with pytest.raises(UserError, match="different numbers of responses"):
        reward_model.score(["Hi", "Ho"], [["x"], ["y", "z"]])


def test_log_probabilities_are_those_of_the_sampler(made_models: Path) -> None:
    """S4-04. Of a response that was sampled as text and ended, token by token."""
    policy = harken.load_policy(made_models / "sft", **LOAD)
    (rollout,) = policy.rollouts(["Hi"], max_gen_len=3, temperature=0)
    text = "good"
    (found,) = policy.logprobs(["Hi"], [text])
    backbone, renderer = policy._engine.backbone, policy._engine.renderer
    tokens = [*rollout.prompt_tokens, *renderer.encode_response(text)]
    with torch.no_grad(), backbone.role(policy._engine.role):
        logits = backbone.trunk(torch.tensor([tokens])).last_hidden_state[0] @ backbone.output_weight.T
    logp = torch.log_softmax(logits.double(), -1)
    start = len(rollout.prompt_tokens)
    expected = [float(logp[t - 1, tokens[t]]) for t in range(start, len(tokens))]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_models_of_the_wrong_kind_are_refused(made_models: Path) -> None:
    with pytest.raises(UserError, match="is not a reward model"):
        harken.load_reward_model(made_models / "sft")
    with pytest.raises(UserError, match="cannot generate"):
        harken.load_policy(made_models / "rm")
    with pytest.raises(UserError, match="unknown dtype float16"):
        harken.load_policy(made_models / "sft", dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="greedy responses"):
        harken.load_policy(made_models / "sft").generate(["Hi"], samples=2, temperature=0)
    with pytest.raises(UserError, match="no value head"):
        harken.load_policy(made_models / "sft", **LOAD).values(["Hi"], ["x"])


# -- runs -----------------------------------------------------------------------------------------


def test_a_run_is_the_command_lines_run(made_models: Path, tmp_path: Path) -> None:
    """The same bytes of final/ as `harken train` with the equivalent YAML, and a second call finds it finished."""
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    (tmp_path / "run.yml").write_text(
        f"""
model_name: {made_models / "sft"}
dtype: float32
device: cpu
lora: {{rank: 2}}
tensorboard: false
data: {{path: {tmp_path / "prompts.jsonl"}, max_length: 64}}
training:
  type: ppo
  lr: 1.0e-3
  reward_model: {{checkpoint_path: {made_models / "rm"}}}
  rewards: [{{type: rule, name: intact, weight: 0.5}}]
  ppo: {{updates: 2, prompts_per_update: 2, max_gen_len: 4, epochs: 1, samples_per_prompt: 2}}
"""
    )
    theirs = train(load_run(str(tmp_path / "run.yml"), []), tmp_path / "cli").final
    policy, reward_model = (
        harken.load_policy(made_models / "sft", **LOAD),
        harken.load_reward_model(made_models / "rm", **LOAD),
    )
    ppo = harken.PPO(
        policy, [reward_model, {"type": "rule", "name": "intact", "weight": 0.5}], CONFIG,
        folder=tmp_path / "api", data={"max_length": 64}, **RUN,
    )  # fmt: skip
    ours = ppo.train(PROMPTS)
    assert ours == tmp_path / "api" / "final"
    assert final_files(ours) == final_files(theirs)
    assert ppo.train(PROMPTS) == ours
    with pytest.raises(UserError, match="other rows"):
        ppo.train(["Ask 4"])


def test_without_a_folder_nothing_is_written_here(
    made_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that no file holds is a reward too; save() keeps the model after the temporary folder is gone."""
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def reward(prompt: str, response: str, **details: Any) -> float:
        seen.append(details["prompt_id"])
        return count_letters(prompt, response)

    ppo = harken.PPO(made_models / "sft", reward, CONFIG, **RUN)
    with pytest.raises(UserError, match="nothing is trained yet"):
        ppo.save("mine")
    final = ppo.train(PROMPTS)
    assert list(tmp_path.iterdir()) == [] and seen
    saved = ppo.save("mine")
    before = harken.load_policy(final, **LOAD).generate(["Hi"], max_gen_len=4)
    del ppo
    assert not final.exists()
    policy = harken.load_policy(saved, **LOAD)
    assert policy.generate(["Hi"], max_gen_len=4) == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    values = policy.values(["Hi"], ["ab"])[0]
    head = load_file(saved / "value_head.safetensors")
    assert values.shape == (3,) and float(head["weight"].abs().sum()) > 0  # S4-27
    harken_source = policy._source
    harken_source.check()


def test_a_loop_of_steps_is_the_run(made_models: Path, tmp_path: Path) -> None:
    """S2-81: generate and step on the prompts that train() draws give its weights, bit for bit; so do given rewards."""
    run = harken.PPO(made_models / "sft", count_letters, CONFIG, folder=tmp_path / "run", **RUN)
    final = run.train(PROMPTS)
    for given in (False, True):
        loop = harken.PPO(made_models / "sft", None if given else count_letters, CONFIG, **RUN)
        for number in range(2):
            draws = draw_prompts(number, 2, len(PROMPTS), 839, "PPO")
            rollouts = loop.generate([PROMPTS[i] for draw in draws for i in draw])
            recorded = read_rows(RunFolder(tmp_path / "run").rollouts / f"update-{number + 1:06d}.parquet")
            assert [list(r.response_tokens) for r in rollouts] == [row["response_tokens"] for row in recorded]
            rewards = [count_letters("", r.text) for r in rollouts] if given else None
            metrics = loop.step(rollouts, rewards)
            assert metrics["kl/coef"] == 0.1
        saved = loop.save(tmp_path / f"loop-{given}")
        for name in ("adapter_model.safetensors", "value_head.safetensors"):
            assert (saved / name).read_bytes() == (final / name).read_bytes(), given


def test_the_own_loop_refuses_what_does_not_fit(made_models: Path) -> None:
    ppo = harken.PPO(made_models / "sft", config=CONFIG.model_copy(update={"updates": 1}), **RUN)
    with pytest.raises(UserError, match="PPO has no reward"):
        ppo.train(PROMPTS)
    rollouts = ppo.generate(["Ask 1", "Ask 1"])
    assert len(rollouts) == 4 and len({r.response_tokens for r in rollouts}) > 1
    with pytest.raises(UserError, match="whole groups"):
        ppo.step(rollouts[:3], [1.0, 2.0, 3.0])
    with pytest.raises(UserError, match=r"has no reward.*Fix: give step"):
        ppo.step(rollouts)
    with pytest.raises(UserError, match="one finite number"):
        ppo.step(rollouts, [1.0])
    with pytest.raises(UserError, match="not finite"):
        ppo.step(rollouts, [1.0, 2.0, 3.0, float("nan")])
    ppo.step(rollouts, np.arange(4))
    with pytest.raises(UserError, match="all 1 updates are run"):
        ppo.step(rollouts, np.arange(4))


def test_sft_reward_model_and_preference_training(made_models: Path) -> None:
    """S2-74: trainers of one shape; rows are lists of dicts or a data set."""
    pairs = [{"prompt": f"Q{i}?", "chosen": f"Good {i}.", "rejected": f"bad {i}"} for i in range(6)]
    demonstrations = [{"prompt": p["prompt"], "response": p["chosen"]} for p in pairs]
    few: dict[str, Any] = {**RUN, "max_steps": 2, "batch_size": 2}
    sft = harken.SFT(made_models / "model", **few)
    policy = sft.train(_Dataset(demonstrations), held_out=demonstrations[:1])
    assert harken.load_policy(policy, **LOAD).generate(["Q1?"], max_gen_len=2)
    training = harken.RewardModelTraining(
        policy, harken.RewardConfig(max_steps=2, batch_size=2, card={"pairs": 0}), **RUN
    )
    reward_model = harken.load_reward_model(training.train(pairs), **LOAD)
    assert reward_model.score(["Q1?"], ["Good 1."]).shape == (1,)
    dpo = harken.DPO(policy, harken.DPOConfig(beta=0.2, max_gen_len=4), **few)
    assert (dpo.train(pairs) / "adapter_model.safetensors").exists()
    online = harken.OnlineDPO(
        policy, count_letters, harken.OnlineDPOConfig(updates=1, prompts_per_update=2, max_gen_len=4), **RUN
    )
    assert (online.train(PROMPTS) / "adapter_model.safetensors").exists()


class _Dataset:
    """What an iterable of rows such as datasets.Dataset offers."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_policies_are_compared(made_models: Path, tmp_path: Path) -> None:
    """The summary is that of `harken eval`; compare gives the pair's figures."""
    policies = {"Base": made_models / "model", "SFT": harken.load_policy(made_models / "sft", **LOAD)}
    summary = harken.evaluate(
        policies, PROMPTS, [made_models.joinpath("rm").as_posix(), count_letters],
        folder=tmp_path / "eval", max_gen_len=4, **LOAD,
    )  # fmt: skip
    assert [row["policy"] for row in summary["table"]] == ["Base", "SFT"]
    assert summary == json.loads((tmp_path / "eval" / "summary.json").read_text())
    pair = harken.compare(
        made_models / "model", made_models / "sft", PROMPTS, count_letters, max_gen_len=4, **LOAD
    )
    assert pair["n"] == 3 and pair["wins"] + pair["ties"] + pair["losses"] == 3


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1.0}, "learning_rate: unknown setting. Fix:"),
        ({"sed": 1}, "sed: unknown setting. Fix: write seed"),
        ({"lr": "high"}, "lr"),
        ({"data": 3}, "data is a int. Fix: give its keys"),
    ],
)
def test_settings_are_checked_when_the_trainer_is_made(
    made_models: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        harken.SFT(made_models / "model", **settings)


def test_a_config_of_another_kind_is_refused(made_models: Path) -> None:
    with pytest.raises(UserError, match=r"config is a DPOSettings. Fix: give a harken.PPOConfig"):
        harken.PPO(made_models / "sft", count_letters, harken.DPOConfig())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is not a reward model"):
        harken.PPO(made_models / "sft", str(made_models / "sft"), CONFIG, **RUN).train(PROMPTS)
    with pytest.raises(UserError, match="int is not a reward"):
        harken.PPO(made_models / "sft", 3, CONFIG)  # type: ignore[arg-type]


def test_rewards_become_parts() -> None:
    parts = reward_settings(
        ["outputs/02_rm", "outputs/other", "my.py:score", count_letters, lambda p, r: 0.0]
    )
    assert parts.settings["reward_model"] == {"checkpoint_path": "outputs/02_rm"}
    kinds = [part["type"] for part in parts.settings["rewards"]]
    assert kinds == ["model", "python", "python", "python"]
    assert [part.get("name") for part in parts.settings["rewards"]] == [
        "model_1",
        None,
        "count_letters",
        "reward_4",
    ]
    assert set(parts.functions) == {"provided_3.py:count_letters", "provided_4.py:reward_4"}


def test_a_provided_function_is_scored_like_one_of_a_file(made_models: Path, tmp_path: Path) -> None:
    """The same arguments, values and errors as `training.rewards` gives a function of a file."""
    text = "def score(prompt, response, tokens, **details):\n    return len(tokens) + 0.5\n"
    (tmp_path / "mine.py").write_text(text)
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    rollouts = harken.load_policy(made_models / "sft", **LOAD).rollouts(["a", "b"], max_gen_len=3)
    ours = ProvidedReward("score", namespace["score"], 2.0)
    assert ours.score(rollouts) == PythonReward("score", f"{tmp_path}/mine.py:score", 2.0).score(rollouts)
    with pytest.raises(UserError, match=r"returned 'x' \(str\) for prompt"):
        ProvidedReward("bad", lambda prompt, response: "x").score(rollouts)
    with pytest.raises(UserError, match="does not take a prompt, a response"):
        ProvidedReward("bad", lambda: 1.0)
    first, second = (ProvidedReward("f", f).sha256 for f in (count_letters, lambda prompt, response: 1.0))
    assert first != second
