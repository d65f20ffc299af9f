"""Turn pydantic's validation errors into one line: where, problem, fix."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harken.config.yaml import KeyPath, Settings, dotted
from harken.errors import UserError


class Foreign(NamedTuple):
    """The Harken key nearest to another tool's or paper's name, and the conversion if meaning or unit differ."""

    key: str
    conversion: str = ""
    """Empty: same meaning and unit, so the value stays the same."""


FOREIGN_NAMES = {
    "adam_epsilon": Foreign("adam_eps"),
    "base_model": Foreign("model_name"),
    "batch": Foreign("batch_size"),
    "beta": Foreign("kl_coef"),
    "beta_kl": Foreign("kl_coef"),
    "clip_eps": Foreign("clip_range"),
    "clip_ratio": Foreign("clip_range"),
    "cliprange": Foreign("clip_range"),
    "cliprange_value": Foreign("value_clip_range"),
    "discount": Foreign("gamma"),
    "ent_coef": Foreign("entropy_coef"),
    "entropy_coeff": Foreign("entropy_coef"),
    "epsilon_high": Foreign("clip_range_high"),
    "eps": Foreign("clip_range", "if it is PPO's ε; the ε of Adam is training.adam_eps"),
    "gae_lambda": Foreign("lam"),
    "gradient_accumulation_steps": Foreign(
        "micro_batch_tokens",
        "in tokens, not a count; batch_size is the rows of a whole optimiser step here, "
        "so it is per_device_train_batch_size × gradient_accumulation_steps",
    ),
    "horizon": Foreign("kl_horizon", "in sequences, if it is that of an adaptive KL coefficient (old TRL)"),
    "init_kl_coef": Foreign("kl_coef"),
    "kl_coeff": Foreign("kl_coef"),
    "kl_penalty_coef": Foreign("kl_coef"),
    "label_smooth": Foreign("label_smoothing"),
    "learning_rate": Foreign("lr"),
    "loss_type": Foreign(
        "loss_aggregation", "of TRL's names grpo is sequence, dapo and bnpo are token, dr_grpo is constant"
    ),
    "lora_alpha": Foreign("lora.alpha"),
    "lora_dropout": Foreign("lora.dropout"),
    "lora_r": Foreign("lora.rank"),
    "lora_target_modules": Foreign("lora.target_modules"),
    "lr_scheduler_type": Foreign(
        "lr_schedule", "constant, linear or cosine; constant_with_warmup is constant with warmup_steps"
    ),
    "max_new_tokens": Foreign("max_gen_len"),
    "max_response_length": Foreign("max_gen_len"),
    "max_seq_length": Foreign(
        "data.max_length",
        "in tokens: of prompt and response for SFT and reward models, of the prompt for PPO",
    ),
    "mini_batch_size": Foreign(
        "minibatches", "a count: prompts_per_update × samples_per_prompt ÷ mini_batch_size"
    ),
    "missing_eos_coef": Foreign("missing_eos_penalty"),
    "model": Foreign("model_name"),
    "model_name_or_path": Foreign("model_name"),
    "num_generations": Foreign("samples_per_prompt"),
    "num_generations_per_prompt": Foreign("samples_per_prompt"),
    "num_mini_batches": Foreign("minibatches"),
    "num_ppo_epochs": Foreign("ppo.epochs"),
    "num_rollouts": Foreign(
        "samples_per_prompt",
        "responses per prompt; if num_rollouts counts those of an update (trlX), divide it by prompts_per_update",
    ),
    "num_train_epochs": Foreign("training.epochs", "a whole number"),
    "per_device_train_batch_size": Foreign(
        "batch_size",
        "the rows of a whole optimiser step: per_device_train_batch_size × gradient_accumulation_steps × devices",
    ),
    "ppo_epochs": Foreign("ppo.epochs"),
    "response_length": Foreign("max_gen_len"),
    "reward_clip": Foreign("score_clip"),
    "reward_model_path": Foreign(
        "reward_model.checkpoint_path",
        "the folder of a reward model that Harken trained; a classifier of the hub is a part of training.rewards",
    ),
    "rm_path": Foreign(
        "reward_model.checkpoint_path",
        "the folder of a reward model that Harken trained; a classifier of the hub is a part of training.rewards",
    ),
    "rollout_batch_size": Foreign(
        "prompts_per_update",
        "in prompts; if rollout_batch_size counts responses, divide it by samples_per_prompt",
    ),
    "save_steps": Foreign("checkpoints.every", "in steps; for PPO in updates"),
    "save_total_limit": Foreign("checkpoints.keep"),
    "seq_length": Foreign(
        "data.max_length",
        "in tokens: of prompt and response for SFT and reward models, of the prompt for PPO",
    ),
    "target": Foreign("kl_target", "in nats per sequence"),
    "target_kl": Foreign(
        "kl_target",
        "for the target of an adaptive KL coefficient (old TRL), in nats per sequence; for an early stop within an "
        "update (cleanrl, Stable-Baselines3) set training.ppo.target_kl_per_token, in nats per token: Harken stops "
        "above it, Stable-Baselines3 above 1.5 × target_kl, so multiply that by 1.5",
    ),
    "vf_coeff": Foreign("vf_coef"),
    "warmup_ratio": Foreign("warmup_steps", "a count: warmup_ratio × the number of optimiser steps"),
}
"""Names of other tools and papers → the nearest Harken key. The schema knows its full path."""

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
    """Convert the first problem (unknown keys come first) to one line; the others are counted.

    `model` is the model that was validated, `prefix` its path in `settings`.
    """
    problems = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    problem = problems[0]
    inner, owner, annotation = _locate(model, problem["loc"])
    # A value that fits no member of a union is one problem, which pydantic reports for each member.
    places = [_locate(model, other["loc"])[0] for other in problems]
    same = [other for other, place in zip(problems, places, strict=True) if place == inner]
    others = len(set(places)) - 1
    if problem["type"] in ("union_tag_not_found", "union_tag_invalid"):
        inner = (*inner, "type")
    path = (*prefix, *inner)
    if problem["type"] == "extra_forbidden":
        data: Any = settings.data
        for part in prefix:
            data = data[part]
        all_keys = [dotted((*prefix, name)) for name in _key_paths(model, data)]
        section_keys = sorted(owner.model_fields) if owner else []
        message, fix = (
            "unknown key",
            _suggestion(
                str(path[-1]), section_keys, all_keys, listed=settings.place(path).startswith("--set")
            ),
        )
    else:
        message, fix = _describe(problem, annotation, dotted(path))
    given = f", given {_describe_value(problem['input'])}"
    if len(same) > 1 and message.startswith("expected ") and message.endswith(given):
        texts = [_describe(other, annotation, "")[0] for other in same]
        *first, last = dict.fromkeys(text.removeprefix("expected ").removesuffix(given) for text in texts)
        message = f"expected {', '.join(first)}{' or ' if first else ''}{last}{given}"
    if others:
        message += f" (and {others} more problem{'' if others == 1 else 's'})"
    return UserError(message, where=settings.where(path), fix=fix)


def _describe(problem: ErrorDetails, annotation: Any, name: str) -> tuple[str, str]:
    """Return what is wrong with the value of a known key, and the fix. `annotation` is the key's type."""
    kind, value = problem["type"], _describe_value(problem["input"])
    if kind == "missing":
        return "this key is required", f"write it in the file, or give --set {name}=…"
    if kind == "value_error":
        # As the validators of config/ write it.
        text, _, fix = str(problem["ctx"]["error"]).partition(". Fix: ")
        return text, fix
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tags = " or ".join(_tag(m) for m in _models(annotation))
        if kind == "union_tag_not_found":
            return "this key is required", f"write {tags}"
        return f"expected {tags}, given {problem['ctx']['tag']}", ""
    if kind == "literal_error":
        return f"expected {problem['ctx']['expected']}, given {value}", ""
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, given {value}", ""
    return f"{problem['msg'].removeprefix('Input ')}, given {value}", ""


def _suggestion(key: str, section_keys: list[str], all_keys: list[str], *, listed: bool) -> str:
    """Return the fix of an unknown key, from the keys of its section and all dotted keys of the file."""
    keys = f"Keys here: {', '.join(section_keys)}"
    foreign = FOREIGN_NAMES.get(key)
    target = foreign.key if foreign else key
    elsewhere = [name for name in all_keys if f".{name}".endswith(f".{target}")]
    close = difflib.get_close_matches(key, section_keys, n=1)
    if elsewhere:
        ours = min(elsewhere, key=len)
        if foreign and foreign.conversion:
            fix = f"write {ours} in Harken, {foreign.conversion}"
        else:
            fix = f"write {ours} in Harken" if foreign else f"move it to {ours}"
    elif close:
        fix = f"write {close[0]}"
    else:
        return f"remove it. {keys}"
    return f"{fix}. {keys}" if listed else fix


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation: one for a section, several for a union discriminated by `type`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _is_union(annotation: Any) -> bool:
    """Return whether an annotation is a union of several types other than None."""
    if get_origin(annotation) is Annotated:
        return _is_union(get_args(annotation)[0])
    is_union = get_origin(annotation) in (Union, UnionType)
    return is_union and sum(member is not NoneType for member in get_args(annotation)) > 1


def _tag(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["type"].annotation)[0])


def _locate(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[KeyPath, type[BaseModel] | None, Any]:
    """Return the path as the user wrote it, the model that its last key belongs to, and that key's type.

    pydantic's location also contains the chosen member of a union, which is in no file.
    """
    annotation: Any = model
    path: KeyPath = ()
    owner: type[BaseModel] | None = None
    for part in location:
        if isinstance(part, int):  # an entry of a list: the annotation already has the list's models
            path = (*path, part)
            continue
        variants = _models(annotation)
        if len(variants) > 1:
            annotation = next(m for m in variants if _tag(m) == part)
            continue
        if not variants and _is_union(annotation):
            annotation = None  # the name of a member that is a plain type
            continue
        path = (*path, part)
        owner = variants[0] if variants else None
        field = owner.model_fields.get(str(part)) if owner else None
        annotation = field.annotation if field else None
    return path, owner, annotation


def _key_paths(model: type[BaseModel], data: Any) -> Iterator[str]:
    """Yield every dotted key that `data` may have; of a union only the member named by `type`, else all."""
    for name, field in model.model_fields.items():
        yield name
        inner = data.get(name) if isinstance(data, dict) else None
        members = _models(field.annotation)
        if len(members) > 1 and isinstance(inner, dict):
            members = [m for m in members if _tag(m) == inner.get("type")] or members
        for member in members:
            yield from (f"{name}.{path}" for path in _key_paths(member, inner))


def _describe_value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {json.dumps(value, ensure_ascii=False)}"
    return json.dumps(value)
