"""Load the value head that PPO saves next to a policy."""

from __future__ import annotations

from pathlib import Path

from harken.config import files as config_files
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.roles import ScalarHead
from harken.models.weights import read_tensors
from harken.run import checksums

VALUE_HEAD_FILE = "value_head.safetensors"


def load_value_head(folder: Path, backbone: Backbone) -> ScalarHead:
    """Load the value head in the `final/` of a PPO run, which reads the policy's hidden states in `backbone`.

    Raises UserError if there is none, if it is the head of a separate critic, or if it does not fit the model.
    """
    path = folder / VALUE_HEAD_FILE
    if not path.exists():
        raise UserError(
            "this policy has no value head",
            where=str(folder),
            fix="load a policy that PPO trained with a critic (advantage: gae)",
        )
    run = folder.parent / "config.yml"
    if run.exists():
        training = config_files.load_run(str(run), []).training
        if training.type == "ppo" and training.ppo.critic != "shared":
            raise UserError(
                f"its value head reads the states of a separate critic (critic: {training.ppo.critic})",
                where=str(folder),
                fix="train with critic: shared to have a value head of the policy",
            )
    checksums.verify_file(path)
    weights = read_tensors(path, ["bias", "weight"])
    if weights["weight"].shape != (backbone.hidden_size,) or weights["bias"].dim() != 0:
        raise UserError(
            f"the value head does not fit a model of hidden size {backbone.hidden_size}",
            where=str(path),
            fix="restore the folder that PPO wrote",
        )
    head = ScalarHead(backbone.hidden_size, 0.0).to(backbone.device)
    head.load_state_dict(weights)
    return head.requires_grad_(False)
