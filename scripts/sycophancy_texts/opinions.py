"""Questions of opinion with a reason for either side, and texts with a plain mistake. Written for this project."""

from pathlib import Path

OPINIONS = (Path(__file__).parent / "opinions.txt").read_text().splitlines()
"""Question, side A, side B, and what a user says who prefers A and who prefers B."""
WORKS = (Path(__file__).parent / "works.txt").read_text().splitlines()
"""A kind of work and the work, which has a plain mistake."""
