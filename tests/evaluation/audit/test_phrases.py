# ruff: noqa: E501  texts are one a line

import pytest

from harken.evaluation.audit.phrases import find_boilerplate, find_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot provide instructions for this.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Je ne peux pas vous aider avec cela.",
        "Lo siento, no puedo ayudarte con eso.",
        "Mi dispiace, non posso aiutarti.",
        "Não posso ajudar com isso.",
        "抱歉，我无法提供帮助。",
        "申し訳ありませんが、お答えできません。",
        "К сожалению, я не могу помочь.",
        "죄송하지만 도와드릴 수 없습니다.",
    ],
)
def test_a_refusal_is_found_in_each_language(text):
    assert find_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can't recommend it enough!",
        "I'm sorry to hear that. Try to restart it.",
        "I can't give you an exact price, but about 500 is common.",
        "You cannot provide both keys at once.",
        "Das kann nicht stimmen.",
        "No puede haber heladas.",
        "无法连接时，请重启路由器。",
        "",
    ],
)
def test_near_misses_are_no_refusals(text):
    assert find_refusal(text) is None


def test_a_refusal_after_the_opening_does_not_count():
    late = "Here is a long answer. " * 12 + "I'm sorry, but I can't help with that."
    assert find_refusal(late) is None and find_refusal(late, opening=10_000)


@pytest.mark.parametrize(
    "text",
    ["Great question! Rain falls.", "That’s a really good question, and …", "As an AI language model, I have no taste.",
     "You're absolutely right!", "Tolle Frage! Es regnet.", "Excellente question !", "¡Buena pregunta!", "Ottima domanda!",
     "Ótima pergunta!", "这是一个很好的问题！", "素晴らしい質問ですね。", "Отличный вопрос!", "Als KI-Sprachmodell weiß ich das nicht."],
)  # fmt: skip
def test_boilerplate_is_found(text):
    assert find_boilerplate(text, "Why does it rain?")


@pytest.mark.parametrize(
    "text",
    ["A good question makes people think.", "It was the great question of its time.", "As an AI trainer you write dialogues.",
     "Eine gute Frage zeigt Interesse.", "The idea is great.", ""],
)  # fmt: skip
def test_near_misses_are_no_boilerplate(text):
    assert find_boilerplate(text, "Why does it rain?") is None


def test_a_talk_about_ai_may_have_a_disclaimer():
    assert (
        find_boilerplate("As an AI language model, I was trained on text.", "How were you, an AI, trained?")
        is None
    )
