"""Name the language of a text, and find responses in another language than their prompt's."""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re
from collections import Counter, defaultdict

from harken.evaluation.audit.function_words import LANGUAGE_NAMES, LANGUAGE_WORDS
from harken.evaluation.audit.scripts import count_letters, dominant_script
from harken.evaluation.audit.words import ResponseText

_OF_SCRIPT = {
    "han": "zh", "kana": "ja", "hangul": "ko", "thai": "th", "greek": "el", "hebrew": "he", "devanagari": "hi",
    "bengali": "bn", "tamil": "ta",
}  # fmt: skip
_CYRILLIC = ("ru", "uk")
_SCRIPT_OF = {code: script for script, code in _OF_SCRIPT.items()} | {
    "ru": "cyrillic",
    "uk": "cyrillic",
    "ar": "arabic",
}
PROMPT_WORDS = 2
"""Function words that are enough to name the language of a prompt, which is short."""
PROMPT_LETTERS = 10
PROMPT_MARGIN = 0.5
"""Share of its score by which a prompt's language must lead the next one."""
_CODES = {name: code for code, names in LANGUAGE_NAMES.items() for name in (code, *names.split())}
_WORD = re.compile(r"[^\W\d_]+")
_ADDRESS = re.compile(r"\S+[.@/]\S+")
MIN_LETTERS = 20
"""Letters below which a response's language is not detected; half as many for Chinese, Japanese and Korean."""


def _weights() -> dict[str, list[tuple[str, float]]]:
    """Weigh each function word by 1 ÷ the number of languages that have it."""
    languages = {code: set(text.replace("'", " ").split()) for code, text in LANGUAGE_WORDS.items()}
    shared = Counter(word for words in languages.values() for word in words)
    weights: dict[str, list[tuple[str, float]]] = {}
    for code, words in languages.items():
        for word in sorted(words):
            weights.setdefault(word, []).append((code, 1 / shared[word]))
    return weights


_WEIGHTS = _weights()

_NAMES = (
    "english|french|german|spanish|italian|portuguese|dutch|polish|turkish|vietnamese|chinese|mandarin|cantonese|japanese|korean|russian|"
    "ukrainian|arabic|hindi|thai|greek|hebrew|latin|swedish|danish|finnish|indonesian|czech|romanian|bengali|tamil|swahili"
)
_OTHER_NAMES = (
    r"\b(?:englisch\w*|französisch\w*|deutsch\w*|spanisch\w*|italienisch\w*|russisch\w*|chinesisch\w*|japanisch\w*|sprache\w*|übersetz\w*"
    r"|anglais\w*|français\w*|allemand\w*|espagnol\w*|italien\w*|chinois\w*|langue\w*|tradui\w*|traduction\w*"
    r"|inglés|francés|alemán|español|italiano|chino|japonés|idioma\w*|traduc\w*|traduz\w*|inglês|francês|alemão|português"
    r"|inglese|francese|tedesco|spagnolo|cinese|lingua|lingue|tradu\w*"
    r"|английск\w*|русск\w*|немецк\w*|французск\w*|испанск\w*|китайск\w*|язык\w*|перев[её]д\w*|перевод\w*)\b"
    r"|英语|英文|中文|汉语|日语|日文|法语|德语|西班牙语|俄语|韩语|翻译|语言|英語|日本語|中国語|仏語|フランス語|ドイツ語|スペイン語|言語|翻訳"
    r"|英訳|和訳|영어|한국어|일본어|중국어|번역|언어|ภาษา|แปล"
)
# A request for another language, or about its words, says nothing about the language of the response. "The French
# Revolution" is no such request.
_ASKS_FOR_A_LANGUAGE = re.compile(
    rf"\b(?:languages?|bilingual|multilingual|translat\w*|spell|pronounc\w*|subtitles?|lyrics|motto|proverbs?|idioms?)\b"
    rf"|\b(?:in|into|to|from|speak|speaking|learn|write|using|teach me|say)\s+(?:the\s+|plain\s+|simple\s+|formal\s+|old\s+)?(?:{_NAMES})\b"
    rf"|\b(?:{_NAMES})\s+(?:words?|phrases?|sentences?|texts?|translation|version|lessons?|vocabulary|grammar|poems?|songs?|names?|"
    rf"greetings?|alphabet|characters?|text|desserts?|dishes|titles?|expressions?)\b|{_OTHER_NAMES}",
    re.IGNORECASE,
)
_NAMES_A_LANGUAGE = re.compile(rf"\b(?:{_NAMES}|languages?|translat\w*)\b|{_OTHER_NAMES}", re.IGNORECASE)


def language_code(name: str | None) -> str | None:
    """Return the ISO 639-1 code of a data set's language name; None for any other, such as a programming language."""
    key = (name or "").strip().lower()
    return _CODES.get(key) or _CODES.get(re.split(r"[-_]", key)[0])


def detect_language(
    text: str, min_words: int = 8, min_margin: float = 0.3, min_letters: int = 20
) -> str | None:
    """Return the ISO 639-1 code of a text's language; None when it is short or two languages are close.

    A script that one language has decides alone. Between languages in Latin or Cyrillic letters, each function word
    counts 1 ÷ the number of languages that have it; `min_words` of the best language must occur, and its score lead the
    next one's by `min_margin` of itself. Danish covers Norwegian, which shares its function words.
    """
    counts = count_letters(text)
    script = dominant_script(counts)
    if script is None:
        return None
    letters = counts[script]
    if script in _OF_SCRIPT:
        has_enough_letters = letters >= (
            min_letters // 2 if script in ("han", "kana", "hangul") else min_letters
        )
        pure = letters + (counts.get("han", 0) if script == "kana" else 0) >= 0.5 * sum(counts.values())
        return _OF_SCRIPT[script] if has_enough_letters and pure else None
    if letters < max(min_letters, 0.7 * sum(counts.values())) or script not in ("latin", "cyrillic"):
        return None
    scores: defaultdict[str, float] = defaultdict(float)
    word_counts: Counter[str] = Counter()
    for word, count in Counter(_WORD.findall(text.lower())).items():
        for code, weight in _WEIGHTS.get(word, ()):
            if (code in _CYRILLIC) == (script == "cyrillic"):
                scores[code] += weight * count
                word_counts[code] += count
    ranked = [*sorted(scores.items(), key=lambda item: -item[1])[:2], ("", 0.0), ("", 0.0)]
    (best, score), (_, next_score) = ranked[0], ranked[1]
    return best if word_counts[best] >= min_words and score - next_score >= min_margin * score else None


def names_a_language(text: str) -> bool:
    """Return whether a text names a language or asks for a translation."""
    return _NAMES_A_LANGUAGE.search(text) is not None


def find_language_mismatch(
    text: ResponseText, declared: str | None, detected: str | None
) -> tuple[str, str] | None:
    """Return (expected, detected) when the response's prose is in another language than the prompt; None otherwise.

    `detected` is the language of the prose by `detect_language`, or None where it abstained.
    Expected is the declared language or the prompt's, whichever the response has. Where either language is not known,
    their scripts are compared. Abstains when the prompt asks for a language or about one, and when the response is
    short or close to two languages of one script.
    """
    mismatch = _compare(text, declared, detected)
    return None if mismatch is None or _ASKS_FOR_A_LANGUAGE.search(text.context) else mismatch


def _compare(text: ResponseText, declared: str | None, detected: str | None) -> tuple[str, str] | None:
    script = _clear_script(text.prose, MIN_LETTERS)
    of_prompt = detect_language(_ADDRESS.sub(" ", text.prompt), PROMPT_WORDS, PROMPT_MARGIN, PROMPT_LETTERS)
    expected = [code for code in (language_code(declared), of_prompt) if code]
    if script is None or detected in expected:
        return None
    if detected and expected:
        return expected[0], detected
    scripts = [_SCRIPT_OF.get(code, "latin") for code in expected]
    scripts += [s for s in (_clear_script(text.prompt, PROMPT_LETTERS),) if s]
    return (scripts[0], script) if scripts and script not in scripts else None


def _clear_script(text: str, min_letters: int) -> str | None:
    """Return the script of at least 70 % of a text's letters, where it has at least `min_letters` of them (half for CJK)."""
    counts = count_letters(text)
    script = dominant_script(counts)
    if script is None:
        return None
    letters = counts[script] + (counts.get("han", 0) if script == "kana" else 0)
    has_enough_letters = letters >= (min_letters // 2 if script in ("han", "kana", "hangul") else min_letters)
    return script if has_enough_letters and letters >= 0.7 * sum(counts.values()) else None
