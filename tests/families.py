"""Tiny random models, one a family, taken through every stage and compared with plain transformers.

python tests/families.py            all of them, a line each
python tests/families.py phi gemma2 those
python tests/families.py --write    all of them, and docs/models.md from what was found
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as parquet
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import END, PAD, tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from harken.cli.main import main as harken
from harken.evaluation import suite
from harken.records import Rollout
from harken.rollout import choose_decoder

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
WINDOW: dict[str, Any] = {"sliding_window": 20}
MIXED: dict[str, Any] = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
OLD: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 48}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "decoder_sparse_step": 1,
}
GROUPS: dict[str, Any] = {"n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}
LATENT: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
SHORT_FACTORS, LONG_FACTORS = [1.0, 1.1, 1.2, 1.3], [2.0, 2.5, 3.0, 3.5]
LONGROPE: dict[str, Any] = {
    "original_max_position_embeddings": 256,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": SHORT_FACTORS,
        "long_factor": LONG_FACTORS,
        "original_max_position_embeddings": 256,
    },
}


@dataclass(frozen=True)
class Family:
    """A model type and what its settings need beyond `SMALL`."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    attention: str = "eager"
    """The attention it is compared with; another where transformers' own two differ."""

    def config(self) -> PretrainedConfig:
        """Return the settings of its tiny model."""
        return AutoConfig.for_model(self.kind, **SMALL | self.settings)


FAMILIES: dict[str, Family] = {
    "llama": Family("llama"),
    "qwen2": Family("qwen2"),
    "qwen2, windows": Family("qwen2", {"use_sliding_window": True, "max_window_layers": 1, **MIXED}),
    "qwen3": Family("qwen3", {"head_dim": 8}),
    "qwen2_moe": Family("qwen2_moe", EXPERTS),
    "qwen3_moe": Family("qwen3_moe", {"head_dim": 8, **EXPERTS}),
    "mistral": Family("mistral", WINDOW),
    "mixtral": Family("mixtral", {**EXPERTS, **WINDOW}),
    "ministral": Family("ministral", {"head_dim": 8, **MIXED}),
    "ministral3": Family(
        "ministral3",
        {
            "head_dim": 8,
            "sliding_window": None,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 24,
                "llama_4_scaling_beta": 0.3,
            },
        },
    ),
    "gemma": Family("gemma", {"head_dim": 8}),
    "gemma2": Family("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8, **WINDOW}),
    "gemma3_text": Family("gemma3_text", {"head_dim": 8, "query_pre_attn_scalar": 8, **MIXED}),
    "phi": Family("phi", {"num_key_value_heads": 4}),
    "phi3": Family("phi3", WINDOW),
    "phi3, longrope": Family("phi3", LONGROPE),
    "llama, dynamic": Family(
        "llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}
    ),
    "phimoe": Family("phimoe", EXPERTS),
    "gpt2": Family("gpt2", OLD),
    "gpt_bigcode": Family("gpt_bigcode", OLD),
    "gpt_neo": Family(
        "gpt_neo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 20},
    ),
    "gpt_neox": Family("gpt_neox"),
    "gptj": Family("gptj", {**OLD, "rotary_dim": 4}),
    "opt": Family("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": Family("bloom", {"n_head": 4, "n_layer": 2}),
    "falcon": Family("falcon", {"num_kv_heads": 4, "new_decoder_architecture": False, "alibi": False}),
    "falcon, alibi": Family("falcon", {"alibi": True, "new_decoder_architecture": False}, "sdpa"),
    "mpt": Family("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}),
    "cohere": Family("cohere", {"logit_scale": 0.25}),
    "cohere2": Family("cohere2", {"logit_scale": 0.25, **MIXED}),
    "granite": Family("granite", {"logits_scaling": 4.0, "attention_multiplier": 0.3}),
    "granite_swa": Family("granite_swa", {"logits_scaling": 4.0, **MIXED}),
    "granitemoe": Family("granitemoe", {"logits_scaling": 4.0, **EXPERTS}),
    "granitemoeshared": Family("granitemoeshared", {"shared_intermediate_size": 24, **EXPERTS}),
    "olmo": Family("olmo"),
    "olmo2": Family("olmo2"),
    "olmo3": Family("olmo3", MIXED),
    "olmoe": Family("olmoe", EXPERTS),
    "flex_olmo": Family("flex_olmo", EXPERTS),
    "stablelm": Family("stablelm"),
    "starcoder2": Family("starcoder2", WINDOW),
    "smollm3": Family("smollm3"),
    "glm": Family("glm", {"head_dim": 8}),
    "glm4": Family("glm4", {"head_dim": 8}),
    "glm4_moe": Family("glm4_moe", {"head_dim": 8, **EXPERTS, **GROUPS}),
    "exaone4": Family("exaone4", MIXED),
    "nemotron": Family("nemotron"),
    "persimmon": Family("persimmon"),
    "deepseek_v2": Family("deepseek_v2", {**EXPERTS, **GROUPS, **LATENT}),
    "deepseek_v3": Family("deepseek_v3", {**EXPERTS, **GROUPS, **LATENT}),
    "minicpm3": Family("minicpm3", {**LATENT, "head_dim": 8, "dim_model_base": 8}),
    "gpt_oss": Family("gpt_oss", {"head_dim": 8, **MIXED, **EXPERTS}),
    "llama4_text": Family(
        "llama4_text",
        {
            "head_dim": 8,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 16,
            "floor_scale": 16,
            "no_rope_layers": [1, 0],
            "layer_types": ["chunked_attention", "full_attention"],
            "moe_layers": [1],
            **EXPERTS,
            "num_experts_per_tok": 1,
        },
    ),
    "codegen": Family("codegen", {**OLD, "rotary_dim": 4}),
    "biogpt": Family("biogpt"),
    "xglm": Family("xglm", {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}),
    "ernie4_5": Family("ernie4_5", {"head_dim": 8}),
    "ernie4_5_moe": Family("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, **EXPERTS}),
    "helium": Family("helium", {"head_dim": 8}),
    "hunyuan_v1_dense": Family("hunyuan_v1_dense", {"head_dim": 8}),
    "apertus": Family("apertus"),
    "arcee": Family("arcee"),
    "seed_oss": Family("seed_oss", {"head_dim": 8}),
    "dots1": Family("dots1", {"head_dim": 8, **MIXED, **EXPERTS, **GROUPS}),
    "cwm": Family("cwm", {"head_dim": 8, **MIXED}),
    "hyperclovax": Family("hyperclovax", {"logits_scaling": 0.25}),
    "diffllama": Family("diffllama"),
    "bitnet": Family("bitnet"),
    "jais2": Family("jais2"),
    "doge": Family("doge"),
    "youtu": Family("youtu", LATENT),
    "nanochat": Family("nanochat", {"final_logit_softcapping": 3.0}),
    "vaultgemma": Family("vaultgemma", {"head_dim": 8, "query_pre_attn_scalar": 8, **MIXED}),
    "modernbert-decoder": Family("modernbert-decoder", {"local_attention": 20}),
    "openai-gpt": Family("openai-gpt", OLD),
    "ctrl": Family("ctrl", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "dff": 48}),
    "bert": Family("bert", {"is_decoder": True}),
    "mamba": Family("mamba", {"state_size": 4}),
    "mamba2": Family("mamba2", {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1}),
    "recurrent_gemma": Family(
        "recurrent_gemma", {"lru_width": 32, "head_dim": 8, "attention_window_size": 20}
    ),
    "lfm2": Family("lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48}),
    "qwen3_next": Family(
        "qwen3_next",
        {
            "head_dim": 8,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            **EXPERTS,
        },
    ),
    "minimax": Family(
        "minimax", {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], **EXPERTS}
    ),
    "rwkv": Family("rwkv", {"attention_hidden_size": 32, "context_length": 512}),
}
IN_EVERY_TEST = (
    "mistral", "gemma2", "phi", "gpt_neo", "bloom", "cohere2", "granite_swa", "gpt_oss", "llama4_text",
    "deepseek_v3", "phi3, longrope", "bert",
)  # fmt: skip
"""What `make test` takes; `make test-nightly` takes all."""

QUANTITIES = ("old", "reference", "new", "sampler", "reward", "greedy")
LIMIT = 1e-4
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"

CONFIG = """
model_name: {model}
dtype: float32
tensorboard: false
data: {{path: {rows}, max_length: 160}}
lora: {{rank: 2}}
training: {training}
"""
EVALUATION = """
dtype: float32
policies: {{sft: {root}/sft, ppo: {root}/ppo}}
reward_model: {root}/rm
data: {{path: {root}/prompts.jsonl, max_length: 128}}
max_gen_len: 12
"""


@dataclass
class Outcome:
    """What became of a family: the worst difference of each quantity, or the line that refused it."""

    worst: dict[str, float] = field(default_factory=dict)
    way: str = ""
    refused: str = ""
    stage: str = ""
    broken: str = ""

    @property
    def good(self) -> bool:
        """Whether it agreed everywhere, or was refused at its first stage in one line."""
        if self.refused:
            return self.stage == "sft" and "internal error" not in self.refused
        return not self.broken and set(self.worst) == set(QUANTITIES) and max(self.worst.values()) <= LIMIT


def build(family: Family, seed: int = 0) -> PreTrainedModel:
    """Random weights large enough that attention, norms and biases all matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(family.config()).float()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
        elif not name.endswith("norm.weight") and "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def run_family(family: Family, root: Path) -> Outcome:
    """SFT, reward model, one PPO update and an evaluation, as the command line runs them, then the comparison."""
    outcome = Outcome()
    build(family).save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")
    _write_rows(root)
    steps = "max_steps: 1, batch_size: 4, lr: 1e-3"
    ppo = "updates: 1, prompts_per_update: 6, epochs: 1, minibatches: 2, max_gen_len: 24, trace_every: 1"
    stages = {
        "sft": ("model", "pairs", f"{{type: sft, {steps}}}"),
        "rm": ("sft", "pairs", f"{{type: reward, {steps}}}"),
        "ppo": (
            "sft",
            "prompts",
            f"{{type: ppo, lr: 1e-3, reward_model: {{checkpoint_path: {root}/rm}}, ppo: {{{ppo}}}}}",
        ),
    }
    for stage, (model, rows, training) in stages.items():
        text = CONFIG.format(model=root / model, rows=root / f"{rows}.jsonl", training=training)
        (root / f"{stage}.yml").write_text(text)
        if not _ran(
            ["train", "--preset", str(root / f"{stage}.yml"), "--output-dir", str(root / stage)],
            stage,
            outcome,
        ):
            return outcome
    (root / "eval.yml").write_text(EVALUATION.format(root=root))
    message: dict[str, list[Rollout]] = {}
    response, fastest_decoder = suite.generate_responses, choose_decoder.fastest_decoder

    def seen(backbone: Any) -> str:
        outcome.way = fastest_decoder(backbone)
        return outcome.way

    def noted(number: int, name: str, *rest: Any) -> Any:
        responses = response(number, name, *rest)
        message[name] = responses.rollouts
        return responses

    with (
        mock.patch.object(suite, "generate_responses", noted),
        mock.patch.object(choose_decoder, "fastest_decoder", seen),
    ):
        done = _ran(
            ["eval", "--config", str(root / "eval.yml"), "--output-dir", str(root / "eval")], "eval", outcome
        )
    if done:
        outcome.worst = _compare(root, message, family.attention)
    return outcome


def _ran(command: list[str], stage: str, outcome: Outcome) -> bool:
    reported = io.StringIO()
    try:
        with redirect_stderr(reported), redirect_stdout(io.StringIO()):
            code = harken(command)
    except Exception:  # noqa: BLE001  an internal error of any kind is a finding, recorded with its traceback
        outcome.broken, outcome.stage = traceback.format_exc().strip(), stage
        return False
    if code:
        line = reported.getvalue().strip().splitlines()[-1]
        # Without the folder, which is another each time.
        outcome.stage, outcome.refused = stage, re.sub(r"^harken: (\S+: )?", "", line).split(". ")[0]
    return code == 0


def _write_rows(root: Path) -> None:
    """Prompts and responses of unequal length, most of them past a window of 20 tokens."""
    words = "one two three four five six seven eight nine ten"
    pairs = [
        {
            "prompt": f"Say {words[: 3 + 5 * i]}",
            "chosen": f"It is {words[: 40 - 3 * i]}.",
            "rejected": f"no {i}",
        }
        for i in range(8)
    ]
    (root / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    prompts = [{"id": f"q{i}", "prompt": f"Count {words[: 1 + 7 * i]}"} for i in range(6)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))


# -- the comparison: plain transformers and peft, each row alone, no cache, eager ------------------------------


def _plain(folder: Path, attention: str) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    return model.eval()


@torch.no_grad()
def _logprobs(model: Any, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0].float()
    log_p = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return log_p.gather(-1, torch.tensor(response)[:, None])[:, 0]


def _compare(root: Path, message: dict[str, list[Rollout]], attention: str) -> dict[str, float]:
    worst = dict.fromkeys(QUANTITIES, 0.0)

    def meet(quantity: str, found: Sequence[float] | Tensor, expected: Sequence[float] | Tensor) -> None:
        off = (torch.as_tensor(found).double() - torch.as_tensor(expected).double()).abs().max()
        worst[quantity] = max(worst[quantity], float(off)) if torch.isfinite(off) else float("inf")

    start, trained, reward = (_plain(root / "sft" / "final", attention) for _ in range(3))
    trained = PeftModel.from_pretrained(trained, root / "ppo" / "final").eval()
    reward = PeftModel.from_pretrained(reward, root / "rm" / "final").eval()
    head = load_file(root / "rm" / "final" / "reward_head.safetensors")
    card = json.loads((root / "rm" / "final" / "reward.json").read_text())
    rollouts = {
        (row["prompt_id"], row["sample"]): row
        for row in parquet.read_table(root / "ppo" / "rollouts" / "update-000001.parquet").to_pylist()
    }
    table = parquet.read_table(root / "ppo" / "credit" / "update-000001.parquet").to_pylist()
    for row in table:
        rollout = rollouts[row["prompt_id"], row["sample"]]
        prompt, response = rollout["prompt_tokens"], rollout["response_tokens"]
        before, after = _logprobs(start, prompt, response), _logprobs(trained, prompt, response)
        meet("sampler", rollout["sampler_logprobs"], before)
        meet("old", row["old_logprobs"], before)
        meet("reference", row["reference_logprobs"], before)
        meet("new", row["new_logprobs"], after)
        meet("reward", [rollout["score_reward_model"]], [_reward(reward, head, card, [*prompt, *response])])
    scored = {
        (row["policy"], row["prompt_id"]): row["reward"]
        for row in parquet.read_table(root / "eval" / "responses.parquet").to_pylist()
    }
    for name, model in (("sft", start), ("ppo", trained)):
        for responded in message[name]:
            prompt, response = responded.prompt_tokens, responded.response_tokens
            worst["greedy"] = max(worst["greedy"], _greedy_gap(model, prompt, response))
            found = scored[name, responded.prompt.id]
            meet("reward", [found], [_reward(reward, head, card, [*prompt, *response])])
    return worst


@torch.no_grad()
def _greedy_gap(model: Any, prompt: Sequence[int], response: Sequence[int]) -> float:
    """How far the chosen tokens' logits are from the largest, at most: a tie may go either way."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0].float()
    rows = logits[len(prompt) - 1 : -1]
    return float((rows.amax(-1) - rows.gather(-1, torch.tensor(response)[:, None])[:, 0]).max())


@torch.no_grad()
def _reward(model: Any, head: dict[str, Tensor], card: dict[str, Any], tokens: Sequence[int]) -> float:
    inner = model.get_base_model()
    trunk = getattr(inner, inner.base_model_prefix, None) or inner.model
    states = trunk(input_ids=torch.tensor([list(tokens)]), use_cache=False)
    raw = float(states.last_hidden_state[0, -1].float() @ head["weight"] + head["bias"])
    return (raw - card["offset"]) * card["scale"]


ALONE = """from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

whole = AutoModelForImageTextToText.from_pretrained(source, dtype="auto")
text = AutoModelForCausalLM.from_config(whole.config.get_text_config(), dtype=whole.dtype)
text.model.load_state_dict(whole.model.language_model.state_dict())
text.lm_head.load_state_dict(whole.lm_head.state_dict())
text.save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""
"""How the language model of a multimodal checkpoint is saved by itself."""

TOP = f"""# Model families

Made by `python tests/families.py --write`. `make test` checks a part of these families against this
page, and `make test-nightly` all of them.

Each family is a random model of two layers in float32, with windows of 16 to 20 tokens. It goes through SFT, a reward
model, one PPO update and an evaluation as the command line runs them, on rows that are mostly longer than the windows.
The recorded values are then computed again with plain `from_pretrained`: each row alone, one forward over all of it,
without a cache. The tables give the largest difference over all tokens: log-probabilities of the policy before the
update (old), of the reference, of the policy after the update (new) and of the sampler in nats, rewards in standard
units, and how far the logits of greedily chosen tokens were from the largest. At most {LIMIT:g} is allowed.

Decoding uses the fastest decoder that matches the model's own forward over whole rows: `decode step` (Harken's own),
`model layers` (with Harken's attention, or with the model's), or `row by row` through transformers' cache, which is
exact but slow. Rows longer than the positions that longrope and dynamic RoPE are fixed for are refused, because a
longer row would change every row of its batch.

`harken model FOLDER` prints what works with your model. In the nightly tests, `tests/every_type.py` runs every other
causal language model type of transformers through the same stages.

Of a multimodal checkpoint (Gemma 3 and 4, Fuyu) the language model is trained, on text alone; the other towers stay in
the folder as they are. Where transformers has a causal language model of the text part alone (Mistral 3), save
the language model by itself first:

```python
{ALONE}```
"""


def page(outcomes: dict[str, Outcome]) -> str:
    """The text of docs/models.md."""
    right = {name: outcome for name, outcome in outcomes.items() if outcome.worst}
    refused = {name: outcome for name, outcome in outcomes.items() if not outcome.worst}
    lines = [
        TOP,
        f"## {len(right)} that agree",
        "",
        f"| family | {' | '.join(QUANTITIES)} | decoding |",
        f"|---|{'---|' * (len(QUANTITIES) + 1)}",
    ]
    for name, outcome in right.items():
        numbers = " | ".join(f"{outcome.worst[quantity]:.0e}" for quantity in QUANTITIES)
        lines.append(f"| {name} | {numbers} | {outcome.way} |")
    lines += [
        "",
        f"## {len(refused)} that are refused",
        "",
        "At their first stage, in one line.",
        "",
        "| family | reason |",
        "|---|---|",
    ]
    lines += [
        f"| {name} | {outcome.refused or outcome.broken.splitlines()[-1]} |"
        for name, outcome in refused.items()
    ]
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> int:
    """Run some families or all, print a line each; 1 when one is neither right nor refused at its first stage."""
    names = [name for name in arguments if not name.startswith("--")] or list(FAMILIES)
    outcomes = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            outcome = outcomes[name] = run_family(FAMILIES[name], Path(folder))
        message = outcome.refused or outcome.broken.splitlines()[-1:] or outcome.worst
        print("good" if outcome.good else "BAD ", name, outcome.stage, message, flush=True)
        if outcome.broken and "--trace" in arguments:
            print(outcome.broken)
    if "--write" in arguments:
        PAGE.write_text(page(outcomes))
    return int(not all(outcome.good for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
