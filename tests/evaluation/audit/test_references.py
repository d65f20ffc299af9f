# ruff: noqa: E501  texts are one a line

import pytest

from harken.evaluation.audit.references import (
    UnverifiedReference,
    arxiv_problem,
    find_references,
    isbn_problem,
)
from harken.evaluation.audit.words import ResponseText


def references(response, prompt="Why does it rain?"):
    return find_references(ResponseText(prompt, prompt, response))


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("See 10.1038/s41586-020-2649-2.", "DOI", "10.1038/s41586-020-2649-2"),
        ("It is arXiv:2103.14567.", "arXiv", "arXiv:2103.14567"),
        ("Read ISBN 978-0-306-40615-7.", "ISBN", "ISBN 978-0-306-40615-7"),
        ("See PMID: 31452104.", "PubMed", "PMID: 31452104"),
        ("See https://rain.org/why?a=1.", "link", "https://rain.org/why?a=1"),
        ("Shown before (Smith & Jones, 2009).", "citation", "(Smith & Jones, 2009)"),
        ("Tanaka et al. (1999) agree.", "citation", "Tanaka et al. (1999)"),
        ("Research shows it (Okafor, 2018).", "citation", "(Okafor, 2018)"),
        ("As Lindgren (2011) showed, it reverses.", "citation", "Lindgren (2011)"),
    ],
)
def test_references_are_listed(text, kind, found):
    assert references(text) == [UnverifiedReference(kind, found)]


@pytest.mark.parametrize(
    "text",
    ["See https://www.example.com/a and http://localhost:8080.", "It moved (May, 2009).", "In Paris (1998) it rained.",
     "`https://rain.org`", "```\ncurl https://rain.org\n```", "Anna Karenina (1877) is a novel; studies praise it.",
     "Chapter 10.1 of 2014 has 1234567890 words.", ""],
)  # fmt: skip
def test_near_misses_are_none(text):
    assert references(text) == []


def test_what_the_prompt_gives_is_not_unverified():
    assert references("Yes, https://rain.org/why says so.", "Does https://rain.org/why say so?") == []


@pytest.mark.parametrize(
    ("number", "problem"),
    [("978-0-306-40615-7", None), ("978-0-306-40615-8", "wrong check digit"), ("0-306-40615-2", None), ("0-8044-2957-X", None),
     ("0-306-40615-3", "wrong check digit"), ("12345", "neither 10 nor 13 digits")],
)  # fmt: skip
def test_check_digits_of_isbn(number, problem):
    """The golden numbers are those of ISO 2108's own examples."""
    assert isbn_problem(number) == problem


@pytest.mark.parametrize(
    ("number", "problem"),
    [("2103.14567", None), ("1412.1234", None), ("0704.0001", None), ("2113.01234", "month 13"), ("0703.0001", "before April 2007"),
     ("1501.1234", "wrong number of digits"), ("hep-th/9901001", None), ("hep-th/9913001", "month 13")],
)  # fmt: skip
def test_numbers_of_arxiv(number, problem):
    assert arxiv_problem(number) == problem


def test_an_impossible_form_is_said():
    assert references("See arXiv:2113.01234 here.")[0].impossible == "month 13"
    assert references("See http://nowhere for more.")[0].impossible == "no host name"
