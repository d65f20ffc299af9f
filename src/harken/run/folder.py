"""Define every path of a run, a pipeline and an evaluation.

<run>/config.yml  manifest.json  status.json  metrics.jsonl  rejects.jsonl  data_report.json  trained_prompts.txt
      rows/  tensorboard/  checkpoints/step-N/  nan_dumps/step-N/  rollouts/*.parquet  credit/*.parquet  card/  final/
      held_out/*.parquet  reference_scores.safetensors  live_votes.json

<pipeline>/01_NAME  02_NAME  … (the folder of each stage: a run, an evaluation, NN_report/report.html)
      pipeline.yml  results.json
<evaluation>/config.yml  manifest.json  responses.parquet  summary.json  audit.json  shards/

<review>/study.json  votes.sqlite  links.json  lock.json  report.json  report.md  report.html  pairs.jsonl

<sycophancy>/{config.yml,manifest.json,probes.parquet,sycophancy.json}
<generate or score>/{config.yml,manifest.json,responses.parquet}  <pairs>/{config.yml,manifest.json,pairs.jsonl or
      demonstrations.jsonl; by a judge: judgements.jsonl, judge.json}

SHA256SUMS lists the files of a finished run, its final/, an evaluation and a pipeline (run/checksums.py). That of a run
lists neither files that may still change (status.json, live_votes.json, tensorboard, checkpoints) nor final/, which
has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Name the files of one training run."""

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
        """One JSON line per step."""
        return self.root / "metrics.jsonl"

    @property
    def metrics_csv(self) -> Path:
        """The same as CSV, where `trackers.csv` asks for it. Nothing reads it."""
        return self.root / "metrics.csv"

    @property
    def data_report(self) -> Path:
        """Counts of rows read, kept, dropped by reason and shortened by reason (JSON)."""
        return self.root / "data_report.json"

    @property
    def rejects(self) -> Path:
        """Each dropped row with its location and reason (JSONL)."""
        return self.root / "rejects.jsonl"

    @property
    def trained_prompts(self) -> Path:
        """Hashes of the training prompts, one per line (`run.trained_prompts`)."""
        return self.root / "trained_prompts.txt"

    @property
    def rows(self) -> Path:
        """Rows passed by a Python program: train.jsonl and held_out.jsonl."""
        return self.root / "rows"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Exact training state, one folder per saved step."""
        return self.root / "checkpoints"

    @property
    def nan_dumps(self) -> Path:
        """Dumps of skipped steps that reproduce their NaN or infinity, one folder per step; the latest few are kept."""
        return self.root / "nan_dumps"

    @property
    def best(self) -> Path:
        """Weights of the best step so far, a candidate for `final`."""
        return self.root / "best"

    @property
    def rollouts(self) -> Path:
        """Scored rollouts, one parquet file per update."""
        return self.root / "rollouts"

    @property
    def held_out(self) -> Path:
        """The first held-out responses of every evaluation of a policy, one parquet file per evaluation."""
        return self.root / "held_out"

    @property
    def live_votes(self) -> Path:
        """Votes of people on the responses of a run that goes on (JSON; `run.live_votes`)."""
        return self.root / "live_votes.json"

    @property
    def credit(self) -> Path:
        """PPO targets of every token of those rollouts, one parquet file per update."""
        return self.root / "credit"

    @property
    def reference_scores(self) -> Path:
        """The reference's scores of all rows of a DPO run (safetensors; `train.dpo.reference_scores`)."""
        return self.root / "reference_scores.safetensors"

    @property
    def best_of_n(self) -> Path:
        """Best of n from the starting policy, if `harken frontier` measured it: curve.json."""
        return self.root / "best_of_n"

    @property
    def card(self) -> CardFolder:
        """The report card of a reward model."""
        return CardFolder(self.root / "card")

    @property
    def golden_card(self) -> CardFolder:
        """The card on the golden pairs of a pipeline's gate."""
        return CardFolder(self.root / "golden_card")

    @property
    def final(self) -> Path:
        """The trained model, loadable by `from_pretrained`."""
        return self.root / "final"

    def checksummed_files(self) -> list[Path]:
        """List the existing files that no longer change once the run is finished, without `final`."""
        folders = (self.rollouts, self.credit, self.held_out)
        tables = [path for folder in folders for path in folder.glob("*.parquet")]
        single_files = (
            self.config,
            self.manifest,
            self.data_report,
            self.rejects,
            self.trained_prompts,
            self.metrics,
            self.reference_scores,
        )
        return [path for path in (*single_files, *tables) if path.exists()]


@dataclass(frozen=True)
class CardFolder:
    """Name the files of a reward model's report card."""

    root: Path

    @property
    def card(self) -> Path:
        """All figures, faults, warnings and the verdict (JSON)."""
        return self.root / "card.json"

    @property
    def markdown(self) -> Path:
        """The same as readable text (Markdown)."""
        return self.root / "card.md"

    @property
    def rows(self) -> Path:
        """A bounded list of the pairs behind the figures (JSON)."""
        return self.root / "rows.json"

    @property
    def gate(self) -> Path:
        """The decision of a pipeline's gate (JSON)."""
        return self.root / "gate.json"


@dataclass(frozen=True)
class PipelineFolder:
    """Name the files of one pipeline, except its stages' folders (`config.stages`)."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.root / "pipeline.yml"

    @property
    def results(self) -> Path:
        """The headline figures (JSON)."""
        return self.root / "results.json"


@dataclass(frozen=True)
class EvaluationFolder:
    """Name the files of one evaluation."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration (YAML)."""
        return self.root / "config.yml"

    @property
    def shards(self) -> Path:
        """Finished shards of an unfinished evaluation (`run.shards`); deleted when it is finished."""
        return self.root / "shards"

    @property
    def manifest(self) -> Path:
        """Time, place, machine and command of the evaluation (JSON)."""
        return self.root / "manifest.json"

    @property
    def responses(self) -> Path:
        """One row per (policy, prompt, sample): the response and all its scores. All other results derive from it."""
        return self.root / "responses.parquet"

    @property
    def summary(self) -> Path:
        """The N-way and pairwise tables with intervals (JSON)."""
        return self.root / "summary.json"

    @property
    def audit(self) -> Path:
        """The results of the audit, rates of failures and the responses with each flag (JSON)."""
        return self.root / "audit.json"

    @property
    def budgets(self) -> Path:
        """The summaries of the same responses truncated at several token limits (JSON), if `budgets` is set."""
        return self.root / "budgets.json"

    def checksummed_files(self) -> list[Path]:
        """List the files of a finished evaluation."""
        files = [self.config, self.responses, self.summary, self.audit]
        return [*files, *(path for path in (self.manifest, self.budgets) if path.exists())]


@dataclass(frozen=True)
class ResponsesFolder:
    """Name the files of generated or scored responses."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, with the fingerprints of all inputs (YAML)."""
        return self.root / "config.yml"

    @property
    def manifest(self) -> Path:
        """Versions, lineage and counts (JSON); written when the responses are complete."""
        return self.root / "manifest.json"

    @property
    def shards(self) -> Path:
        """Finished shards of unfinished work (`run.shards`); deleted when it is finished."""
        return self.root / "shards"

    @property
    def responses(self) -> Path:
        """One row per response, with the columns of an evaluation's table and its scores."""
        return self.root / "responses.parquet"

    def checksummed_files(self) -> list[Path]:
        """List the files of the finished folder."""
        return [self.config, self.manifest, self.responses]


@dataclass(frozen=True)
class PairsFolder:
    """Name the files of preference pairs, or of demonstrations, that were made from scored responses."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, with the fingerprint of the responses (YAML)."""
        return self.root / "config.yml"

    @property
    def manifest(self) -> Path:
        """Versions, lineage and counts (JSON); written when the rows are complete."""
        return self.root / "manifest.json"

    @property
    def shards(self) -> Path:
        """Unfinished steps of the constitutional recipe; making pairs of scores writes none."""
        return self.root / "shards"

    @property
    def pairs(self) -> Path:
        """Preference pairs (JSONL)."""
        return self.root / "pairs.jsonl"

    @property
    def demonstrations(self) -> Path:
        """The best response to each prompt (JSONL), with `how: best`."""
        return self.root / "demonstrations.jsonl"

    @property
    def judgements(self) -> Path:
        """Every verdict of the judge that labelled the pairs, append-only (JSONL)."""
        return self.root / "judgements.jsonl"

    @property
    def steps(self) -> Path:
        """Responses, critiques and revisions of the constitutional recipe (JSONL)."""
        return self.root / "steps.jsonl"

    @property
    def page(self) -> Path:
        """The same as a page to read (HTML)."""
        return self.root / "steps.html"

    @property
    def judge(self) -> Path:
        """What the judge did: order effects, canaries, cost, what its labels favour (JSON)."""
        return self.root / "judge.json"

    def checksummed_files(self) -> list[Path]:
        """List the files of the finished folder."""
        files = (
            self.config, self.manifest, self.pairs, self.demonstrations, self.judgements, self.judge,
            self.steps, self.page,
        )  # fmt: skip
        return [path for path in files if path.exists()]


@dataclass(frozen=True)
class ReviewFolder:
    """Name the files of one review by people."""

    root: Path

    @property
    def study(self) -> Path:
        """The plan: settings, items with their texts, every rater's tasks, the key of the sides (JSON)."""
        return self.root / "study.json"

    @property
    def votes(self) -> Path:
        """The votes, append-only (SQLite)."""
        return self.root / "votes.sqlite"

    @property
    def links(self) -> Path:
        """The raters' tokens and the port (JSON); readable by the owner alone."""
        return self.root / "links.json"

    @property
    def lock(self) -> Path:
        """The hash of the last vote at the time of the lock (JSON). Once it exists, no vote is accepted."""
        return self.root / "lock.json"

    @property
    def report(self) -> Path:
        """All figures of the unblinded votes (JSON)."""
        return self.root / "report.json"

    @property
    def markdown(self) -> Path:
        """The same as readable text (Markdown)."""
        return self.root / "report.md"

    @property
    def page(self) -> Path:
        """The same with charts of the raters over time (HTML)."""
        return self.root / "report.html"

    @property
    def pairs(self) -> Path:
        """Preference pairs of the votes (JSONL), if a stage of a pipeline exports them."""
        return self.root / "pairs.jsonl"
