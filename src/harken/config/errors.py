"""What pydantic found wrong with a configuration, as one line that says where it is and how to mend it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harken.config.yaml import KeyPath, Settings, dotted
from harken.errors import UserError

FOREIGN_NAMES = {
    "adam_epsilon": "adam_eps",
    "base_model": "model_name",
    "batch": "batch_size",
    "beta": "kl_coef",
    "beta_kl": "kl_coef",
    "clip_eps": "clip_range",
    "clip_ratio": "clip_range",
    "cliprange": "clip_range",
    "cliprange_value": "value_clip_range",
    "discount": "gamma",
    "ent_coef": "entropy_coef",
    "entropy_coeff": "entropy_coef",
    "eps": "clip_range",
    "gae_lambda": "lam",
    "gradient_accumulation_steps": "micro_batch_tokens",
    "horizon": "kl_horizon",
    "init_kl_coef": "kl_coef",
    "kl_coeff": "kl_coef",
    "kl_penalty_coef": "kl_coef",
    "label_smooth": "label_smoothing",
    "learning_rate": "lr",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_r": "lora.rank",
    "lora_target_modules": "lora.target_modules",
    "lr_scheduler_type": "lr_schedule",
    "max_new_tokens": "max_gen_len",
    "max_response_length": "max_gen_len",
    "max_seq_length": "data.max_length",
    "mini_batch_size": "minibatches",
    "missing_eos_coef": "missing_eos_penalty",
    "model": "model_name",
    "model_name_or_path": "model_name",
    "num_generations_per_prompt": "samples_per_prompt",
    "num_mini_batches": "minibatches",
    "num_ppo_epochs": "ppo.epochs",
    "num_rollouts": "samples_per_prompt",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "batch_size",
    "ppo_epochs": "ppo.epochs",
    "response_length": "max_gen_len",
    "reward_clip": "score_clip",
    "reward_model_path": "reward_model.checkpoint_path",
    "rm_path": "reward_model.checkpoint_path",
    "rollout_batch_size": "prompts_per_update",
    "save_steps": "checkpoints.every",
    "save_total_limit": "checkpoints.keep",
    "seq_length": "data.max_length",
    "target": "kl_target",
    "target_kl": "kl_target",
    "vf_coeff": "vf_coef",
    "warmup_ratio": "warmup_steps",
}
"""Names other tools and papers use → the Harken key with the same job. The schema knows its full path."""
CONVERSIONS = {
    "gradient_accumulation_steps": "in tokens, not a count; batch_size is the rows of a whole optimiser step here, "
    "so it is per_device_train_batch_size × gradient_accumulation_steps",
    "mini_batch_size": "a count: prompts_per_update × samples_per_prompt ÷ mini_batch_size",
    "target_kl": "for the target of an adaptive KL coefficient (old TRL), in nats per sequence; for an early stop "
    "within an update (cleanrl, Stable-Baselines3) set training.ppo.target_kl_per_token, in nats per token",
    "warmup_ratio": "a count: warmup_ratio × the number of optimiser steps",
}
"""Of those that measure something else: how to convert the value."""

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a section of keys",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a section of keys",
    "model_type": "a section of keys",
    "string_type": "text",
}


def explain(
    error: ValidationError, model: type[BaseModel], settings: Settings, prefix: KeyPath = ()
) -> UserError:
    """The first problem (unknown keys before all others) as one line; further ones are counted.

    `model` is what was validated, `prefix` the path at which it stands in `settings`.
    """
    problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    problem = problems[0]
    inner, owner, annotation = _locate(model, problem["loc"])
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        inner = (*inner, "type")
    path = (*prefix, *inner)
    if problem["type"] == "extra_forbidden":
        data: Any = settings.data
        for part in prefix:
            data = data[part]
        known = [dotted((*prefix, name)) for name in _key_paths(model, data)]
        here = sorted(owner.model_fields) if owner else []
        what, fix = (
            "unknown key",
            _suggestion(str(path[-1]), here, known, listed=settings.place(path).startswith("--set")),
        )
    else:
        what, fix = _describe(problem, annotation, dotted(path))
    if len(problems) > 1:
        what += f" (and {len(problems) - 1} more to mend)"
    return UserError(what, where=settings.where(path), fix=fix)


def _describe(problem: ErrorDetails, annotation: Any, name: str) -> tuple[str, str]:
    """What is wrong with a known key, and how to mend it. `annotation` is what may stand there."""
    kind, given = problem["type"], _shown(problem["input"])
    if kind == "missing":
        return "this key is needed", f"Write it in the file, or give --set {name}=…"
    if kind == "value_error":
        return str(problem["ctx"]["error"]), ""
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tags = " or ".join(_tag(m) for m in _models(annotation))
        if kind == "union_tag_not_found":
            return "this key is needed", f"Write {tags}"
        return f"expected {tags}, given {problem['ctx']['tag']}", ""
    if kind == "literal_error":
        return f"expected {problem['ctx']['expected']}, given {given}", ""
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, given {given}", ""
    return f"{problem['msg'].removeprefix('Input ')}, given {given}", ""


def _suggestion(key: str, here: list[str], known: list[str], *, listed: bool) -> str:
    """How to mend an unknown key: `here` are the keys of its section, `known` all dotted keys of the file."""
    keys = f"Keys here: {', '.join(here)}"
    target = FOREIGN_NAMES.get(key, key)
    elsewhere = [name for name in known if f".{name}".endswith(f".{target}")]
    close = difflib.get_close_matches(key, here, n=1)
    if elsewhere:
        verb = "Harken calls it" if key in FOREIGN_NAMES else "It belongs at"
        ours = min(elsewhere, key=len)
        fix = f"Nearest is {ours}, {CONVERSIONS[key]}." if key in CONVERSIONS else f"{verb} {ours}."
    elif close:
        fix = f"Did you mean {close[0]}?"
    else:
        return keys
    return f"{fix} {keys}" if listed else fix


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation may hold: one for a section, several for a union told apart by `type`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["type"].annotation)[0])


def _locate(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[KeyPath, type[BaseModel] | None, Any]:
    """The path as the user wrote it, the model its last key belongs to, and what may stand there.

    pydantic's location also names the chosen member of a union, which stands in no file.
    """
    annotation: Any = model
    path: KeyPath = ()
    owner: type[BaseModel] | None = None
    for part in location:
        if isinstance(part, int):  # an entry of a list: the list's models may stand there
            path = (*path, part)
            continue
        variants = _models(annotation)
        if len(variants) > 1:
            annotation = next(m for m in variants if _tag(m) == part)
            continue
        path = (*path, part)
        owner = variants[0] if variants else None
        field = owner.model_fields.get(str(part)) if owner else None
        annotation = field.annotation if field else None
    return path, owner, annotation


def _key_paths(model: type[BaseModel], data: Any) -> Iterator[str]:
    """Every dotted key that `data` may hold; of a union only the member its `type` names, or all of them."""
    for name, field in model.model_fields.items():
        yield name
        inner = data.get(name) if isinstance(data, dict) else None
        members = _models(field.annotation)
        if len(members) > 1 and isinstance(inner, dict):
            members = [m for m in members if _tag(m) == inner.get("type")] or members
        for member in members:
            yield from (f"{name}.{path}" for path in _key_paths(member, inner))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {json.dumps(value, ensure_ascii=False)}"
    return json.dumps(value)
