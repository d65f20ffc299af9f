# ruff: noqa: E501  texts are one a line

import pytest

from harken.evaluation.audit.sentence_end import find_broken_off
from harken.evaluation.audit.words import ResponseText

START = "Rain falls from clouds. It forms when vapour cools. Drops grow until they are heavy. "


def broken(text, truncated=False, language=None):
    return find_broken_off(ResponseText("", "", text), language, truncated)


@pytest.mark.parametrize(
    "text",
    [START + "Then they fall to the", START + "Then they fall,", START + "Then they fall on roofs and wet streets", START + "They are (as",
     "Here are the steps:", "Rain falls:\n\n1. Clouds\n2.", "雨是从云里落下来的。水汽遇冷以后就会变成小水滴，因为", "It rains in the mountains because of"],
)  # fmt: skip
def test_a_text_that_ends_in_a_sentence_is_found(text):
    assert broken(text)


@pytest.mark.parametrize(
    "text",
    [START, START + "“It rains!”", "Paris", "A joey", "Clouds\nRain\nSnow", "# Rain\n\n- from clouds\n- when they are heavy", "Yours,\nAnn",
     "Dear Bob,\n\nIt rains.\n\nBest regards,\nAnn Miller", "```\nx = 1\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "See www.rain.org", "",
     "It rains. (Weather Office)", START + "Enjoy :)", "雨が降ります。", "$$x = 1$$", "one short line without any mark at its end"],
)  # fmt: skip
def test_a_text_that_is_complete_is_not(text):
    assert broken(text) is None


def test_a_truncated_text_needs_less_evidence():
    text = "Rain falls on roofs and wet streets"
    assert broken(text, truncated=True) and broken(text) is None
    assert broken("Rain falls.", truncated=True) is None
