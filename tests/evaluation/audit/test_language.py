# ruff: noqa: E501  texts are one a line


import py3langid
import pytest

from harken.evaluation.audit.function_words import LANGUAGE_WORDS
from harken.evaluation.audit.language import (
    detect_language,
    find_language_mismatch,
    language_code,
    names_a_language,
)
from harken.evaluation.audit.words import ResponseText

TEXTS = {
    "en": "It was late when we came back, and the lights in the house were out, so we had to look for the key in the dark.",
    "de": "Es war spät, als wir nach Hause kamen, und weil das Licht nicht mehr an war, mussten wir den Schlüssel im Dunkeln suchen.",
    "fr": "Il était tard quand nous sommes rentrés, et comme les lampes de la maison étaient éteintes, on a dû chercher la clé dans le noir.",
    "es": "Era tarde cuando volvimos a la casa, y como no había luz en el pasillo tuvimos que buscar la llave con las manos.",
    "it": "Era tardi quando siamo tornati a casa, e poiché la luce non era più accesa abbiamo dovuto cercare la chiave nel buio.",
    "pt": "Já era tarde quando chegamos em casa, e como não havia luz no corredor, nós tivemos que procurar a chave com as mãos.",
    "nl": "Het was laat toen we thuis kwamen, en omdat het licht niet meer aan was, moesten we de sleutel in het donker zoeken.",
    "pl": "Było już późno, kiedy wróciliśmy do domu, a że nie było światła na korytarzu, to musieliśmy szukać klucza po ciemku.",
    "ru": "Было уже поздно, когда мы вернулись домой, и так как свет в коридоре не горел, нам пришлось искать ключ на ощупь.",
    "zh": "我们回到家的时候已经很晚了，走廊里没有灯，只好摸黑找钥匙。",
    "ja": "家に帰ったのはもう遅い時間で、廊下の電気が消えていたので、暗い中で鍵を探さなければなりませんでした。",
    "ko": "집에 돌아왔을 때는 이미 늦은 시간이었고 복도에 불이 꺼져 있어서 어둠 속에서 열쇠를 찾아야 했습니다.",
    "th": "เรากลับถึงบ้านดึกมากแล้ว ไฟในทางเดินดับ จึงต้องคลำหากุญแจในความมืด",
}


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_told_apart(code):
    assert detect_language(TEXTS[code], min_words=5) == code


@pytest.mark.parametrize("code", TEXTS)
def test_an_independent_identifier_agrees(code):
    assert py3langid.classify(TEXTS[code])[0] == code == detect_language(TEXTS[code], min_words=5)


@pytest.mark.parametrize(
    "text", ["", "Paris", "1234 5678", "OK", "x = f(y)", "Lorem ipsum dolor sit amet consectetur"]
)
def test_it_abstains_on_short_texts_and_unknown_languages(text):
    assert detect_language(text) is None


def test_a_mixture_of_two_languages_is_left_open():
    assert detect_language(f"{TEXTS['es']} {TEXTS['pt']}", min_margin=0.8) is None


def test_more_function_words_may_be_asked_for():
    assert detect_language("The cat and the dog are in the house.", min_words=6) == "en"
    assert detect_language("The cat and the dog are in the house.", min_words=8) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [("english", "en"), ("German", "de"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("fr", "fr"), ("python", None), ("", None), (None, None)],
)  # fmt: skip
def test_names_that_data_sets_give_languages(name, code):
    assert language_code(name) == code


def mismatch(prompt, response, declared=None):
    text = ResponseText(prompt, prompt, response)
    return find_language_mismatch(text, declared, detect_language(text.prose))


@pytest.mark.parametrize(
    ("prompt", "response", "declared", "expected"),
    [
        ("How do I find a lost key?", TEXTS["de"], None, ("en", "de")),
        ("How do I find a lost key?", TEXTS["en"], None, None),
        ("Wie finde ich einen Schlüssel?", TEXTS["en"], "german", ("de", "en")),
        ("Lost key?", TEXTS["de"], "english", ("en", "de")),
        ("Lost key?", TEXTS["de"], None, None),  # the prompt's language is not known, the script is the same
        ("Потерян ключ", TEXTS["en"], None, ("cyrillic", "latin")),
        ("How do I find a lost key?", TEXTS["zh"], None, ("en", "zh")),
        ("Please write in German how to find a lost key.", TEXTS["de"], "english", None),
        ("Translate this.", TEXTS["fr"], "english", None),
        ("What was the French Revolution about?", TEXTS["de"], "english", ("en", "de")),
        ("Wie finde ich den Schlüssel?", TEXTS["de"], "english", None),  # the declared language is wrong
        ("How do I find a lost key?", "Nein.", None, None),
        ("How do I sort?", f"```\n{TEXTS['de']}\n```\nUse this.", None, None),  # code is no prose
    ],
)
def test_mismatch(prompt, response, declared, expected):
    assert mismatch(prompt, response, declared) == expected


def test_every_language_has_function_words_of_its_own():
    for code, listed in LANGUAGE_WORDS.items():
        others = {word for other, found in LANGUAGE_WORDS.items() if other != code for word in found.split()}
        assert len(set(listed.split()) - others) >= 12, code


def test_a_text_that_names_a_language_is_known():
    assert names_a_language("How do the Japanese write tea?") and not names_a_language(
        "How do I write a letter?"
    )
