"""One tokenizer, chat template and set of end tokens for a model, in whatever stage or command it is used."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tiny import END, save_tiny, tiny_tokenizer
from tiny_rewards import save_reward_model
from transformers import AutoModelForCausalLM, GenerationConfig

from harken import data_check
from harken.config import EvaluationConfig, LoraSettings
from harken.config.base import DataConfig
from harken.data.chat import Renderer
from harken.evaluation import responses
from harken.models.backbone import Backbone
from harken.models.end_tokens import generation_settings
from harken.models.find_tokenizer import tokenizer_folder, tokenizer_of
from harken.models.resolve import resolve
from harken.models.roles import RewardModel
from harken.plan.architecture import find_model
from harken.records import Message, Prompt
from harken.reward.learned import LearnedReward
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine

OTHER = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|im_end|>{% endfor %}[assistant]"
ASKED = Prompt("p", (Message("user", "hi"),))


def on_base(folder: Path, *, template_alone: bool) -> str:
    """An adapter whose chat template is not its base's."""
    source = resolve(save_tiny(folder / "base"))
    backbone = Backbone.load(source, torch.float32, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=2), seed=0)
    backbone.tokenizer = copy.deepcopy(backbone.tokenizer)
    backbone.tokenizer.chat_template = OTHER
    backbone.save_adapter("policy", folder / "adapter", source.folder)
    if template_alone:
        for path in (folder / "adapter").glob("tokenizer*"):
            path.unlink()
    return str(folder / "adapter")


@pytest.mark.parametrize("template_alone", [False, True])
def test_the_nearest_folder_with_a_tokenizer_has_it(tmp_path: Path, template_alone: bool) -> None:
    """Its vocabulary and special tokens count, not the template alone."""
    source = resolve(on_base(tmp_path, template_alone=template_alone))
    assert tokenizer_folder(source).name == ("base" if template_alone else "adapter")


@pytest.mark.parametrize("template_alone", [False, True], ids=["tokenizer", "template alone"])
def test_an_adapter_uses_its_own_template_everywhere(tmp_path: Path, template_alone: bool) -> None:
    """Trained with its own, it is evaluated, planned, counted and scored with it."""
    source = resolve(on_base(tmp_path, template_alone=template_alone))
    wanted = tiny_tokenizer()("[user]hi<|im_end|>[assistant]", add_special_tokens=False)["input_ids"]
    assert (
        Renderer(Backbone.load(source, torch.float32, "cpu").tokenizer).encode_prompt(ASKED.messages)
        == wanted
    )
    config = EvaluationConfig(
        policies={"a": source.name, "b": source.name},
        reward_model="-",
        data=DataConfig(path="-", max_length=64),
        max_gen_len=2,
        device="cpu",
        dtype="float32",
    )
    engine = responses.load_engine(source, config)
    (rollout,) = engine.generate([ASKED], Sampling(2, 0.0), "v", "evaluation")
    assert list(rollout.prompt_tokens) == wanted
    message = responses.generate_responses(
        0, "a", source, [ASKED], config, tmp_path / "shards", Sampling(2, 0.0)
    )
    assert message.renderer.encode_prompt(ASKED.messages) == wanted
    planned = find_model(source.name)
    assert planned.source is not None and tokenizer_of(planned.source).chat_template == OTHER
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "hi", "response": "yes"}) + "\n")
    counted = data_check.check_data(DataConfig(path=str(rows), task="prompt_only"), source.name)
    assert f"median {len(wanted)}" in counted[-1]


def test_a_reward_model_on_a_shared_base_reads_through_its_own_template(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    save_reward_model(tmp_path / "rm", base)
    (tmp_path / "rm" / "final" / "chat_template.jinja").write_text(OTHER)
    share = Backbone.load(resolve(base), torch.float32, "cpu")
    model = RewardModel.load(resolve(str(tmp_path / "rm")), torch.float32, "cpu", share)
    assert model.backbone is share
    learned = LearnedReward(model, Renderer(share.tokenizer))
    (rollout,) = InProcessEngine(share, Renderer(share.tokenizer), None, 64).generate(
        [ASKED], Sampling(2, 0.0), "v", "test"
    )
    assert share.tokenizer.decode(learned.tokenize(rollout)).startswith("[user]hi<|im_end|>[assistant]")


def test_every_end_token_ends_a_response_and_is_saved(tmp_path: Path) -> None:
    """The template's end of turn, eos, and the list of generation_config.json: plain transformers stops there too."""
    base = save_tiny(tmp_path / "base")
    extra = [40, 41]
    GenerationConfig(eos_token_id=extra, do_sample=True, top_k=3).save_pretrained(base)
    backbone = Backbone.load(resolve(base), torch.float32, "cpu")
    engine = InProcessEngine(backbone, Renderer(backbone.tokenizer), None, 64)
    assert engine.stop_tokens == sorted([END, *extra])
    backbone.save_model(tmp_path / "whole")
    backbone.add_adapter("policy", LoraSettings(rank=2), seed=0)
    for name in ("whole", "adapter"):
        if name == "adapter":
            generation_settings(backbone.tokenizer, backbone.end_tokens).save_pretrained(tmp_path / name)
        saved = GenerationConfig.from_pretrained(tmp_path / name)
        assert sorted(saved.eos_token_id) == engine.stop_tokens
        assert saved.eos_token_id[0] == END  # the one that is taught
        assert (saved.do_sample, saved.top_k) == (GenerationConfig().do_sample, GenerationConfig().top_k)


def test_greedy_responses_stop_where_plain_transformers_stops(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    backbone = Backbone.load(resolve(base), torch.float32, "cpu")
    renderer = Renderer(backbone.tokenizer)
    (free,) = InProcessEngine(backbone, renderer, None, 64).generate([ASKED], Sampling(12, 0.0), "v", "t")
    new = [token for token in free.response_tokens[2:] if token not in free.response_tokens[:2]]
    stop = new[0]  # an ordinary token that the model writes a little later
    GenerationConfig(eos_token_id=[END, stop]).save_pretrained(base)
    backbone = Backbone.load(resolve(base), torch.float32, "cpu")
    (ours,) = InProcessEngine(backbone, renderer, None, 64).generate([ASKED], Sampling(12, 0.0), "v", "t")
    backbone.save_model(tmp_path / "final")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "final", dtype=torch.float32)
    tokens = torch.tensor([ours.prompt_tokens])
    theirs = plain.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False
    )
    assert ours.stop == "end_of_turn" and ours.response_tokens[-1] == stop
    assert theirs[0, tokens.shape[1] :].tolist() == list(ours.response_tokens)
