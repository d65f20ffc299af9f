"""Find text that was decoded with the wrong encoding."""

from __future__ import annotations

import re

# UTF-8 bytes read as Windows-1252 or Latin-1: a lead byte and its continuation bytes, as these characters.
_CONTINUATION = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_SUSPECT = re.compile(
    rf"[\u00c2-\u00df][{_CONTINUATION}]|[\u00e0-\u00ef][{_CONTINUATION}]{{2}}|[\u00f0-\u00f4][{_CONTINUATION}]{{3}}"
)
# Characters that such bytes encode in real texts: letters, punctuation, Cyrillic, kana, Han, Hangul, emoji.
_PLAUSIBLE = re.compile(
    r"[\u00a0-\u017f\u0391-\u03c9\u0400-\u045f\u2010-\u2044\u20ac\u2122\u2190-\u21ff\u2713\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7af"
    r"\uff01-\uff5e\ufeff\U0001f300-\U0001faff]"
)
_REPLACED = re.compile(r"\ufffd|[\x00-\x08\x0b\x0e-\x1f\x7f]")
_ENTITY = re.compile(
    r"&(?:#\d{2,6}|#x[0-9a-fA-F]{2,5}|quot|apos|nbsp|amp|lt|gt|eacute|rsquo|ldquo|rdquo|mdash);"
)
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\bu00[0-9a-f]{2}\b")


def find_mojibake(prose: str, context: str) -> str | None:
    """Return the first piece that was decoded wrongly, or None.

    Finds UTF-8 read as Windows-1252 (it decodes back to a plausible character), replacement and control characters,
    and leftover character references or escapes. Pieces that the prompt contains, too, are left out.
    Source: the round trip of ftfy (Speer 2019), without its tables.
    """
    for pattern in (_REPLACED, _ENTITY, _ESCAPE):
        for match in pattern.finditer(prose):
            if match[0] not in context:
                return match[0]
    if prose.isascii():
        return None
    for match in _SUSPECT.finditer(prose):
        original = _decoded(match[0])
        if original and _PLAUSIBLE.fullmatch(original) and match[0] not in context:
            return match[0]
    return None


def _decoded(piece: str) -> str | None:
    """Return the character whose UTF-8 bytes, read as Windows-1252 or Latin-1, are the piece; None if there is none."""
    raw = bytearray()
    for char in piece:
        try:
            raw += char.encode("cp1252")
        except UnicodeEncodeError:
            if ord(char) > 255:
                return None
            raw.append(ord(char))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
