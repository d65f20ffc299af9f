"""Find responses that break off inside a sentence."""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re

from harken.evaluation.audit.words import ResponseText, words

TAIL = 200
"""Characters at the end that are checked."""
_CLOSERS = "\"'”’»›)]}）】」』》*_~`>“"
_TERMINAL = "….!?。！？।؟!?．｡؛;～~♪😀🙂😊👍❤️✨🎉"
_ITEM = re.compile(r"^\s*(?:[-*+•–]|\(?\d{1,3}[.)、]|\(?[a-zA-Z][.)])\s+(?=\S)")
_BARE_ITEM = re.compile(r"^\s*(?:[-*+•–]|\d{1,3}[.)])\s*$")
_BARE_MARK = re.compile(r"^\s*(?:[-*_]\s*){3,}$|^\s*#{1,6}\s|^\s*\|.*\|\s*$|^\s*(?:>\s*)?[-=]{3,}\s*$")
# Sentences do not end with these words: articles, prepositions, conjunctions, auxiliaries, possessives.
_NOT_LAST = {
    "en": "the a an and or but of to with for from by at as into because which that than if when while although our your "
    "their my its his and/or such is are was were has have will would can could should may might be been being very "
    "including between among through during without within whose where these those",
    "de": "der die das den dem des ein eine einen einem einer und oder aber mit für von zu im am beim zum zur weil dass wenn als "
    "ist sind wird werden kann können sehr ihre seine unsere durch ohne zwischen",
    "fr": "le la les un une des du de et ou mais avec pour dans par sur que qui dont car est sont sera peut très votre notre "
    "leur leurs ses aux au en sans entre",
    "es": "el la los las un una unos unas de del y o pero con para por en que porque es son será puede muy su sus nuestro "
    "como sin entre al",
    "it": "il lo la gli le un uno una di del della dei delle e o ma con per in che perché è sono sarà può molto suo sua "
    "come senza tra al nel nella",
    "pt": "o os as um uma de do da dos das e ou mas com para por em que porque é são será pode muito seu sua como sem entre "
    "ao no na",
    "ru": "и в на с к по из за от для но или что чтобы который которая которые как при очень между без это",
}  # fmt: skip
_SHARED_LETTERS = {"a", "o", "e", "i", "y", "и", "в", "с", "к"}
_DANGLING = {code: frozenset(listed.split()) for code, listed in _NOT_LAST.items()}
_CJK_DANGLING = re.compile(
    r"(?:的|和|与|以及|或者|因为|所以|但是|并且|例如|包括|在于|对于|を|が|は|に|と|の|で|や|から|ため|について|および|そして|また)$"
)
# "… of rice. (World Bank)", an address or an emoticon may follow the last terminal mark.
_AFTERTHOUGHT = re.compile(r"(?<=[.!?。！？])\s*\([^()]*\)$")
_CLOSING = re.compile(r"[:;]-?[)D(P]$|(?:https?://|www\.)\S+$|\S+@\S+$|\w\.(?:com|org|net|edu|gov|io)\W*$")
_SENTENCE = re.compile(r"[.!?。！？…](?=[\s\"')»”*_\]]|$|[^\x00-\x7f])")


def find_broken_off(text: ResponseText, language: str | None, truncated: bool) -> str | None:
    """Return the end of a response that breaks off inside a sentence, or None.

    Without a terminal mark at the end, evidence is needed: a comma, colon or open bracket; a last word that no sentence
    ends with (`language`: its ISO code, or None for English); an empty list item; a last line of prose after at
    least three sentences that all have their mark; or `truncated`, which says that the token limit was reached.
    Responses that end in code, a table or a heading are left out.
    """
    prose = text.fences.outside if text.fences.unclosed is None else ""
    if not prose.strip() or text.response.rstrip().endswith(("```", "~~~")):
        return None
    last = prose.rstrip().splitlines()[-1]
    if _BARE_ITEM.match(last):
        return last.strip()
    if _BARE_MARK.match(last):
        return None
    item = _ITEM.match(last)
    body = last[item.end() :] if item else last
    end = _AFTERTHOUGHT.sub("", body[-TAIL:].rstrip()).rstrip(_CLOSERS).rstrip()
    if (
        not end
        or _CLOSING.search(end)
        or _CLOSING.search(body[-TAIL:].rstrip())
        or end[-1] in _TERMINAL
        or not _is_letter_or_mark(end[-1])
    ):
        return None
    evidence = "…" + last.strip()[-60:]
    if end[-1] in ",，、(（[:：—" and not (end[-1] in "—" and body.lstrip().startswith("—")):
        return None if _is_salutation(end, prose) else evidence
    if _opens_bracket(body):
        return evidence
    last_words = words(end)
    if not last_words:
        return None
    if _dangles(end, last_words, language):
        return evidence
    sentences = len(_SENTENCE.findall(prose))
    in_prose = not item and len(last_words) >= 5 and not _looks_like_verse(prose)
    if truncated and (in_prose or len(last_words) >= 3):
        return evidence
    paragraphs_end = _paragraphs_that_end(prose)
    return evidence if in_prose and sentences >= 3 and paragraphs_end else None


def _is_letter_or_mark(char: str) -> bool:
    return char.isalpha() or char.isdigit() or char in ",，、(（[:：—-%"


def _dangles(end: str, last_words: list[str], language: str | None) -> bool:
    if _CJK_DANGLING.search(end) and len(last_words) >= 6:
        return True
    if len(last_words) < 4 or not end[-1].isalpha():
        return False
    last = last_words[-1]
    if last in _SHARED_LETTERS and language is None:
        return False
    dangling_words = _DANGLING.get(language or "en", frozenset())
    # "… which one it is" and "what these are" end sentences; only their marks are missing.
    verb_at_end = last in {
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "will",
        "would",
        "can",
        "could",
        "should",
        "that",
        "to",
        "in",
    }
    return last in dangling_words and not (
        verb_at_end and end[-1].isalpha() and language in (None, "en") and _is_short_clause(last_words)
    )


def _is_short_clause(last_words: list[str]) -> bool:
    return bool(
        {"what", "who", "where", "how", "which", "it", "they", "you", "we", "he", "she", "i"}
        & set(last_words[-4:-1])
    )


def _opens_bracket(body: str) -> bool:
    return any(
        body.count(left) > body.count(right) for left, right in ("()", "[]", "（）", "“”", "「」", "«»")
    )


def _is_salutation(end: str, prose: str) -> bool:
    """Return whether the last line closes a letter ("Best regards,")."""
    return end[-1] in ",，" and len(end) <= 30 and "\n" in prose.strip()


def _looks_like_verse(prose: str) -> bool:
    """Return whether most lines are short and end without a mark: poems, lists of names, addresses."""
    lines = [line.strip() for line in prose.splitlines() if line.strip()]
    unmarked = sum(line[-1] not in _TERMINAL + ":：" for line in lines[:-1])
    return len(lines) >= 3 and unmarked >= 0.4 * (len(lines) - 1)


def _paragraphs_that_end(prose: str) -> bool:
    """Return whether every sentence before the last line's end is closed: the lines before it end in a mark."""
    lines = [line.strip().rstrip(_CLOSERS) for line in prose.splitlines() if line.strip()][:-1]
    text_lines = [line for line in lines if line and not _ITEM.match(line) and not _BARE_MARK.match(line)]
    return all(line[-1] in _TERMINAL + ":：" for line in text_lines)
