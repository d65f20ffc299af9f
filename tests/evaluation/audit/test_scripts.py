# ruff: noqa: E501  texts are one a line

import pytest

from harken.evaluation.audit.encoding import find_mojibake
from harken.evaluation.audit.response import audit_response
from harken.evaluation.audit.scripts import count_letters, dominant_script, find_homoglyphs


def mixed(response, prompt="Why does it rain?"):
    row = {"prompt": prompt, "response": response, "stop": "end_of_turn", "reward": 0.0}
    return audit_response(row)["mixed_scripts"]


def test_letters_are_counted_by_script():
    assert count_letters("abc déf, где 雨が") == {"latin": 6, "cyrillic": 3, "han": 1, "kana": 1}
    assert count_letters("abc 123 !?") == {"latin": 3} and count_letters("123") == {}


@pytest.mark.parametrize(
    ("text", "script"),
    [("abc", "latin"), ("漢字とかな", "kana"), ("汉字", "han"), ("где a", "cyrillic"), ("1", None), ("漢字漢字漢字漢字漢字の", "han")],
)  # fmt: skip
def test_dominant_script(text, script):
    assert dominant_script(count_letters(text)) == script


@pytest.mark.parametrize(
    ("text", "found"),
    [("pаypal", ["pаypal"]), ("a wоrd here", ["wоrd"]), ("слово word", []), ("70 μm of Δx and λmax", []), ("plain", []), ("mοney", ["mοney"])],
)  # fmt: skip
def test_homoglyphs(text, found):
    assert find_homoglyphs(text) == found


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("Rain falls 因此 from clouds.", "因此"),
        ("Rain falls который from clouds.", "который"),
        ("Rain falls from clоuds.", "clоuds"),
        ("The word 茶 (cha) is one letter.", None),  # fewer letters than the threshold
        ("The river is Moskva (Москва).", None),
        ("It is «Москва» there.", None),
        ("雨はcloudから降ります。", None),
        ("Rain falls from clouds.", None),
        ("Δp is F·Δt.", None),
    ],
)
def test_mixed_scripts(response, found):
    assert mixed(response) == found


def test_a_script_of_the_prompt_is_at_home():
    assert mixed("Rain is дождь there.", "What does дождь mean?") is None
    assert mixed("Rain is дождь there.", "What is rain in Russian?") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The cafÃ© is open.", "Ã©"),
        ("Itâ€™s open.", "â€™"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "ÐŸ"),
        ("The caf\ufffd is open.", "\ufffd"),
        ("It&#39;s open.", "&#39;"),
        ("The caf\\u00e9 is open.", "\\u00e9"),
        ("a\x07b", "\x07"),
    ],
)
def test_mojibake(text, found):
    assert find_mojibake(text, "") == found


@pytest.mark.parametrize(
    "text",
    [
        "Le café crème à Paris",
        "Äpfel, »Öl« und „Ü“",
        "24 °C – ½ cup",
        "naïve “quotes”…",
        "日本語",
        "CAFÉ\u00a0»",
        "",
        "¿Qué?",
    ],
)
def test_right_text_is_no_mojibake(text):
    assert find_mojibake(text, "") is None


def test_every_word_that_is_read_as_windows_1252_is_found():
    for word in ("déjà", "größer", "señor", "naïve", "Привет", "“so”", "5 €"):
        assert find_mojibake(word.encode().decode("cp1252", "ignore"), "")
        assert find_mojibake(word, "") is None
