"""What a run is told to do: frozen, strict models. `config_files` reads them from YAML and `--set`.

Every field is read somewhere (a test checks), every preset loads (a test checks), and an unknown key
is an error. The docstring under a field is its documentation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Task = Literal["sft", "preference", "prompt_only"]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Frozen; unknown keys are refused; an int is accepted for a float and nothing else is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class DataConfig(Strict):
    """Where rows come from and how long they may be."""

    path: str
    """A JSONL(.gz) or parquet file, a hub data set, or `demo:preferences`, `demo:prompts`, `demo:heldout`."""
    format: Literal["raw"] = "raw"
    """Raw rows, rendered with the model's chat template when training starts."""
    task: Task | None = None
    """What a row is used as. Left out: what the training type needs."""
    layout: str = "auto"
    """The row layout (`harken data --layouts` lists them); `auto` finds it from the first rows."""
    split: str = "train"
    """The split of a hub data set."""
    prompt_column: str | None = None
    """With `prompt_only`: take this column as the prompt, whatever else the row holds."""
    max_length: PositiveInt = 1024
    """Tokens of prompt + response (for PPO: of the prompt). Prompts lose old turns first; a response is never cut."""
    limit: PositiveInt | None = None
    """Use only this many rows, chosen by the seed."""
    eval_path: str | None = None
    """Held-out rows, read the same way."""
    eval_fraction: Fraction = 0.0
    """Without `eval_path`: hold out this share of the prompts."""
    eval_limit: PositiveInt | None = None
    """Use only this many held-out rows."""


class LoraSettings(Strict):
    """The low-rank adapter that is trained in place of the whole model."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    dropout: Fraction = 0.0
    """Used in supervised and reward-model training only: PPO refuses anything but 0."""
    target_modules: list[str] | None = None
    """Left out: the attention and MLP projections of the model's family."""


class CheckpointSettings(Strict):
    """How often state is kept."""

    every: PositiveInt = 50
    """Steps between checkpoints; the last step always gets one."""
    keep: PositiveInt = 2
    """How many of the newest stay on disk."""


class Optimisation(Strict):
    """What every training type shares."""

    lr: PositiveFloat
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """From `lr` to 0 over the run, after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: NonNegative = 0.0
    adam_eps: PositiveFloat = 1e-8
    max_grad_norm: PositiveFloat = 1.0
    micro_batch_tokens: PositiveInt = 4096
    """Tokens, padding included, in one forward and backward. Changes memory and speed, never the result."""
    eval_every: PositiveInt = 50
    """Steps between evaluations on the held-out rows; there is always one at the end."""


class SupervisedTraining(Optimisation):
    """Supervised fine-tuning on demonstrations, or on the chosen side of preferences."""

    type: Literal["sft"]
    lr: PositiveFloat = 2e-4
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None


class RewardTraining(Optimisation):
    """A scalar reward head and adapter, trained on preferences by the Bradley–Terry loss."""

    type: Literal["reward"]
    lr: PositiveFloat = 1e-4
    batch_size: PositiveInt = 16
    """Pairs in an optimiser step."""
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    strength: Literal["ignore", "weight", "margin"] = "ignore"
    """How much better the chosen answer is: not used, the weight max(1, strength) of its pair, or a margin."""
    margin_scale: NonNegative = 1.0
    """With `strength: margin`: margin = scale × strength, in units of reward."""
    centre_coef: NonNegative = 0.01
    """Weight of (r_chosen + r_rejected)², which keeps rewards near zero."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    ties: Literal["soft", "drop"] = "soft"
    """Ties train towards a probability of one half, or are left out."""
    normalise: Literal["none", "centre", "standardise"] = "centre"
    """Saved with the model, applied when it scores: nothing, mean 0, or mean 0 and spread 1 on its training answers."""


class RewardModelSettings(Strict):
    """Which trained reward model scores the rollouts."""

    checkpoint_path: str = ""
    """The run folder of a reward model (or its `final`)."""
    model_name: str = ""
    """The base the reward model must have been trained on; any other is an error. Empty: take what it says."""
    weight: float = 1.0
    random_for_debugging: bool = False
    """Score with an untrained head. The run is stamped `random reward`."""

    @model_validator(mode="after")
    def _one_source(self) -> RewardModelSettings:
        if self.random_for_debugging == bool(self.checkpoint_path):
            raise ValueError(
                "name a trained reward model in checkpoint_path"
                if not self.checkpoint_path
                else "checkpoint_path and random_for_debugging exclude each other"
            )
        return self


class PPOSettings(Strict):
    """Proximal policy optimisation over tokens, under KL control. Defaults follow arXiv:2403.17031 where it speaks."""

    updates: PositiveInt = 100
    prompts_per_update: PositiveInt = 32
    samples_per_prompt: PositiveInt = 1
    epochs: PositiveInt = 4
    """Passes over each rollout batch."""
    minibatches: PositiveInt = 1
    """Optimiser steps a pass."""
    max_gen_len: PositiveInt = 64
    temperature: PositiveFloat = 1.0
    """Of sampling, and of every log-probability."""
    clip_range: PositiveFloat = 0.2
    value_clip_range: PositiveFloat | None = 0.2
    """None: the value loss is not clipped."""
    vf_coef: NonNegative = 0.1
    entropy_coef: NonNegative = 0.0
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    whiten_advantages: bool = True
    kl_coef: NonNegative = 0.1
    kl_control: Literal["fixed", "adaptive"] = "fixed"
    kl_target: PositiveFloat = 6.0
    """Adaptive control: the KL to the reference to hold, in nats per sequence."""
    kl_horizon: PositiveFloat = 10_000.0
    """Adaptive control: sequences over which the coefficient may change by about a fifth."""
    kl_coef_min: NonNegative = 0.001
    kl_coef_max: PositiveFloat = 10.0
    target_kl_per_token: PositiveFloat | None = None
    """Stop an update's remaining optimiser steps once KL(old‖new) exceeds this, in nats per token.

    Measured on a step's own minibatch before it is taken: needs more than one step an update.
    """
    score_clip: PositiveFloat | None = None
    """Clip the reward model's score to ± this, before anything is added."""
    truncated: Literal["penalise", "mask"] = "penalise"
    """Answers cut at max_gen_len: subtract missing_eos_penalty, or leave them out of the loss."""
    missing_eos_penalty: NonNegative = 1.0
    length_penalty: NonNegative = 0.0
    """Subtracted per response token."""
    repetition_penalty: NonNegative = 0.0
    """Subtracted × the share of repeated token 4-grams."""

    @model_validator(mode="after")
    def _consistent(self) -> PPOSettings:
        if self.kl_coef_min > self.kl_coef_max:
            raise ValueError("kl_coef_min is above kl_coef_max")
        if self.target_kl_per_token is not None and self.epochs * self.minibatches == 1:
            raise ValueError(
                "target_kl_per_token needs more than one optimiser step an update (epochs, minibatches)"
            )
        if self.minibatches > self.prompts_per_update * self.samples_per_prompt:
            raise ValueError("more minibatches than rollouts in an update")
        return self


class PPOTraining(Optimisation):
    """Token-level PPO against a frozen reward model and a frozen reference."""

    type: Literal["ppo"]
    lr: PositiveFloat = 1e-6
    critic_lr: PositiveFloat | None = None
    """Of the value head; left out: `lr`."""
    adam_eps: PositiveFloat = 1e-5
    ppo: PPOSettings = PPOSettings()
    reward_model: RewardModelSettings


Training = Annotated[SupervisedTraining | RewardTraining | PPOTraining, Field(discriminator="type")]


class RunConfig(Strict):
    """One training stage."""

    model_name: str = "embedded"
    """A hub name, a model folder, a run folder, a GGUF file, or `embedded` (SmolLM2-135M-Instruct)."""
    output_dir: str | None = None
    seed: int = Field(default=839, ge=0)
    device: str = "auto"
    """`auto` takes CUDA where there is one, else the CPU."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of frozen weights and activations. What is trained is always float32."""
    data: DataConfig
    lora: LoraSettings = LoraSettings()
    training: Training
    checkpoints: CheckpointSettings = CheckpointSettings()
    tensorboard: bool = True

    @model_validator(mode="after")
    def _no_dropout_under_ppo(self) -> RunConfig:
        if self.training.type == "ppo" and self.lora.dropout > 0:
            raise ValueError(
                "PPO needs lora.dropout = 0: the policy that samples must be the policy that is scored"
            )
        return self


class EvaluationConfig(Strict):
    """N policies answer the same held-out prompts once; one reward model and any rule judges score all."""

    policies: dict[str, str]
    """Name → model (anything `model_name` accepts). The first is the baseline of the report."""
    reward_model: str
    """The run folder of the reward model that scores every policy."""
    judges: list[str] = []
    """Further scorers by name, for example `demo_gold`."""
    data: DataConfig
    max_gen_len: PositiveInt = 64
    temperature: NonNegative = 0.0
    """0: greedy."""
    tie_epsilon: NonNegative = 0.0
    """Two rewards this close are a tie."""
    output_dir: str | None = None
    seed: int = Field(default=839, ge=0)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    @model_validator(mode="after")
    def _held_out_alone(self) -> EvaluationConfig:
        if self.data.eval_path or self.data.eval_fraction or self.data.eval_limit:
            raise ValueError(
                "an evaluation reads data.path: eval_path, eval_fraction and eval_limit are for training"
            )
        return self


class StageOverrides(Strict):
    """A stage of a pipeline: a run's keys, without those the pipeline fills in."""

    data: DataConfig
    lora: LoraSettings = LoraSettings()
    training: dict[str, object]
    checkpoints: CheckpointSettings = CheckpointSettings()


class EvaluationStage(Strict):
    """The evaluation of a pipeline: an evaluation's keys, without those the pipeline fills in."""

    data: DataConfig
    judges: list[str] = []
    max_gen_len: PositiveInt = 64
    temperature: NonNegative = 0.0
    tie_epsilon: NonNegative = 0.0


class PipelineConfig(Strict):
    """SFT → reward model → PPO → evaluation → report, each stage starting from the ones before it."""

    name: str
    title: str = ""
    """Heads the report."""
    notice: str = ""
    """Printed and shown in the report, for example that the data are synthetic."""
    model_name: str = "embedded"
    output_dir: str | None = None
    seed: int = Field(default=839, ge=0)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    tensorboard: bool = True
    sft: StageOverrides
    reward: StageOverrides
    ppo: StageOverrides
    evaluation: EvaluationStage
