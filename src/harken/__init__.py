"""Harken: RLHF you can see into. Supervised fine-tuning, reward model, token-level PPO, evaluation, report."""

__version__ = "0.1.0"
