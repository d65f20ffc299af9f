"""Relevance against its definition, written slowly."""

from math import log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.evaluation.audit import audit
from harken.evaluation.audit.relevance import SAME_REQUEST, content_terms, relevances


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Why do volcanoes erupt, and the volcano?", {"volca", "erupt"}),
        ("雨が降る", {"雨が", "が降", "降る"}),
        ("It is 42 or 1945.", {"1945"}),
        ("", set()),
    ],
)
def test_terms(text, terms):
    assert content_terms(text) == terms


def slow_relevance(prompts, responses, prompt_of):
    """Return (own, others) of every response, by dictionaries."""
    wanted = [content_terms(p) for p in prompts]
    said = [content_terms(r) for r in responses]
    described = [
        set(wanted[p]).union(*(said[i] for i, q in enumerate(prompt_of) if q == p))
        for p in range(len(prompts))
    ]
    idf = {t: log(len(prompts) / sum(t in d for d in described)) for d in described for t in d}

    def description(prompt, without=None):
        members = [i for i, p in enumerate(prompt_of) if p == prompt and i != without]
        terms = described[prompt]
        return {
            t: (t in wanted[prompt]) + sum(t in said[i] for i in members) / max(len(members), 1)
            for t in terms
        }

    def cosine(left, right):
        dot = sum(left[t] * right.get(t, 0) * idf[t] ** 2 for t in left)
        norm = sqrt(
            sum((w * idf[t]) ** 2 for t, w in left.items()) * sum((w * idf[t]) ** 2 for t, w in right.items())
        )
        return dot / norm if norm > 1e-9 else 0.0

    found = []
    for i, prompt in enumerate(prompt_of):
        mine = dict.fromkeys(said[i], 1)
        alike = [
            cosine(dict.fromkeys(wanted[prompt], 1), dict.fromkeys(wanted[p], 1)) for p in range(len(prompts))
        ]
        others = {
            p: cosine(mine, description(p))
            for p in range(len(prompts))
            if p != prompt and alike[p] < SAME_REQUEST - 1e-9
        }
        found.append((cosine(mine, description(prompt, without=i)), others))
    return found


text = st.lists(
    st.sampled_from(["rain", "cloud", "bread", "yeast", "chess", "the"]), min_size=1, max_size=5
).map(" ".join)


@given(st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_relevance_is_its_definition(items):
    prompts = [f"{prompt} number{i}" for i, (prompt, _) in enumerate(items)]
    responses = [response for _, found in items for response in found]
    prompt_of = [i for i, (_, found) in enumerate(items) for _ in found]
    measured = relevances(prompts, responses, prompt_of)
    for (own, others), found in zip(slow_relevance(prompts, responses, prompt_of), measured, strict=True):
        assert found.own == pytest.approx(own, abs=1e-9)
        assert found.best_other == pytest.approx(max(others.values(), default=0.0), abs=1e-9)
        if found.other is not None:
            assert others[found.other] == pytest.approx(found.best_other, abs=1e-9)


def row(number, prompt, response, policy):
    return {"prompt_id": f"p{number}", "sample": 0, "policy": policy, "prompt": prompt, "response": response,
            "stop": "end_of_turn", "reward": 0.0}  # fmt: skip


BREAD = (
    "Yeast eats sugar and gives off carbon dioxide, and the gluten in the flour traps the bubbles of the gas."
)
CHESS = "Develop knights and bishops early, castle behind three pawns, and keep the queen at home until rooks connect."
RAIN = "Vapour cools around specks of dust until droplets grow heavy; then they fall from the cloud as rain or snow."
PROMPTS = {"Why does bread rise?": BREAD, "How do I open in chess?": CHESS, "Why does it rain?": RAIN}


def off_topic(swapped):
    rows = [row(i, p, r, "Base") for i, (p, r) in enumerate(PROMPTS.items())]
    responses = [CHESS, BREAD, RAIN] if swapped else [BREAD, CHESS, RAIN]
    rows += [row(i, p, f"Well. {r}", "PPO") for i, (p, r) in enumerate(zip(PROMPTS, responses, strict=True))]
    return {key for key, found in audit(rows, "Base").items() if "off_topic" in found["flags"]}


def test_swapped_responses_are_off_topic_and_others_are_not():
    assert off_topic(swapped=False) == set()
    assert off_topic(swapped=True) >= {("p0", 0, "PPO"), ("p1", 0, "PPO")}
    assert ("p2", 0, "PPO") not in off_topic(swapped=True)


def test_without_another_response_more_evidence_is_needed():
    rows = [row(i, p, r, "PPO") for i, (p, r) in enumerate(PROMPTS.items())]
    assert not [key for key, found in audit(rows, "Base").items() if "off_topic" in found["flags"]]
    assert all(found["relevance"].peers == 0 for found in audit(rows, "Base").values())
