"""Find damaged Markdown and HTML, and code blocks that are not closed."""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re

from harken.evaluation.audit.words import ResponseText

# HTML elements whose end tag may not be omitted (HTML standard, section 13.1.2.4).
_TAG = re.compile(
    r"<(/?)(b|i|u|em|strong|div|span|ul|ol|dl|table|a|h[1-6]|code|pre|sup|sub|blockquote|section|details|summary|kbd|mark|small|del)"
    r"(?:\s[^<>]*)?(/?)>",
    re.IGNORECASE,
)
_OPEN_TAG_AT_END = re.compile(
    r"<(?:div|span|a|p|table|ul|ol|li|h[1-6]|strong|em|img|br|td|tr)\b[^<>]*$", re.IGNORECASE
)
_DELIMITER_ROW = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)+\|?\s*$")
_ROW = re.compile(r"^\s*\|.+\|\s*$")
_LINK = re.compile(r"!?\[[^\]\n]{1,200}\]\((?:https?://|/|#|\w)[^)\s]*(?=\s|$)(?![^\n]*\))")
_MATHS = (("\\[", "\\]"), ("\\(", "\\)"))
_ESCAPED = re.compile(r"\\[*_`|\\]")


def find_markup_damage(text: ResponseText) -> str | None:
    """Describe the damage in the response's Markdown, HTML or LaTeX outside code; None without any.

    Finds tags that are not closed, tables whose rows have different numbers of cells, a link without its closing bracket, strong
    emphasis that is not closed, and displayed formulas that are not closed.
    """
    source = text.outside_code
    if text.fences.unclosed is not None:
        source = text.fences.outside
    return (
        _open_tags(source)
        or _broken_table(source)
        or _open_link(source)
        or _open_emphasis(source)
        or _open_maths(source)
    )


def _open_tags(source: str) -> str | None:
    if "<" not in source:
        return None
    stack: list[str] = []
    for closing, name, alone in _TAG.findall(source):
        tag = name.lower()
        if alone:
            continue
        if not closing:
            stack.append(tag)
        elif tag in stack:
            while stack and stack.pop() != tag:
                return f"</{tag}> closes another element"
        else:
            return f"</{tag}> closes nothing"
    if stack:
        return f"<{stack[-1]}> is not closed"
    match = _OPEN_TAG_AT_END.search(source.rstrip())
    return f"{match[0][:40]} is cut off" if match else None


def _broken_table(source: str) -> str | None:
    """Compare the number of cells of every row of a pipe table with its header. Source: GitHub Flavored Markdown 4.10."""
    if "|" not in source:
        return None
    lines = source.splitlines()
    for index, line in enumerate(lines):
        if not _DELIMITER_ROW.match(line) or "|" not in line:
            continue
        cells = _cells(line)
        if index == 0 or _cells(lines[index - 1]) != cells:
            return f"table header of {_cells(lines[index - 1]) if index else 0} cells over {cells} columns"
        for row in lines[index + 1 :]:
            if "|" not in row:
                break
            if _cells(row) != cells:
                return f"table row of {_cells(row)} cells in {cells} columns"
    runs = "".join("r" if _ROW.match(line) else "d" if _DELIMITER_ROW.match(line) else " " for line in lines)
    for run in re.findall(r"[rd]{3,}", runs):
        # The delimiter row looks like a row too; without any, the pipes stand in the text.
        if not any(_DELIMITER_ROW.match(line) for line in lines):
            return f"table of {len(run)} rows without a delimiter row"
    return None


def _cells(line: str) -> int:
    row = _ESCAPED.sub("", line).strip()
    return row.removeprefix("|").removesuffix("|").count("|") + 1


def _open_link(source: str) -> str | None:
    match = _LINK.search(source) if "](" in source else None
    return f"{match[0][:60]} is not closed" if match else None


def _open_emphasis(source: str) -> str | None:
    """Count the `**` of each paragraph that may open or close strong emphasis. Powers (2**3, **kwargs) are left out."""
    if "**" not in source:
        return None
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+•]|\d+[.)])\s)", _ESCAPED.sub("", source)):
        marks = re.findall(
            r"(?<![\w*])\*\*(?=[^\s*])|(?<=[^\s*])\*\*(?![\w*])|(?<=\w)\*\*(?=[^\W\d])", paragraph
        )
        if (
            len(marks) % 2
            and "**" in paragraph
            and not re.search(r"\*\*(?:kwargs|args|\w+\))|\w\s?\*\*\s?\d", paragraph)
        ):
            start = paragraph.rfind("**")
            return f"{paragraph[start : start + 40].strip()} is not closed"
    return None


def _open_maths(source: str) -> str | None:
    if source.count("$$") % 2:
        return "$$ is not closed"
    for left, right in _MATHS:
        if source.count(left) != source.count(right):
            return f"{left} is not closed"
    opened, closed = re.findall(r"\\begin\{(\w+\*?)\}", source), re.findall(r"\\end\{(\w+\*?)\}", source)
    return None if sorted(opened) == sorted(closed) else "\\begin and \\end do not match"
