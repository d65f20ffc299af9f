"""What a model of each weight dtype computes under the processor capabilities that the environment allows.

    ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 python tests/capabilities.py MODEL_FOLDER RUN_FOLDER

Prints one JSON object: for every dtype how far decoding is from the training forward (share of its norm), and whether
the frozen weights kept every bit; and how a PPO run of one update on an nf4 base ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from harken.config import LoraSettings, RunConfig
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import resolve
from harken.models.roles import fingerprint_tensors
from harken.rollout.decoder import Decoder
from harken.run import manifest
from harken.train.launch import train

ROWS = [list(range(10, 30)), list(range(40, 52))]


def measure(model: str, dtype: str) -> dict[str, float | bool]:
    """One dtype: the gap between decoding and training, and whether the base kept every bit."""
    backbone = Backbone.load(resolve(model), WEIGHT_DTYPES[dtype], "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4, alpha=12), seed=0)
    torch.manual_seed(0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    base = [p for n, p in backbone.model.named_parameters() if "lora_" not in n]
    before = fingerprint_tensors(base)
    with torch.no_grad(), backbone.role("policy"):
        layout = backbone.pack(ROWS)
        ends = [int(where[len(row) - 1]) for where, row in zip(layout.token_index, ROWS, strict=True)]
        expected = backbone.forward_packed(layout, use_cache=False)[ends].float()
        with backbone.decoding():
            decoder = Decoder(backbone, 2, 32)
            decoder.prefill([row[:-1] for row in ROWS], [1, 1])
            decoder.append(torch.tensor([row[-1] for row in ROWS]))
            found = decoder.last_states.float()
    return {
        "gap": float((found - expected).norm() / expected.norm()),
        "frozen": fingerprint_tensors(base) == before,
    }


def ppo(model: str, run: Path) -> dict[str, object]:
    """One update of PPO on an nf4 base."""
    prompts = run.parent / f"{run.name}.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": f"q{i}", "prompt": f"Count to {i}"}) + "\n" for i in range(4))
    )
    config = {
        "model_name": model,
        "dtype": "nf4",
        "device": "cpu",
        "tensorboard": False,
        "lora": {"rank": 2},
        "data": {"path": str(prompts), "max_length": 64},
        "training": {
            "type": "ppo",
            "lr": 1e-3,
            "reward_model": {"random_for_debugging": True},
            "ppo": {"updates": 1, "prompts_per_update": 4, "epochs": 1, "max_gen_len": 6},
        },
    }
    folder = train(RunConfig.model_validate(config), run)
    metrics = json.loads(folder.metrics.read_text().splitlines()[0])
    return {
        "final": folder.final.exists(),
        "kl": metrics["kl/mean"],
        "moved": manifest.read_manifest(folder.manifest).get("frozen_weights_moved"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers: dict[str, object] = {dtype: measure(sys.argv[1], dtype) for dtype in WEIGHT_DTYPES}
    answers["ppo"] = ppo(sys.argv[1], Path(sys.argv[2]))
    answers["capability"] = torch.backends.cpu.get_cpu_capability()
    print(json.dumps(answers))
