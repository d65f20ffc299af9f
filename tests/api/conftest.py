"""Tiny trained models that the tests of the Python interface share."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill import stages


@pytest.fixture(scope="session")
def made_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, sft/ and rm/, and rows."""
    root = tmp_path_factory.mktemp("api")
    stages.make_world(root)
    return root
