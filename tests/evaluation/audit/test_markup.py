# ruff: noqa: E501  texts are one a line

import pytest

from harken.evaluation.audit.markup import find_markup_damage
from harken.evaluation.audit.words import ResponseText, split_fences


def damage(text):
    return find_markup_damage(ResponseText("", "", text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<b>bold", "<b> is not closed"),
        ("bold</b>", "</b> closes nothing"),
        ("<b><i>x</b></i>", "</b> closes another element"),
        ("| a | b |\n|---|---|\n| 1 |", "table row of 1 cells in 2 columns"),
        ("| a | b | c |\n|---|---|\n| 1 | 2 |", "table header of 3 cells over 2 columns"),
        ("| a | b |\n| 1 | 2 |\n| 3 | 4 |", "table of 3 rows without a delimiter row"),
        ("**Note: this is open.", "**Note: this is open. is not closed"),
        ("See [the page](http://a.b/c for more.", "[the page](http://a.b/c is not closed"),
        ("$$ x = 1", "$$ is not closed"),
        ("\\[ x = 1", "\\[ is not closed"),
        ("\\begin{align} x", "\\begin and \\end do not match"),
        ("Text <div class=\"a", "<div class=\"a is cut off"),
    ],
)  # fmt: skip
def test_damage_is_named(text, found):
    assert damage(text) == found


@pytest.mark.parametrize(
    "text",
    ["<b>bold</b> and <br> and <li>item", "**a** and *b* and ***c***", "2**10 and **kwargs", "x < y and y > 3", "a || b",
     "| a | b |\n|:--|--:|\n| 1 | 2 |\n\nText.", "`<b>` and `**`", "```\n<b>**[\n```", "[a](b) and [c]", "$$x$$ \\(y\\)", "<p>one<p>two",
     "a | b\n---|---\n1 | 2", "\\begin{a}x\\end{a}", "| a \\| b | c |\n|---|---|\n| 1 | 2 |"],
)  # fmt: skip
def test_sound_markup_has_none(text):
    assert damage(text) is None


@pytest.mark.parametrize(
    ("text", "outside", "unclosed"),
    [
        ("a\n```py\nx\n```\nb", "a\n\nb", None),
        ("a\n```py\nx", "a\n", "```py"),
        ("````\n```\nx\n````\nb", "\nb", None),
        ("```\nx\n~~~\ny\n```", "", None),
        ("~~~\nx\n~~~", "", None),
        ("```\nx\n``` no end", "", "```"),
        ("a ``` b", "a ``` b", None),
        ("```a`b```", "```a`b```", None),
        ("", "", None),
    ],
)
def test_fences_follow_commonmark(text, outside, unclosed):
    found = split_fences(text)
    assert (found.outside, found.unclosed) == (outside, unclosed)
