"""Every weight dtype on processors with fewer capabilities than this one has. More than it has cannot be forced.

What a processor with avx512_bf16 does to 4-bit weights is forced in tests/models/test_quantised.py.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer

TESTS = Path(__file__).parent
LESSER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
EVERY = [
    {"ATEN_CPU_CAPABILITY": kernels, "ONEDNN_MAX_CPU_ISA": products}
    for kernels in ("default", "avx2", "avx512")
    for products in ("AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "AVX512_CORE_AMX", "DEFAULT")
]
NEEDED = {
    "models": ["test_quantised.py"],
    "kernels": ["test_packed_linear.py", "test_fp32_linear.py", "test_lora_linear.py"],
    "end_to_end": ["test_quantised_pipeline.py", "test_pipeline.py"],
    "rollout": [""],
    "properties": [""],
}
"""Tests that depend on the matmul kernels of a processor."""
AWAY = {"float32": 1e-4, "bfloat16": 0.03, "int8": 0.004, "nf4": 0.004}
"""Of decoding from the training forward: only a 16-bit base has its weights in another order while it decodes."""


def under(capabilities: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these capabilities in the environment: torch reads them when it is imported."""
    environment = os.environ | capabilities | {"PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_lesser_processor_computes_the_same(tmp_path: Path) -> None:
    """Decoding is the training forward, frozen weights keep every bit, and PPO in 4 bits comes to its end."""
    tiny_model(hidden=128).bfloat16().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    done = under(LESSER, str(TESTS / "capabilities.py"), str(tmp_path / "model"), str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("capability") == "DEFAULT"
    others = ("gemm_4bit_forward", "MatMul8bitLt", "Unloading", "UserWarning")
    assert not [line for line in done.stderr.splitlines() if any(words in line for words in others)]
    assert found.pop("ppo") == {"final": True, "kl": pytest.approx(0, abs=0.02), "moved": None}
    assert found.keys() == AWAY.keys()
    for dtype, measured in found.items():
        assert measured["frozen"], dtype
        assert measured["gap"] <= AWAY[dtype], dtype


def test_a_kernel_that_is_not_called_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    """On avx512_bf16 bitsandbytes warns of one when it is imported. Its other warnings are shown."""
    import harken.models  # noqa: F401

    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no module")
    logger.warning("another warning")
    assert [record.getMessage() for record in caplog.records] == ["another warning"]


@pytest.mark.nightly
@pytest.mark.parametrize("capabilities", EVERY, ids=lambda forced: " ".join(forced.values()))
def test_matmul_tests_pass_under_every_capability(capabilities: dict[str, str]) -> None:
    tests = [str(TESTS / folder / name) for folder, names in NEEDED.items() for name in names]
    done = under(capabilities, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-5000:]
