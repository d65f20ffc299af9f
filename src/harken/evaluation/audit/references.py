"""List the citations, identifiers and links of a response that nobody has verified.

Nothing is looked up: every item is `unverified`, with a note if its form is impossible.
Items that the prompt gives, code, and reserved example names (RFC 2606) are left out.
"""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re
from dataclasses import dataclass

from harken.evaluation.audit.function_words import ALL_FUNCTION_WORDS
from harken.evaluation.audit.words import ResponseText

_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"'<>，。）]+")
_ARXIV = re.compile(
    r"\barxiv(?:\.org/(?:abs|pdf)/|:\s?|\s)(\d{4}\.\d{4,6}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?",
    re.IGNORECASE,
)
_ISBN = re.compile(r"\bISBN(?:-1[03])?:?\s?((?:97[89][- ]?)?\d[\d -]{7,14}[\dXx])\b", re.IGNORECASE)
_PMID = re.compile(r"\bPM(?:ID|CID):?\s?(?:PMC)?\d{4,9}\b", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'`，。）」】]+", re.IGNORECASE)
_NAME = r"[A-ZÀ-ÖØ-ÞА-Я][\w’'-]+"
_YEAR = r"(?:1[89]|20)\d\d[a-z]?"
# Every reference contains one of these.
_YEAR_OR_NUMBER = re.compile(r"\d(?:\d{3}|[\d -]{8}|\(|:\d| \()")
_SEVERAL_AUTHORS = re.compile(
    rf"\b{_NAME}(?:,? {_NAME})?,? (?:et al\.?|and colleagues|und Kollegen|et collègues|y colaboradores|e colleghi|и др\.)"
    rf"(?:'s?)?[,\s]*\(?{_YEAR}\)?"
    rf"|\({_NAME}(?:, {_NAME})*,? (?:&|and|und|et|y|e|и) {_NAME},? {_YEAR}(?:[,:;] ?[^()]{{0,60}})?\)"
    rf"|\b{_NAME} (?:&|and|und|et|y|e|и) {_NAME} \({_YEAR}\)"
)
_ONE_AUTHOR = re.compile(
    rf"\(({_NAME}), (?:p\. \d+, )?{_YEAR}(?:[,:] ?(?:pp?\. ?)?\d[\d–-]*)?\)|\b({_NAME}) \({_YEAR}\)"
)
_CHINESE = re.compile(r"（[\u4e00-\u9fff]{2,4}(?:等|和[\u4e00-\u9fff]{2,4})?[，,]\s?(?:19|20)\d\d）")
_JOURNAL = re.compile(
    r"\b(?:Journal|Proceedings|Annals|Transactions|Review|Archives|Zeitschrift|Revue|Revista|Rivista) (?:of|on|für|de|di)\b[^\n]{0,80}?"
    r"(?:,? (?:vol(?:ume)?\.? ?)?\d{1,3} ?\(\d{1,3}\)|\b\d{1,3}:\d{1,5})"
)
# A year after these is a date, a place or an event: (May, 2019), Beijing (2008).
_NO_AUTHOR = frozenset(
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
        "Spring",
        "Summer",
        "Autumn",
        "Fall",
        "Winter",
        "Januar",
        "Februar",
        "März",
        "Mai",
        "Juni",
        "Juli",
        "Oktober",
        "Dezember",
        "In",
        "Since",
        "Until",
        "From",
        "Before",
        "After",
        "About",
        "Around",
        "Circa",
        "Released",
        "Founded",
        "Paris",
        "London",
        "Berlin",
        "Madrid",
        "Rome",
        "Tokyo",
        "Beijing",
        "Moscow",
        "Vienna",
        "Oxford",
        "Cambridge",
        "York",
        "Chicago",
        "Boston",
        "Olympics",
        "Germany",
        "France",
    ]
)
_RESEARCH = re.compile(
    r"\b(?:according to|stud(?:y|ies)|found|finds|showed|shows|shown|reported|reports|argues?|research\w*|demonstrated|proposed|"
    r"paper|survey|meta-analysis|trial|evidence|literature|laut|studie\w*|zeigt\w*|selon|étude\w*|según|estudio\w*|secondo|studio|estudo\w*|"
    r"исследовани\w*|concluded|observed|theor\w*|cited|source)\b",
    re.IGNORECASE,
)
_RESERVED = re.compile(
    r"^(?:https?://)?(?:www\.)?(?:[\w.-]+\.)?(?:example\.(?:com|org|net|edu)|localhost|127\.0\.0\.1|0\.0\.0\.0|[\w-]+\.(?:example|test|invalid|local)|"
    r"your-?(?:domain|site|server|app)[\w.-]*|yourdomain[\w.-]*|domain\.com)",
    re.IGNORECASE,
)
_LINK_END = ".,;:!?)]}*_"
_HOST = re.compile(r"^(?:https?://)?([^/:?#\s]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UnverifiedReference:
    """Describe a citation, identifier or link: `kind`, its text, and why its form is impossible, or None."""

    kind: str
    text: str
    impossible: str | None = None


def find_references(text: ResponseText) -> list[UnverifiedReference]:
    """List the unverified references of a response, in the order of their kinds."""
    prose = text.outside_code
    if not (_YEAR_OR_NUMBER.search(prose) or "http" in prose or "www." in prose.lower()):
        return []
    references = [
        *(UnverifiedReference("DOI", m[0].rstrip(".,;)"), None) for m in _DOI.finditer(prose)),
        *(UnverifiedReference("arXiv", m[0], arxiv_problem(m[1])) for m in _ARXIV.finditer(prose)),
        *(UnverifiedReference("ISBN", m[0], isbn_problem(m[1])) for m in _ISBN.finditer(prose)),
        *(UnverifiedReference("PubMed", m[0]) for m in _PMID.finditer(prose)),
        *(
            UnverifiedReference("link", m[0].rstrip(_LINK_END), _url_problem(m[0].rstrip(_LINK_END)))
            for m in _URL.finditer(prose)
            if not _RESERVED.match(m[0])
        ),
        *(UnverifiedReference("citation", m[0]) for m in _citations(prose)),
    ]
    return [reference for reference in references if reference.text not in text.context]


def isbn_problem(number: str) -> str | None:
    """Return why an ISBN is impossible, or None. Source: ISO 2108, check digits of ISBN-10 and ISBN-13."""
    digits = re.sub(r"[ -]", "", number).upper()
    if len(digits) == 13 and digits.isdigit():
        total = sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(digits))
        return None if total % 10 == 0 else "wrong check digit"
    if len(digits) == 10 and digits[:9].isdigit():
        total = sum((10 - i) * (10 if digit == "X" else int(digit)) for i, digit in enumerate(digits))
        return None if total % 11 == 0 else "wrong check digit"
    return "neither 10 nor 13 digits"


def arxiv_problem(number: str) -> str | None:
    """Return why an arXiv number is impossible, or None. Source: arXiv identifier scheme (YYMM.number since 2007-04)."""
    old_style = re.fullmatch(r"[a-z.-]+/(\d\d)(\d\d)\d{3}", number, re.IGNORECASE)
    new_style = re.fullmatch(r"(\d\d)(\d\d)\.(\d{4,6})", number)
    match = old_style or new_style
    if match is None:
        return "no arXiv number"
    year, month = int(match[1]), int(match[2])
    if not 1 <= month <= 12:
        return f"month {month}"
    if new_style and (year, month) < (7, 4):
        return "before April 2007"
    # Four digits until the end of 2014, five since then.
    return None if old_style or len(new_style[3]) == (4 if year < 15 else 5) else "wrong number of digits"  # type: ignore[index]


def _url_problem(url: str) -> str | None:
    match = _HOST.match(url)
    host = match[1] if match else ""
    name = host.rsplit(".", 1)[-1]
    is_address = re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", host)
    return (
        None
        if is_address or (re.fullmatch(r"[A-Za-z]{2,24}|xn--[\w-]+", name) and "." in host)
        else "no host name"
    )


def _citations(prose: str) -> list[re.Match[str]]:
    """Find citations. One author and a year count when the text speaks of research or cites several."""
    several_authors = [
        *_SEVERAL_AUTHORS.finditer(prose),
        *_CHINESE.finditer(prose),
        *_JOURNAL.finditer(prose),
    ]
    single_author = [m for m in _ONE_AUTHOR.finditer(prose) if (m[1] or m[2]) not in _NO_AUTHOR]
    single_author = [m for m in single_author if not (m[2] and _ends_a_title(prose[: m.start()]))]
    in_research = [
        m
        for m in single_author
        if several_authors
        or (len(single_author) > 1 and _RESEARCH.search(prose))
        or _RESEARCH.search(_around(prose, m))
    ]
    return [*several_authors, *in_research]


def _ends_a_title(preceding: str) -> bool:
    """Return whether a capitalised word stands before the name: "Anna Karenina (1877)" is a book, not an author."""
    word = re.search(r"([\w’']+) $", preceding)
    return word is not None and word[1][0].isupper() and word[1].lower() not in ALL_FUNCTION_WORDS


def _around(prose: str, match: re.Match[str]) -> str:
    return prose[max(match.start() - 150, 0) : match.end() + 100]
