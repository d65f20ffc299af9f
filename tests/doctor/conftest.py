"""The healthy pipeline, once a session, and the doctor at work on a spoilt configuration."""

from __future__ import annotations

import pytest
from clinic import Clinic, open_clinic


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    return open_clinic(tmp_path_factory.mktemp("clinic"))
