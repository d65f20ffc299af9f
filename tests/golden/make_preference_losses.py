"""Golden numbers of preference losses from TRL 1.16.0: `python tests/golden/make_preference_losses.py`.

`dpo`: TRL's DPOTrainer, built as a user builds it, computes loss, metrics and gradient of a Llama whose weights are a
formula, against another such Llama, in float32. `simpo`, `orpo`, `kto`: methods and lines of TRL's trainers on seeded
float64 tensors. Made with trl 1.16.0, torch 2.13.0 and transformers 5 in an environment of their own
(`pip install torch==2.13.0 trl==1.16.0`); TRL is no dependency of this project.
"""

import inspect
import json
import tempfile
import textwrap
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer import kto_trainer
from wave_model import CONFIG, fill_with_waves

assert trl.__version__ == "1.16.0", trl.__version__

PAIRS = [
    {"prompt": [1, 5, 11], "chosen": [7, 8, 2], "rejected": [9, 2]},
    {"prompt": [1, 6], "chosen": [10, 2], "rejected": [12, 13, 14, 15, 2]},
    {"prompt": [1, 4, 17, 18], "chosen": [3, 3, 2], "rejected": [3, 16, 2]},
]
CASES = [
    {"loss_type": ["sigmoid"], "beta": 0.1},
    {"loss_type": ["sigmoid"], "beta": 0.5, "ld_alpha": 0.3},
    {"loss_type": ["hinge"], "beta": 0.3},
    {"loss_type": ["ipo"], "beta": 0.4},
    {"loss_type": ["robust"], "beta": 0.2, "label_smoothing": 0.15},
    {"loss_type": ["sigmoid_norm"], "beta": 0.7},
    {"loss_type": ["sft"], "beta": 0.1},
]
METRICS = (
    "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
)  # fmt: skip
GRADIENTS = ("model.layers.0.self_attn.q_proj.weight", "lm_head.weight")


def tokenizer():
    words = {f"w{i}": i for i in range(CONFIG.vocab_size)}
    inner = Tokenizer(WordLevel(words, unk_token="w0"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0", bos_token="w1", eos_token="w2")


def reference():
    """A Llama near the policy: the same waves, moved a little."""
    model = fill_with_waves(LlamaForCausalLM(CONFIG))
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.add_((0.05 * torch.cos(places * 0.3 + number)).view(parameter.shape).float())
    return model


def inputs(pairs):
    rows = [pair["prompt"] + pair[side] for side in ("chosen", "rejected") for pair in pairs]
    starts = [len(pair["prompt"]) for _ in range(2) for pair in pairs]
    width = max(map(len, rows))
    pad = [row + [0] * (width - len(row)) for row in rows]
    real = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    mask = [
        [int(start <= t < len(row)) for t in range(width)] for row, start in zip(rows, starts, strict=True)
    ]
    return {
        "input_ids": torch.tensor(pad),
        "attention_mask": torch.tensor(real),
        "completion_mask": torch.tensor(mask),
    }


def through_trainer(case):
    """Loss, metrics and some gradients of one batch by a DPOTrainer."""
    torch.manual_seed(0)
    model = fill_with_waves(LlamaForCausalLM(CONFIG))
    rows = Dataset.from_list([{"prompt": "w5", "chosen": "w6 w7", "rejected": "w8"}])
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False,
            disable_dropout=True, precompute_ref_log_probs=False, **case,
        )  # fmt: skip
        trainer = DPOTrainer(
            model=model, ref_model=reference(), args=config, train_dataset=rows, processing_class=tokenizer()
        )
        loss = trainer.compute_loss(trainer.model, inputs(PAIRS))
        loss.backward()
        found = {
            name: trainer._metrics["train" if trainer.model.training else "eval"][name][-1]
            for name in METRICS
        }
        gradients = {
            name: parameter.grad.double().norm()
            for name, parameter in trainer.model.named_parameters()
            if name in GRADIENTS
        }
    return {"settings": case, "loss": loss.detach(), "metrics": found, "gradient_norms": gradients}


def scores(*shape):
    return -3 * torch.rand(*shape, dtype=torch.float64) - 0.01


def simpo():
    chosen, rejected = scores(8), scores(8)
    space = SimpleNamespace(
        alpha=0.0, loss_type="simpo", simpo_gamma=0.8, beta=2.5, label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    losses, *_ = CPOTrainer.cpo_loss(space, chosen, rejected)
    return {"beta": 2.5, "simpo_gamma": 0.8, "chosen": chosen, "rejected": rejected, "loss": losses}


def orpo():
    chosen, rejected = scores(8), scores(8)
    space = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    losses, *_ = ORPOTrainer.odds_ratio_loss(space, chosen, rejected)
    # TRL adds −mean(losses) to the negative log-likelihood.
    return {"beta": 0.3, "chosen": chosen, "rejected": rejected, "loss": -losses}


def kto():
    names = ("chosen_logps", "reference_chosen_logps", "rejected_logps", "reference_rejected_logps")
    given = {name: -20 * torch.rand(5, dtype=torch.float64) for name in names}
    given |= {"KL_logps": -9 * torch.rand(5).double(), "ref_KL_logps": -12 * torch.rand(5).double()}
    source = inspect.getsource(kto_trainer).splitlines()

    def line(first):
        return textwrap.dedent(next(row for row in source if row.strip().startswith(first)))

    space = {"F": F, "torch": torch, "self": SimpleNamespace(beta=0.4), **given}
    exec(line("kl = (KL_logps - ref_KL_logps)"), space)
    space["kl"] = space["kl"].clamp(min=0)
    space["chosen_logratios"] = given["chosen_logps"] - given["reference_chosen_logps"]
    space["rejected_logratios"] = given["rejected_logps"] - given["reference_rejected_logps"]
    exec(line("chosen_losses = 1 - F.sigmoid(self.beta * (chosen_logratios - kl))"), space)
    exec(line("rejected_losses = 1 - F.sigmoid(self.beta * (kl - rejected_logratios))"), space)
    return {"beta": 0.4, **given, **{k: space[k] for k in ("kl", "chosen_losses", "rejected_losses")}}


def plain(value):
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


if __name__ == "__main__":
    torch.manual_seed(0)
    found = {
        "versions": {
            "trl": trl.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "pairs": PAIRS,
        "dpo": [through_trainer(case) for case in CASES],
        "simpo": simpo(),
        "orpo": orpo(),
        "kto": kto(),
    }
    path = Path(__file__).parent / "preference_losses.json"
    path.write_text(json.dumps(plain(found), indent=1) + "\n")
    print(f"wrote {path}")
