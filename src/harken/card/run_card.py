"""Write the card of a reward run: load its model, its held-out pairs, and further files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from harken.card.build import CardJob, build_card
from harken.card.list_benchmarks import ListSet
from harken.card.markdown import card_lines
from harken.card.model_scorer import ModelScorer
from harken.card.reference import find_reference
from harken.card.scored import RewardArray, Section
from harken.card.sets import held_out_sets, limit_pairs, read_samples, read_set
from harken.card.write import read_card_file, write_card
from harken.chat import template as chat_template
from harken.config import RunConfig
from harken.config import files as config_files
from harken.config.base import DataConfig
from harken.config.card import GateSettings
from harken.config.training import RewardTraining
from harken.errors import UserError
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES, weight_count
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import RewardModel, lineage_fingerprint, read_card
from harken.records import Preference, Prompt
from harken.run import manifest, trained_prompts
from harken.run.config_lock import read_locked_config
from harken.run.folder import CardFolder, RunFolder
from harken.run.tracking import say

PROBE_PAIRS = 200
"""Pairs that `harken card` probes."""


@dataclass(frozen=True)
class CardRequest:
    """The options of `harken card` besides the run."""

    data: Sequence[str] = ()
    """Further files; the first replaces the held-out pairs where the run has none."""
    pairs: int | None = None
    probe_pairs: int = PROBE_PAIRS
    policy: str | None = None
    samples: str | None = None
    reference: str | None = None
    """The SFT model; None: the one that the reward model was trained on."""
    learning_curve: bool = False
    golden: str | None = None
    """Pairs to judge instead of the held-out ones."""


def card_of_run(root: Path, request: CardRequest, output: Path | None = None) -> Section:
    """Write the full card of a finished reward run in `output` (default: its `card` folder), and return it.

    Raises UserError when the folder is not a finished reward run, a file cannot be read, or there are no pairs.
    """
    run = run_of(root)
    source = require_use(resolve(str(root)), "reward")
    config = reward_config(run)
    with chat_template.freeze_clock(manifest.created_at(run)):
        weight_dtype, device = WEIGHT_DTYPES[config.dtype], choose_device(config.device)
        model = RewardModel.load(source, weight_dtype, device)
        card = _card(config, run, source, model, request, full=True)
    write_card(CardFolder(output or run.card.root), card)
    return card


def run_of(root: Path) -> RunFolder:
    """Return the run of a folder that may be its `final` folder."""
    return RunFolder(root.parent if root.name == "final" else root)


def card_for_gate(run: RunFolder, gate: GateSettings) -> tuple[Section, CardFolder]:
    """Return the card that a pipeline's gate judges, and its folder: on golden pairs if the gate names them.

    Otherwise read the card that the reward stage wrote, or write it now if there is none.
    """
    if gate.data is not None:
        return card_of_run(run.root, CardRequest(golden=gate.data), run.golden_card.root), run.golden_card
    if not run.card.card.exists():
        return card_of_run(run.root, CardRequest()), run.card
    return read_card_file(run.card), run.card


def card_after_training(config: RunConfig, run: RunFolder, model: RewardModel, final: Path) -> None:
    """Write the short card at the end of a reward stage, before its `final` folder is published.

    Without held-out pairs, or if the card cannot be computed, only a line is printed, and the model is kept.
    """
    try:
        _card_after_training(config, run, model, final)
    except (UserError, ArithmeticError, ValueError) as error:
        say(f"warning: no report card: {error}. Fix: run `harken card {run.root}`")


def _card_after_training(config: RunConfig, run: RunFolder, model: RewardModel, final: Path) -> None:
    assert isinstance(config.training, RewardTraining)
    settings = config.training.card
    if not settings.pairs:
        return
    if not (config.data.eval_path or config.data.eval_split or config.data.eval_fraction):
        say(
            "no held-out pairs, so no report card. Fix: set data.eval_fraction, or run `harken card` with --data"
        )
        return
    request = CardRequest(pairs=settings.pairs, probe_pairs=settings.probe_pairs)
    card = _card(config, run, resolve(str(final)), model, request, full=False)
    write_card(run.card, card)
    for line in [*card_lines(card), f"card     {run.card.markdown}"]:
        say(line)


def reward_config(run: RunFolder) -> RunConfig:
    """Read the configuration of a reward run. Raises UserError when the folder has none, or it is of another type."""
    if not run.config.exists():
        raise UserError(
            "there is no config.yml beside the reward model, so its held-out pairs are unknown",
            where=str(run.root),
            fix="name the folder of the run that trained it",
        )
    config = config_files.validate_settings(RunConfig, read_locked_config(run.config), str(run.config))
    if not isinstance(config.training, RewardTraining):
        raise UserError(
            f"this run trains {config.training.type}, and only a reward model has a card",
            where=str(run.root),
            fix="name the folder of a reward run",
        )
    return config


def _card(
    config: RunConfig,
    run: RunFolder,
    source: ModelSource,
    model: RewardModel,
    request: CardRequest,
    *,
    full: bool,
) -> Section:
    assert isinstance(config.training, RewardTraining)
    max_length = config.data.max_length
    scorer = ModelScorer(model, max_length, config.data.keep_special_tokens)
    held_out, training = held_out_sets(config.data, config.training.selection_fraction, config.seed)
    paths = [*([request.golden] if request.golden else []), *request.data]
    further = [read_set(DataConfig(path=path, max_length=max_length), config.seed) for path in paths]
    sets = [held_out, *further] if held_out.pairs and not request.golden else further
    if not sets:
        raise UserError(
            "the run has no held-out pairs",
            where=str(run.root),
            fix="give a file of pairs with --data, or train with data.eval_fraction",
        )
    limited = [
        pair_set if isinstance(pair_set, ListSet) else limit_pairs(pair_set, request.pairs, config.seed)
        for pair_set in sets
    ]
    recorded_digests = trained_prompts.read_prompt_hashes(run)
    trained_digests = {
        trained_prompts.digest(p.prompt.messages) for p in training if isinstance(p, Preference)
    } | recorded_digests
    weights = WEIGHT_DTYPES[config.dtype], choose_device(config.device)
    job = CardJob(
        scorer=scorer,
        sets=limited,
        training=training,
        facts=_facts(config, source, model),
        probe_pairs=request.probe_pairs,
        minutes=None if full else config.training.card.minutes,
        seed=config.seed,
        is_trained=_is_trained(trained_digests),
        score_in_float32=_float32_scores(config, source) if full and config.dtype == "bfloat16" else None,
        policy_parameters=None if request.policy is None else parameter_count(request.policy),
        samples=None if request.samples is None else read_samples(request.samples),
        reference=find_reference(request.reference, source, max_length, *weights) if full else None,
        features=scorer.features if request.learning_curve else None,
    )
    return build_card(job)


def parameter_count(name: str) -> int:
    """Count the parameters of a model's base from the headers of its weights, without reading them."""
    folder = resolve(name).chain()[0].folder
    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as weights:
            count += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return count


def _facts(config: RunConfig, source: ModelSource, model: RewardModel) -> Section:
    base = [p for n, p in model.backbone.model.named_parameters() if "lora_" not in n]
    return {
        "fingerprint": lineage_fingerprint(source)[:16],
        "base": source.base.name if source.base else read_card(source.folder).base,
        "parameters": sum(map(weight_count, base)),
        "dtype": config.dtype,
        "max_length": config.data.max_length,
        "offset": model.offset,
        "scale": model.scale,
        "seed": config.seed,
    }


def _is_trained(digests: set[str]) -> Callable[[Prompt], bool]:
    return lambda prompt: trained_prompts.digest(prompt.messages) in digests


def _float32_scores(config: RunConfig, source: ModelSource) -> Callable[[list[tuple[int, ...]]], RewardArray]:
    """Return a function that scores with the weights in float32; the second model is loaded at the first call."""

    def score(sides: list[tuple[int, ...]]) -> RewardArray:
        model = RewardModel.load(source, WEIGHT_DTYPES["float32"], choose_device(config.device))
        return ModelScorer(model, config.data.max_length).score_tokens(sides)

    return score
