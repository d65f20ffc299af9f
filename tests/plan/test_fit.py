"""The largest micro-batch: what is chosen fits, and the next larger one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_plan import stage, write_rows

from harken.plan.fit import CANDIDATES, USABLE_MEMORY, fit
from harken.plan.job import Job
from harken.plan.phases import phases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    write_rows(root)
    return root


def peak(job: Job) -> float:
    return max(phase.total for phase in phases(job, 0.0))


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_the_chosen_size_fits_and_the_next_does_not(folder: Path, kind: str) -> None:
    job = (
        stage(folder, kind, batch_size=32)
        if kind != "ppo"
        else stage(folder, kind, ppo={"prompts_per_update": 32})
    )
    small, large = (peak(job.with_training(micro_batch_tokens=n)) for n in (CANDIDATES[-2], CANDIDATES[-9]))
    memory = (small + large) / 2 / USABLE_MEMORY
    chosen = fit(job, 0.0, memory)
    assert chosen.fits and set(chosen.changes) == {"micro_batch_tokens"}
    assert isinstance(chosen.job, Job)
    assert peak(chosen.job) <= USABLE_MEMORY * memory
    larger = min(size for size in CANDIDATES if size > chosen.job.budget)
    assert peak(job.with_training(micro_batch_tokens=larger)) > USABLE_MEMORY * memory


def test_plenty_of_memory_takes_a_whole_batch_at_once(folder: Path) -> None:
    job = stage(folder, "sft", batch_size=8)
    chosen = fit(job, 0.0, 1e12)
    assert chosen.changes == {"micro_batch_tokens": 8 * max(job.rows.lengths)}


def test_layers_run_again_before_it_is_given_up(folder: Path) -> None:
    job = stage(folder, "sft", run={"lora": {"rank": 1}})
    least = job.with_training(micro_batch_tokens=max(job.rows.lengths))
    with_it = peak(least.with_training(gradient_checkpointing=True))
    memory = (peak(least) + with_it) / 2 / USABLE_MEMORY
    assert with_it < USABLE_MEMORY * memory < peak(least)
    chosen = fit(job, 0.0, memory)
    assert chosen.fits and chosen.changes["gradient_checkpointing"] is True


def test_too_little_is_said(folder: Path) -> None:
    job = stage(folder, "sft")
    chosen = fit(job, 1e9, 0.5e9)
    assert not chosen.fits and chosen.changes == {} and chosen.job is job
