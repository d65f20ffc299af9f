"""Find which stage made each evaluated policy, and which policies a report compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harken.config.stages import MODEL, PipelineStage

BASE = "base"
"""Role of the pipeline's own model."""


@dataclass(frozen=True)
class PolicyComparison:
    """Name the roles of two policies that the verdict compares."""

    after: str
    before: str
    """What `after` started from, as far as it is evaluated."""
    first: str | None = None
    """The first model of the chain, where it is a third policy of the evaluation."""
    kl_of: str | None = None
    """The stage whose KL is measured against `before`."""


@dataclass(frozen=True)
class PolicyRoles:
    """Hold the role of every evaluated policy, and the comparisons of the verdict."""

    policies: Mapping[str, str]
    """Role → policy. The role is the type of the stage that made it, or the stage's name where types repeat."""
    comparisons: tuple[PolicyComparison, ...]


def policy_roles(
    stages: Sequence[PipelineStage], evaluation: PipelineStage, policies: Sequence[str]
) -> PolicyRoles:
    """Return the roles of `policies`, the systems that the evaluation compared.

    Each policy from which no other evaluated policy was trained is compared with the nearest evaluated model that it
    started from, and such policies with one another. Without any trained policy the last is compared with the first.
    """
    by_name = {stage.name: stage for stage in stages}
    made = {policy: evaluation.policies[policy] for policy in policies if policy in evaluation.policies}
    types = Counter(by_name[name].type for name in made.values() if name != MODEL)
    roles: dict[str, str] = {}
    of_stage: dict[str, str] = {}
    for policy in policies:
        name = made.get(policy)
        if name is None:
            role = policy
        elif name == MODEL:
            role = BASE
        else:
            kind = by_name[name].type
            role = kind if types[kind] == 1 else name
        if role in roles:
            role = policy
        roles[role] = policy
        if name is not None:
            of_stage.setdefault(name, role)
    ancestors = {name: _ancestors(name, by_name) for name in of_stage if name != MODEL}
    ends = [name for name in ancestors if not any(name in chain for chain in ancestors.values())]
    found: list[PolicyComparison] = []
    for number, name in enumerate(ends):
        evaluated = [of_stage[one] for one in ancestors[name] if one in of_stage]
        if evaluated:
            direct = ancestors[name][0] in of_stage
            first = evaluated[-1] if len(evaluated) > 1 else None
            found.append(PolicyComparison(of_stage[name], evaluated[0], first, name if direct else None))
        found += [PolicyComparison(of_stage[name], of_stage[other]) for other in ends[:number]]
    if not found and len(roles) > 1:
        first_role, *_, last_role = roles
        found = [PolicyComparison(last_role, first_role)]
    return PolicyRoles(roles, tuple(found))


def _ancestors(name: str, stages: Mapping[str, PipelineStage]) -> list[str]:
    """Return the stages that a stage's policy was trained from, the nearest first, and then the pipeline's model."""
    found = []
    start = stages[name].start
    while start is not None:
        found.append(start)
        start = None if start == MODEL else stages[start].start
    return found
