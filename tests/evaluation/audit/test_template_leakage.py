import pytest

from harken.evaluation.audit.template_leakage import find_template_leakage
from harken.evaluation.audit.words import ResponseText


def leakage(response, prompt="Why does it rain?"):
    return find_template_leakage(ResponseText(prompt, prompt, response))


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("It rains.<|im_end|>", "<|im_end|>"),
        ("It rains.</s>", "</s>"),
        ("<s>It rains.</s>", "<s>"),
        ("It rains. [/INST] And?", "[/INST]"),
        ("It rains.<end_of_turn>", "<end_of_turn>"),
        ("It rains.\nUser: And snow?\nAssistant: Also.", "User:"),
        ("It rains.\n\nHuman: And snow?", "Human:"),
        ("It rains.\n### Instruction:\nGo on.", "### Instruction:"),
        ("Assistant: It rains.", "Assistant:"),
        ("雨が降ります。\nユーザー：ありがとう", "ユーザー："),
        ("It rains.<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ],
)
def test_tokens_and_headers_are_found(response, found):
    assert leakage(response) == found


@pytest.mark.parametrize(
    ("response", "prompt"),
    [
        ("The old price is <s>12</s> 9 euros.", "Why does it rain?"),
        ("It marks the end: <|im_end|>.", "What is <|im_end|>?"),
        ("Use `</s>` as the end token.", "Why does it rain?"),
        ("```\nUser: hi\nAssistant: hello\n```\nThat is the format.", "Why does it rain?"),
        ("User: hi\nAssistant: hello", "Write a dialogue."),
        ("User: hi", "Why does it rain?"),  # a header of the user at the start continues nothing
        ("Note: it rains. The user: a person.", "Why does it rain?"),
        ("A List<String> holds text.", "Why does it rain?"),
    ],
)
def test_near_misses_are_none(response, prompt):
    assert leakage(response, prompt) is None
