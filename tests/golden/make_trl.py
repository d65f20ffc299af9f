"""Golden numbers from TRL 1.11.0, the last release with PPO: `python tests/golden/make_trl.py`.

TRL's own lines are extracted from its source and run on seeded float64 tensors, so the numbers are what its
trainer computes. They were made with trl 1.11.0, torch 2.13.0 and transformers 5.23.0 in an environment of
their own (`pip install torch==2.13.0 trl==1.11.0`); TRL is no dependency of this project.
"""

import inspect
import json
import textwrap
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import transformers
import trl
from torch import nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification
from trl.experimental.ppo import ppo_trainer
from trl.experimental.utils import first_true_indices, get_reward
from trl.trainer import dpo_trainer, reward_trainer
from trl.trainer.utils import selective_log_softmax
from wave_model import CONFIG, fill_with_waves

assert trl.__version__ == "1.11.0", trl.__version__


def lines(source, first, last):
    """The lines of `source` from the one that begins with `first` to the next that begins with `last`."""
    rows = source.splitlines()
    start = next(i for i, row in enumerate(rows) if row.strip().startswith(first))
    end = next(i for i, row in enumerate(rows[start:], start) if row.strip().startswith(last))
    return textwrap.dedent("\n".join(rows[start : end + 1]))


def normal(*shape, scale=1.0):
    return torch.randn(*shape, dtype=torch.float64) * scale


def ppo():
    train = inspect.getsource(ppo_trainer.PPOTrainer.train)
    credit = lines(train, "response_idxs = ", "advantages = torch.masked_fill(")
    losses = lines(train, "vpredclipped = ", "loss = pg_loss")
    rows, time = 4, 6
    args = SimpleNamespace(
        kl_estimator="k1", kl_coef=0.3, whiten_rewards=False, gamma=0.97, lam=0.9,
        cliprange=0.2, cliprange_value=0.2, vf_coef=0.1,
    )  # fmt: skip
    inputs = {
        "logprobs": -normal(rows, time).abs(),
        "ref_logprobs": -normal(rows, time).abs(),
        "values": normal(rows, time),
        "scores": normal(rows),
        # The index of a row's last token: two rows fill the batch's width, two end early.
        "sequence_lengths": torch.tensor([5, 2, 5, 3]),
    }
    space = dict(vars(ppo_trainer))
    space.update({name: value.clone() for name, value in inputs.items()})
    space |= {"args": args, "responses": torch.zeros(rows, time, dtype=torch.long)}
    exec(credit, space)
    unwhitened = space["returns"] - space["values"]
    space |= {
        "micro_batch_inds": slice(None),
        "mb_values": space["values"], "mb_return": space["returns"], "mb_advantage": space["advantages"],
        "mb_logprobs": space["logprobs"],
        "vpred": space["values"] + normal(rows, time, scale=0.3),
        "new_logprobs": space["logprobs"] + normal(rows, time, scale=0.3),
    }  # fmt: skip
    exec(losses, space)
    k3 = space | {name: value.clone() for name, value in inputs.items()}
    k3["args"] = SimpleNamespace(**(vars(args) | {"kl_estimator": "k3"}))
    exec(credit, k3)
    kept = (
        "padding_mask", "padding_mask_p1", "kl", "rewards", "returns", "advantages", "vpred", "new_logprobs",
        "vf_loss_max", "vf_loss", "pg_loss_max", "pg_loss",
    )  # fmt: skip
    return {
        "settings": vars(args),
        "inputs": inputs,
        "masked_values": space["values"],
        "unwhitened_advantages": unwhitened,
        "k3": k3["kl"],
    } | {name: space[name] for name in kept}


PAD, EOS = 0, 2
# The first row is TRL's defaults.
NAMES = ("kl_estimator", "kl_coef", "gamma", "lam", "cliprange", "cliprange_value", "missing_eos_penalty")
SETTINGS = [
    ("k1", 0.05, 1.0, 0.95, 0.2, 0.2, None),
    ("k3", 0.3, 0.97, 0.9, 0.1, 0.5, 1.0),
    ("k1", 1.0, 1.0, 1.0, 0.3, 0.05, 2.5),
    ("k1", 0.2, 0.9, 0.0, 0.05, 1.0, 0.5),
]
# Generated rows of six tokens: ended early, cut, ended by the last token, ended at once, ended early.
RESPONSES = [
    [5, 6, 7, EOS, PAD, PAD],
    [8, 9, 5, 6, 7, 8],
    [9, 9, 8, 7, 6, EOS],
    [EOS, PAD, PAD, PAD, PAD, PAD],
    [7, 5, EOS, PAD, PAD, PAD],
]
MICRO_BATCHES = [[0, 1, 2], [3, 4]]


def updates():
    """Whole updates from the responses on, under several settings: credit, losses, what is logged."""
    train = inspect.getsource(ppo_trainer.PPOTrainer.train)
    responses = torch.tensor(RESPONSES)
    rows, time = responses.shape
    inputs = {
        "logprobs": -normal(rows, time).abs(),
        "ref_logprobs": -normal(rows, time).abs(),
        "values": normal(rows, time),
        "scores": normal(rows),
        "vpred": normal(rows, time),
        "logits": normal(rows, time, 11, scale=2.0),
    }
    inputs["new_logprobs"] = inputs["logprobs"] + normal(rows, time, scale=0.3)
    tokens = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
    cases = []
    for settings in (dict(zip(NAMES, row, strict=True)) for row in SETTINGS):
        args = SimpleNamespace(whiten_rewards=False, vf_coef=0.1, **settings)
        space = dict(vars(ppo_trainer)) | {name: value.clone() for name, value in inputs.items()}
        space |= {"args": args, "self": SimpleNamespace(args=args, processing_class=tokens)}
        space |= {
            "processing_class": tokens,
            "responses": responses,
            "first_true_indices": first_true_indices,
        }
        space["postprocessed_response"] = ppo_trainer.truncate_response(EOS, PAD, responses)
        space["postprocessed_responses"] = space["postprocessed_response"]
        exec(lines(train, "sequence_length = first_true", "sequence_length = first_true"), space)
        space["sequence_lengths"] = space["sequence_length"]
        exec(lines(train, "contain_eos_token = ", "advantages = torch.masked_fill("), space)
        space["unwhitened_advantages"] = space["returns"] - space["values"]
        credit = (
            "sequence_lengths", "padding_mask", "padding_mask_p1", "kl", "rewards", "returns",
            "unwhitened_advantages", "advantages", "scores",
        )  # fmt: skip
        case = {"settings": settings} | {name: space[name].clone() for name in credit}
        case["whole"] = losses(train, space, inputs, list(range(rows)))
        case["micro_batches"] = [losses(train, space, inputs, rows) for rows in MICRO_BATCHES]
        exec(lines(train, "mean_kl = ", "mean_entropy = "), space)
        case |= {"objective/kl": space["mean_kl"], "objective/entropy": space["mean_entropy"]}
        cases.append(case)
    return {"responses": RESPONSES, "rows": MICRO_BATCHES, "inputs": inputs, "cases": cases}


def losses(train, credited, inputs, rows):
    """The lines of one micro-batch, from its log-probabilities and values to what is logged of them."""
    space = dict(credited) | {
        "micro_batch_inds": rows,
        "mb_values": credited["values"][rows],
        "mb_return": credited["returns"][rows],
        "mb_advantage": credited["advantages"][rows],
        "mb_logprobs": credited["logprobs"][rows],
        "logits": inputs["logits"][rows],
        "new_logprobs": inputs["new_logprobs"][rows],
        "vpred": inputs["vpred"][rows],
    }
    exec(lines(train, "new_logprobs = torch.masked_fill(", ")"), space)
    exec(lines(train, "vpred = torch.masked_fill(", "loss = pg_loss"), space)
    exec(lines(train, "pg_clipfrac = masked_mean(", "approxkl = "), space)
    found = {name: space[name] for name in ("pg_loss", "vf_loss", "loss", "pg_clipfrac", "approxkl")}
    return found | {"entropy_avg": space["entropy"].mean(), "ratio_avg": space["ratio"].mean()}


def guard():
    """What TRL's loss says of a token that became e^30 times likelier."""
    train = inspect.getsource(ppo_trainer.PPOTrainer.train)
    space = {"torch": torch, "args": SimpleNamespace(cliprange=0.2)}
    space |= {"new_logprobs": torch.tensor([-1.0]).double(), "mb_logprobs": torch.tensor([-31.0]).double()}
    space["mb_advantage"] = torch.tensor([-1.0]).double()
    exec(lines(train, "logprobs_diff = ", "pg_loss_max = "), space)
    return {"new_logprobs": -1.0, "old_logprobs": -31.0, "advantage": -1.0, "loss": space["pg_loss_max"]}


@torch.no_grad()
def through_models():
    """Left-padded queries and right-padded responses through TRL's own forwards: the same weights, float32."""
    train = inspect.getsource(ppo_trainer.PPOTrainer.train)
    policy = fill_with_waves(LlamaForCausalLM(CONFIG))
    value, reward = (fill_with_waves(LlamaForSequenceClassification(CONFIG)) for _ in range(2))
    value.model.load_state_dict(policy.model.state_dict())
    queries = [[1, 5, 11], [1, 6, 7, 8, 12, 13], [1], [3, 4], [1, 9, 18, 17]]
    width = max(map(len, queries))
    padded = torch.tensor([[PAD] * (width - len(query)) + query for query in queries])
    space = dict(vars(ppo_trainer)) | {
        "args": SimpleNamespace(temperature=0.7),
        "processing_class": SimpleNamespace(pad_token_id=PAD),
        "model": ppo_trainer.PolicyAndValueWrapper(policy, value),
        "mb_query_responses": torch.cat([padded, torch.tensor(RESPONSES)], 1),
        "mb_responses": torch.tensor(RESPONSES),
        "context_length": width,
    }
    exec(lines(train, "output, vpred_temp = forward(", "new_logprobs = selective"), space)
    exec(lines(train, "vpred = vpred_temp", "vpred = vpred_temp"), space)
    exec(lines(train, "prob_dist = ", "entropy = "), space)
    score = get_reward(reward, space["mb_query_responses"], PAD, width)[1]
    kept = {name: space[name] for name in ("new_logprobs", "vpred", "entropy")}
    return {"temperature": 0.7, "queries": queries, "responses": RESPONSES, "score": score, **kept}


def token_logprobs():
    train = inspect.getsource(ppo_trainer.PPOTrainer.train)
    logits, tokens = normal(3, 4, 7, scale=2.0), torch.randint(7, (3, 4))
    space = {"torch": torch, "logits": logits / (0.7 + 1e-7)}
    exec(lines(train, "prob_dist = ", "entropy = "), space)
    return {
        "temperature": 0.7,
        "logits": logits,
        "tokens": tokens,
        "logprobs": selective_log_softmax(space["logits"], tokens),
        "entropy": space["entropy"],
    }


def preferences():
    chosen, rejected, margin = normal(8, scale=2.0), normal(8, scale=2.0), torch.rand(8, dtype=torch.float64)
    source = inspect.getsource(reward_trainer)
    with_margin, without = (
        row.strip().removesuffix(".mean()")
        for row in source.splitlines()
        if row.strip().startswith("loss = -nn.functional.logsigmoid")
    )
    bt = {"chosen": chosen, "rejected": rejected, "margin": margin}
    for name, row in (("plain", without), ("with_margin", with_margin)):
        space = {
            "nn": nn,
            "rewards_chosen": chosen,
            "rewards_rejected": rejected,
            "inputs": {"margin": margin},
        }
        exec(row, space)
        bt[name] = space["loss"]

    answers = {
        name: -20 * torch.rand(8, dtype=torch.float64)
        for name in ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
    }
    source = inspect.getsource(dpo_trainer)
    space = {"F": F, "self": SimpleNamespace(beta=0.1), **answers}
    exec(lines(source, "chosen_logratios = ", "rejected_logratios = "), space)
    space |= {"chosen_scores": space["chosen_logratios"], "rejected_scores": space["rejected_logratios"]}
    exec(lines(source, "delta_score = ", "delta_score = "), space)
    exec(
        lines(source, "per_sequence_loss = -F.logsigmoid(self.beta * delta_score)", "per_sequence_loss"),
        space,
    )
    return {"bradley_terry": bt, "dpo": {"beta": 0.1, **answers, "loss": space["per_sequence_loss"]}}


def plain(value):
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


if __name__ == "__main__":
    torch.manual_seed(839)
    made_with = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    golden = {"made_with": made_with, "ppo": ppo(), "token_logprobs": token_logprobs(), **preferences()}
    golden |= {"updates": updates(), "guard": guard(), "through_models": through_models()}
    Path(__file__).with_name("trl.json").write_text(json.dumps(plain(golden), indent=None) + "\n")
