"""All checks, in order: the check that explains an error comes before those that meet its effects."""

from __future__ import annotations

from harken.doctor.check import Check
from harken.doctor.data import DATA, ROWS
from harken.doctor.environment import DISK, FOLDER
from harken.doctor.lineage import LINEAGE
from harken.doctor.model import LOADED, MODEL
from harken.doctor.ppo_settings import PPO_SETTINGS
from harken.doctor.reward import REWARD
from harken.doctor.sampling import SAMPLING
from harken.doctor.settings import SETTINGS
from harken.doctor.tokens import TOKENS
from harken.doctor.update import UPDATE

CHECKS: tuple[Check, ...] = (
    *FOLDER,
    *LINEAGE,
    *ROWS,
    *TOKENS,
    *DATA,
    *SETTINGS,
    *PPO_SETTINGS,
    *LOADED,
    *DISK,
    *MODEL,
    *REWARD,
    *SAMPLING,
    *UPDATE,
)
