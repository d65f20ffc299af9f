"""Find special tokens and role headers of chat templates in the text of a response."""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re

from harken.evaluation.audit.words import ResponseText

# ChatML, Llama 2 and 3, Gemma, Mistral, Phi, DeepSeek, BERT and T5 vocabularies.
_TOKEN = re.compile(
    r"<\|[A-Za-z][\w ]{0,40}\|>|<｜[^｜>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?(?:start_of_turn|end_of_turn)>|</s>|<s>|<eos>|<bos>"
    r"|<pad>|<unk>|\[(?:PAD|UNK|CLS|SEP|MASK|EOS|BOS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|<extra_id_\d+>|<0x[0-9A-F]{2}>"
)
_STRIKETHROUGH = re.compile(r"<s>[^<\n]*\w[^<\n]*</s>")
_USER = "User|Human|Benutzer|Nutzer|Utilisateur|Usuario|Usuário|Utente|Пользователь|用户|用戶|ユーザー|사용자|Question de l'utilisateur"
_ASSISTANT = "Assistant|AI|Bot|System|Model|Assistent|Asistente|Assistente|Ассистент|Модель|助手|アシスタント|어시스턴트"
_HEADER = re.compile(
    rf"^[ \t]*(?:#{{1,4}} ?)?(?:\*\*)?(?:{_USER}|{_ASSISTANT}|(?<=### )(?:Instruction|Response|Input))(?:\*\*)?(?: ?[:：])(?:\*\*)?",
    re.MULTILINE,
)
_OF_ASSISTANT = re.compile(rf"(?:{_ASSISTANT})")
# A dialogue that the prompt asks for has such headers.
_ASKS_FOR_DIALOGUE = re.compile(
    r"\b(?:dialog\w*|conversation\w*|transcript\w*|script|interview\w*|chat ?log|chatbots?|role[- ]?play\w*|screenplay|skit|scene|"
    r"gespräch\w*|conversación|diálogo|conversaz\w*|dialogo|диалог\w*|user stor\w*|template\w*|prompts?)\b|对话|對話|会話|대화",
    re.IGNORECASE,
)


def find_template_leakage(text: ResponseText) -> str | None:
    """Return the first special token or role header in the response, or None.

    Code, tokens that the prompt shows, HTML's struck-through text, and dialogues that the prompt asks for are left out.
    A header of the assistant counts anywhere; one of the user counts where it continues the text, after a first line.
    """
    text_outside_code = _STRIKETHROUGH.sub(lambda match: " " * len(match[0]), text.outside_code)
    if text_outside_code.startswith("  ") and text.outside_code.lstrip().startswith("<s>"):
        text_outside_code = (
            text.outside_code
        )  # a whole response between <s> and </s> is between begin and end tokens
    for match in _TOKEN.finditer(text_outside_code):
        if match[0] not in text.context:
            return match[0]
    if _ASKS_FOR_DIALOGUE.search(text.context):
        return None
    for match in _HEADER.finditer(text.outside_code):
        header = match[0].strip()
        continues = bool(text.outside_code[: match.start()].strip())
        if (continues or _OF_ASSISTANT.search(header)) and header not in text.context:
            return header
    return None
