"""Every path of a run, named once.

<run>/config.yml  manifest.json  status.json  metrics.jsonl  rejects.jsonl  data_report.json  trained_prompts.txt
      tensorboard/  checkpoints/step-N/  nan_dumps/step-N/  rollouts/*.parquet  credit/*.parquet  final/

<pipeline>/01_sft  02_rm  03_ppo  04_eval/{config.yml,responses.parquet,summary.json}  05_report/report.html
      pipeline.yml  results.json

A finished run, its final, an evaluation and a pipeline are sealed: SHA256SUMS lists their files (run/checksums.py). A
run's own lists neither what may still change (status.json, tensorboard, checkpoints) nor final, which has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one training run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.root / "config.yml"

    @property
    def manifest(self) -> Path:
        """Versions, hashes and lineage (JSON)."""
        return self.root / "manifest.json"

    @property
    def status(self) -> Path:
        """Requested and completed steps, and why the run stopped (JSON)."""
        return self.root / "status.json"

    @property
    def metrics(self) -> Path:
        """One JSON line a step."""
        return self.root / "metrics.jsonl"

    @property
    def data_report(self) -> Path:
        """Rows raw, kept, dropped by reason, shortened by reason (JSON)."""
        return self.root / "data_report.json"

    @property
    def rejects(self) -> Path:
        """Each dropped row with its place and reason (JSONL)."""
        return self.root / "rejects.jsonl"

    @property
    def trained_prompts(self) -> Path:
        """Hashes of the prompts it was trained on, one a line (`run.trained_prompts`)."""
        return self.root / "trained_prompts.txt"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Exact training state, one folder a kept step."""
        return self.root / "checkpoints"

    @property
    def nan_dumps(self) -> Path:
        """Dumps of skipped steps that reproduce their NaN or infinity, one folder a step; the latest few are kept."""
        return self.root / "nan_dumps"

    @property
    def best(self) -> Path:
        """The weights of the best step so far, for choosing what becomes `final`."""
        return self.root / "best"

    @property
    def rollouts(self) -> Path:
        """Scored rollouts, one parquet file an update."""
        return self.root / "rollouts"

    @property
    def credit(self) -> Path:
        """How every token of those rollouts was credited, one parquet file an update."""
        return self.root / "credit"

    @property
    def final(self) -> Path:
        """The trained model, loadable by `from_pretrained`."""
        return self.root / "final"

    def checksummed_files(self) -> list[Path]:
        """What is there of the files that no longer change when the run is finished, `final` aside: its seal's."""
        tables = [*self.rollouts.glob("*.parquet"), *self.credit.glob("*.parquet")]
        named = (
            self.config,
            self.manifest,
            self.data_report,
            self.rejects,
            self.trained_prompts,
            self.metrics,
        )
        return [path for path in (*named, *tables) if path.exists()]


@dataclass(frozen=True)
class PipelineFolder:
    """The stages of one pipeline, in order."""

    root: Path

    @property
    def sft(self) -> RunFolder:
        """Supervised fine-tuning."""
        return RunFolder(self.root / "01_sft")

    @property
    def reward(self) -> RunFolder:
        """The reward model."""
        return RunFolder(self.root / "02_rm")

    @property
    def ppo(self) -> RunFolder:
        """The PPO run."""
        return RunFolder(self.root / "03_ppo")

    @property
    def evaluation(self) -> EvaluationFolder:
        """The comparison of all policies."""
        return EvaluationFolder(self.root / "04_eval")

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.root / "pipeline.yml"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "05_report" / "report.html"

    @property
    def results(self) -> Path:
        """The headline figures (JSON)."""
        return self.root / "results.json"


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of one evaluation."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.root / "config.yml"

    @property
    def shards(self) -> Path:
        """Finished parts of an unfinished evaluation (`run.shards`); gone when it is finished."""
        return self.root / "parts"

    @property
    def responses(self) -> Path:
        """One row per (policy, prompt): the answer and all its scores. Everything else derives from it."""
        return self.root / "responses.parquet"

    @property
    def summary(self) -> Path:
        """The N-way and pairwise tables with intervals (JSON)."""
        return self.root / "summary.json"

    def checksummed_files(self) -> list[Path]:
        """The files of a finished evaluation: its seal's."""
        return [self.config, self.responses, self.summary]
