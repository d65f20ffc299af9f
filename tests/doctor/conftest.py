"""The healthy pipeline, once a session, and the doctor at work on a damaged configuration."""

from __future__ import annotations

import pytest
from healthy_pipeline import HealthyPipeline, train_healthy_pipeline


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> HealthyPipeline:
    return train_healthy_pipeline(tmp_path_factory.mktemp("healthy"))
