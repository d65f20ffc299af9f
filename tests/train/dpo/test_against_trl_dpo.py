"""The same weights and tokens through Harken's learner and TRL 1.16.0's DPOTrainer.

golden/make_preference_losses.py wrote TRL's numbers.
"""

import json
from pathlib import Path

import pytest
import torch
from golden.wave_model import CONFIG, fill_with_waves
from tiny import tiny_tokenizer
from transformers import LlamaForCausalLM

from harken.config.preference_training import DPOTraining
from harken.models.backbone import Backbone
from harken.models.roles import Policy
from harken.records import TokenPair
from harken.train.dpo.examples import pair_examples
from harken.train.dpo.learner import PreferenceLearner
from harken.train.dpo.metrics import preference_metrics

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "preference_losses.json").read_text())
NAMES = {"sigmoid": "dpo", "sigmoid_norm": "dpo", "hinge": "hinge", "ipo": "ipo", "robust": "robust"}
PAIRS = [
    TokenPair(
        str(i), (*p["prompt"], *p["chosen"]), (*p["prompt"], *p["rejected"]), prompt_length=len(p["prompt"])
    )
    for i, p in enumerate(GOLDEN["pairs"])
]
EXAMPLES = pair_examples(PAIRS)
LOSSES = [case for case in GOLDEN["dpo"] if case["settings"]["loss_type"][0] in NAMES]


def wave_policy() -> Policy:
    backbone = Backbone(fill_with_waves(LlamaForCausalLM(CONFIG)), tiny_tokenizer())
    backbone.train_all_weights()
    return Policy(backbone, None)


def wave_reference() -> Policy:
    model = fill_with_waves(LlamaForCausalLM(CONFIG))
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.add_((0.05 * torch.cos(places * 0.3 + number)).view(parameter.shape).float())
    return Policy(Backbone(model, tiny_tokenizer()), None)


def learner(micro_batch_tokens: int = 4096, **settings: object) -> PreferenceLearner:
    training = DPOTraining.model_validate(
        {"type": "dpo", "dpo": settings, "micro_batch_tokens": micro_batch_tokens}
    )
    return PreferenceLearner(training, training.dpo, wave_policy(), wave_reference(), "DPO")


def settings_of(case: dict) -> dict:
    theirs = dict(case["settings"])
    kind = theirs.pop("loss_type")[0]
    if kind == "sigmoid_norm":
        theirs["length_normalise"] = True
    return {"loss": NAMES[kind], **theirs}


@pytest.mark.parametrize("case", LOSSES, ids=lambda c: "-".join(map(str, c["settings"].values())))
@pytest.mark.parametrize("micro_batch_tokens", [4096, 8])
def test_loss_and_gradient_agree_with_trl(case: dict, micro_batch_tokens: int) -> None:
    """S0-68, S2-69: loss and gradient of a whole batch, in one micro-batch and split, to 1e-5."""
    made = learner(micro_batch_tokens, **settings_of(case))
    reference = made.scores(made.reference, EXAMPLES)
    loss, _ = made.accumulate_gradients(EXAMPLES, reference)
    assert loss == pytest.approx(case["loss"], abs=1e-5)
    for name, norm in case["gradient_norms"].items():
        gradient = dict(made.policy.backbone.model.named_parameters())[name].grad
        assert gradient is not None
        assert float(gradient.double().norm()) == pytest.approx(norm, abs=1e-5)


def test_metrics_agree_with_trl() -> None:
    """rewards/… and logps/… mean what they mean in TRL."""
    for case in LOSSES[:3]:
        made = learner(**settings_of(case))
        reference = made.scores(made.reference, EXAMPLES)
        _, scores = made.evaluate(EXAMPLES, reference)
        ours = preference_metrics(made.settings, scores, EXAMPLES)
        for name, value in case["metrics"].items():
            assert ours[name] == pytest.approx(value, abs=1e-5), (case["settings"], name)


def test_the_nll_is_per_pair_and_trls_is_per_token() -> None:
    """Harken averages over the tokens of each pair, then over pairs (RPO eq. 1); TRL over all tokens of the batch."""
    theirs = next(case["loss"] for case in GOLDEN["dpo"] if case["settings"]["loss_type"] == ["sft"])
    made = learner(nll_coef=1.0)
    _, scores = made.evaluate(EXAMPLES, made.scores(made.reference, EXAMPLES))
    lengths = torch.tensor([float(e.first.length) for e in EXAMPLES])
    assert float((scores.nll * lengths).sum() / lengths.sum()) == pytest.approx(theirs, abs=1e-5)


def test_the_installed_trl_gives_the_golden_numbers() -> None:
    """Where TRL of the golden version is installed, its methods still give what the file holds."""
    trl = pytest.importorskip("trl", reason="TRL is not installed: golden/make_preference_losses.py says how")
    if trl.__version__ != GOLDEN["versions"]["trl"]:
        pytest.skip(
            f"TRL {trl.__version__} is installed, the golden numbers are of {GOLDEN['versions']['trl']}"
        )
    from golden.make_preference_losses import CASES, through_trainer

    again = through_trainer(CASES[0])
    assert float(again["loss"]) == pytest.approx(GOLDEN["dpo"][0]["loss"], abs=1e-6)
