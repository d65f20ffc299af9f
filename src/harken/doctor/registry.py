"""List all checks in order: a check that explains an error comes before those that show its effects."""

from __future__ import annotations

from harken.doctor.check import Check
from harken.doctor.data import DATA_CHECKS, ROW_CHECKS
from harken.doctor.environment import DISK_CHECKS, FOLDER_CHECKS
from harken.doctor.lineage import LINEAGE_CHECKS
from harken.doctor.model import LOADING_CHECKS, MODEL_CHECKS
from harken.doctor.ppo_settings import PPO_SETTINGS_CHECKS
from harken.doctor.reward import REWARD_CHECKS
from harken.doctor.sampling import SAMPLING_CHECKS
from harken.doctor.settings import SETTINGS_CHECKS
from harken.doctor.tokens import TOKEN_CHECKS
from harken.doctor.update import UPDATE_CHECKS

CHECKS: tuple[Check, ...] = (
    *FOLDER_CHECKS,
    *LINEAGE_CHECKS,
    *ROW_CHECKS,
    *TOKEN_CHECKS,
    *DATA_CHECKS,
    *SETTINGS_CHECKS,
    *PPO_SETTINGS_CHECKS,
    *LOADING_CHECKS,
    *DISK_CHECKS,
    *MODEL_CHECKS,
    *REWARD_CHECKS,
    *SAMPLING_CHECKS,
    *UPDATE_CHECKS,
)
