"""Golden numbers from TRL 1.11.0, the last release with PPO: `python tests/golden/make_trl.py`.

TRL's own lines are cut out of its source and run on seeded float64 tensors, so the numbers are what its
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
from trl.experimental.ppo import ppo_trainer
from trl.trainer import dpo_trainer, reward_trainer
from trl.trainer.utils import selective_log_softmax

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
    return value.tolist() if isinstance(value, torch.Tensor) else value


if __name__ == "__main__":
    torch.manual_seed(839)
    made_with = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    golden = {"made_with": made_with, "ppo": ppo(), "token_logprobs": token_logprobs(), **preferences()}
    Path(__file__).with_name("trl.json").write_text(json.dumps(plain(golden), indent=None) + "\n")
