"""Count the letters of each script, and find letters of another script in a text."""

from __future__ import annotations

import re
from collections.abc import Set

SCRIPT_LETTERS = {
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u0373\u0376-\u03ff\u1f00-\u1fff",
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7af",
    "arabic": "\u0620-\u064a\u066e-\u06d3\u06fa-\u06fc\u0750-\u077f",
    "hebrew": "\u05d0-\u05ea",
    "devanagari": "\u0904-\u0939\u0958-\u0961",
    "bengali": "\u0985-\u09b9",
    "tamil": "\u0b85-\u0bb9",
    "thai": "\u0e01-\u0e2e\u0e40-\u0e46",
}
"""Letters of each script, as a regular expression's character class. Source: Unicode 15 blocks."""

_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in SCRIPT_LETTERS.items()}
_ASCII = re.compile(r"[\x00-\x7f]+")
_NO_ASCII_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_LATIN_AND_CYRILLIC = re.compile(
    rf"\b(?=\w*[{SCRIPT_LETTERS['latin']}])(?=\w*[{SCRIPT_LETTERS['cyrillic']}])[{SCRIPT_LETTERS['latin']}{SCRIPT_LETTERS['cyrillic']}]{{3,}}\b"
)
# Greek letters that look like Latin ones. Other Greek letters occur in formulas: Δx, λn, μm.
_LATIN_AND_GREEK = re.compile(
    r"\b(?=\w*[A-Za-z]{2})(?=\w*[ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορτυικ])[A-Za-zΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορτυικ]{4,}\b"
)
_QUOTED = re.compile(
    r"\([^()\n]{0,80}\)|\[[^\[\]\n]{0,80}\]|（[^（）\n]{0,80}）|\"[^\"\n]{0,80}\"|“[^”\n]{0,80}”|„[^“”\n]{0,80}[“”]"
    r"|«[^»\n]{0,80}»|「[^」\n]{0,80}」|『[^』\n]{0,80}』|《[^》\n]{0,80}》|‘[^’\n]{0,80}’|(?<!\w)'[^'\n]{0,80}'"
    r"|\*[^*\n]{1,80}\*|_[^_\n]{1,80}_"
)
# Chinese, Japanese and Korean texts contain Latin words; each may contain Han characters.
_AT_HOME = {
    "han": {"han", "latin"},
    "kana": {"kana", "han", "latin"},
    "hangul": {"hangul", "han", "latin"},
}


def count_letters(text: str) -> dict[str, int]:
    """Count the letters of each script that occurs in the text, most frequent first."""
    counts = {"latin": len(text.encode("ascii", "ignore").translate(None, _NO_ASCII_LETTERS))}
    if not text.isascii():
        not_ascii = _ASCII.sub("", text)
        counts = {
            name: counts.get(name, 0) + len(letters.findall(not_ascii)) for name, letters in _LETTERS.items()
        }
    return dict(sorted(((name, n) for name, n in counts.items() if n), key=lambda item: -item[1]))


def dominant_script(counts: dict[str, int]) -> str | None:
    """Return the script of most letters; kana before Han, because Japanese has both. None without letters."""
    if counts.get("kana", 0) > 0.1 * (counts.get("kana", 0) + counts.get("han", 0)):
        counts = counts | {"kana": counts["kana"] + counts.get("han", 0)}
    return max(counts, key=lambda name: counts[name], default=None)


def find_homoglyphs(text: str) -> list[str]:
    """List the words that mix Latin letters with Cyrillic ones, or with Greek ones that look Latin.

    Source: Unicode Technical Standard 39, section 5.1 (mixed-script detection).
    """
    if text.isascii():
        return []
    return [
        match[0] for pattern in (_LATIN_AND_CYRILLIC, _LATIN_AND_GREEK) for match in pattern.finditer(text)
    ]


def find_stray_letters(prose: str, context_scripts: Set[str], script: str | None) -> list[str]:
    """List the runs of letters that are neither of the text's `script` nor of a script in the prompt.

    Quoted, bracketed and emphasised text is left out, because explanations mark foreign words this way. Latin and Greek
    letters are never stray: names, units and formulas have them.
    """
    if prose.isascii() or script is None:
        return []
    allowed = {"latin", "greek", script} | _AT_HOME.get(script, set()) | set(context_scripts)
    foreign = "".join(letters for name, letters in SCRIPT_LETTERS.items() if name not in allowed)
    return re.findall(f"[{foreign}]+", _QUOTED.sub(" ", prose)) if foreign else []
