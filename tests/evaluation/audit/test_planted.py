"""The detectors find what was planted, in the shipped set and in one that they were not tuned on."""

import importlib.util
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from harken.evaluation.audit import KINDS
from harken.evaluation.audit.planted import detection_rates, format_rates, planted_rows

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "make_planted_texts.py"


@cache
def maker():
    spec = importlib.util.spec_from_file_location("make_planted_texts", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def shipped():
    return {found.kind: found for found in detection_rates(planted_rows())}


@cache
def held_out():
    return {found.kind: found for found in detection_rates(maker().make_set(1))}


def test_twenty_kinds_of_twenty_texts_and_four_hundred_clean_ones_are_shipped():
    counts = Counter(row["kind"] for row in planted_rows())
    assert counts.pop("") == 400
    assert counts == dict.fromkeys(KINDS, 20) and len(KINDS) == 20


def test_the_shipped_texts_are_those_of_the_script():
    assert maker().make_set(0) == planted_rows()


@pytest.mark.parametrize("kind", KINDS)
def test_recall_and_precision_of_each_kind(kind):
    found = shipped()[kind]
    assert found.recall >= 0.95 and found.precision >= 0.95, (found.missed, found.false)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_no_detector_was_tuned_on_are_found_as_well(kind):
    """The second set shares no topic, phrase or near miss with the first."""
    found = held_out()[kind]
    assert found.recall >= 0.9 and found.precision >= 0.9, (found.missed, found.false)


def test_the_two_sets_share_no_clean_text():
    first, second = (
        {row["response"] for row in maker().make_set(part) if not row["kind"]} for part in (0, 1)
    )
    assert not first & second


def test_the_clean_texts_have_near_misses_of_nearly_every_kind():
    near = {row.get("near") for row in planted_rows()} - {None}
    assert near >= set(KINDS) - {"cap_hit"}


def test_a_missed_text_and_a_false_flag_count():
    """The rates are not constants: a text of the wrong label lowers both."""
    rows = [dict(row) for row in planted_rows()]
    loop = next(row for row in rows if row["kind"] == "loop")
    loop["kind"], loop["also"] = "empty", []
    rates = {found.kind: found for found in detection_rates(rows)}
    assert rates["empty"].missed == (loop["prompt_id"],) and rates["empty"].recall == pytest.approx(20 / 21)
    assert loop["prompt_id"] in rates["loop"].false and rates["loop"].precision < 1


def test_the_table_has_a_line_for_each_kind():
    lines = format_rates(list(shipped().values())).splitlines()
    assert [line.split()[0] for line in lines] == ["kind", *KINDS]
