"""Near-duplicates against the definition, and against MinHash where that is exact enough."""

import random
from itertools import combinations

import datasketch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.evaluation.audit import audit
from harken.evaluation.audit.duplicates import find_near_duplicates, jaccard, number_shingles


def slow_shingles(items):
    return {tuple(items[i : i + 5]) for i in range(len(items) - 4)}


def slow_similarity(left, right):
    one, two = slow_shingles(left), slow_shingles(right)
    return len(one & two) / len(one | two) if one | two else 0.0


few_words = st.lists(st.sampled_from("ab"), max_size=30)


@given(st.lists(few_words, min_size=1, max_size=6))
@settings(max_examples=200)
def test_shingles_have_equal_numbers_when_they_are_equal(texts):
    """Texts stand side by side in one array; no shingle may reach from one into the next."""
    numbered = number_shingles(texts)
    for text, numbers in zip(texts, numbered, strict=True):
        assert len(numbers) == len(slow_shingles(text)) == len(set(numbers.tolist()))
        assert list(numbers) == sorted(numbers)
    for (left, one), (right, two) in combinations(zip(texts, numbered, strict=True), 2):
        assert jaccard(one, two) == pytest.approx(slow_similarity(left, right))


def test_rare_shingles_come_first():
    texts = [["a", "b", "c", "d", "e", "f"], ["a", "b", "c", "d", "e", "g"], ["a", "b", "c", "d", "e", "h"]]
    shared = {numbers.tolist()[-1] for numbers in number_shingles(texts)}
    assert len(shared) == 1  # "a b c d e" is in all of them and has the highest number


@given(st.lists(st.tuples(st.integers(0, 2), few_words), max_size=7), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=300)
def test_exactly_the_texts_with_a_partner_of_another_group_are_found(items, similarity):
    texts = {i: words for i, (_, words) in enumerate(items)}
    groups = {i: group for i, (group, _) in enumerate(items)}
    partners = {
        i: {j for j in texts if groups[j] != groups[i] and slow_shingles(texts[i])
            and slow_similarity(texts[i], texts[j]) >= similarity}
        for i in texts
    }  # fmt: skip
    found = find_near_duplicates(texts, groups, similarity)
    assert set(found) == {i for i, others in partners.items() if others}
    assert all(found[i] in partners[i] for i in found)


def test_minhash_agrees_on_texts_that_are_clearly_alike_or_not():
    random.seed(3)
    words = [f"w{i}" for i in range(400)]
    bases = [random.choices(words, k=200) for _ in range(20)]
    texts = {}
    for i, base in enumerate(bases):
        texts[i, 0] = base
        texts[i, 1] = [*base[:-3], "x", "y", "z"] if i % 2 else random.sample(base, len(base))
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=256)
    hashes = {}
    for key, text in texts.items():
        hashes[key] = datasketch.MinHash(num_perm=256)
        hashes[key].update_batch([" ".join(shingle).encode() for shingle in slow_shingles(text)])
        index.insert(key, hashes[key])
    alike = {
        key
        for key in texts
        if len([k for k in index.query(hashes[key]) if hashes[key].jaccard(hashes[k]) >= 0.8]) > 1
    }
    assert set(find_near_duplicates(texts, {key: key for key in texts}, 0.8)) == alike
    assert alike == {(i, n) for i in range(1, 20, 2) for n in (0, 1)}


def test_two_thousand_equal_texts_take_no_quadratic_time():
    """A collapsed policy says one thing to every prompt."""
    text = [f"w{i}" for i in range(150)]
    texts = {i: [*text, str(i)] for i in range(2000)}
    assert len(find_near_duplicates(texts, {i: i for i in texts})) == 2000


def row(number, prompt, response, policy="PPO"):
    return {"prompt_id": f"p{number}", "sample": 0, "policy": policy, "prompt": prompt, "response": response,
            "stop": "end_of_turn", "reward": 0.0}  # fmt: skip


LONG = "there are many things to keep in mind and each of them needs some time before it works as you hoped it would"


def near(rows):
    return {key[0] for key, found in audit(rows, "Base").items() if "near_duplicate" in found["flags"]}


def test_only_other_prompts_of_the_same_policy_count():
    assert near([row(1, "About cats?", LONG), row(2, "Why is rain wet?", LONG)]) == {"p1", "p2"}
    assert near([row(1, "About cats?", LONG), row(2, "Why is rain wet?", LONG, "Base")]) == set()
    assert near([row(1, "About cats?", LONG), row(2, "about cats", LONG)]) == set()  # the same prompt twice
    assert (
        near([row(1, "About cats?", "Yes it is"), row(2, "Why is rain wet?", "Yes it is")]) == set()
    )  # short


def test_a_template_that_names_its_prompt_is_found():
    texts = {"cats": "About cats?", "rain": "How does rain form?", "bread": "Is bread good?"}
    rows = [
        row(i, prompt, f"When it comes to {name} {LONG} because {name} is {name}")
        for i, (name, prompt) in enumerate(texts.items())
    ]
    assert near(rows) == {"p0", "p1", "p2"}
