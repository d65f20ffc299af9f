"""Find refusals, disclaimers and flattery by their phrases.

A regular expression for each language: English, German, French, Spanish, Italian, Portuguese, Chinese, Japanese,
Russian, Korean. A flag says that a phrase occurs, not that the response is wrong.
Source of the method: the string match of Zou et al. 2023, arXiv:2307.15043, here bound to the opening and to verbs of
assistance, so that "I can't recommend it enough" is not a refusal.
"""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import re

_APOSTROPHE = str.maketrans("’ʼ`", "'''")
_HELP = (
    r"help|assist|provide|comply|fulfil+|answer (?:that|this|your)|create|write|generate|produce|share|give|discuss|support|"
    r"engage|participate|offer|facilitate|promote|encourage|do (?:that|this|so)|respond to|continue (?:with )?(?:this|that)|"
    r"process (?:this|that|your)|carry out|complete (?:this|that|your)|advise (?:you )?(?:on|how)|accommodate|"
    r"tell you how|teach you|explain how|show you how|describe how|talk about|be part of"
)
# "I cannot give an exact figure" and "… without your budget" answer as far as they can.
_QUALIFIED = r"(?![^.!?\n]{0,80}\b(?:exact|precise|definitive|definite|single|guarantee|without|until|unless|enough)\b)"
REFUSALS = (
    rf"\bi(?:'m| am)? ?(?:really |very |terribly |so )?(?:sorry|afraid)?,? ?(?:but )?(?:that )?i(?:'m| am)? "
    rf"?(?:can't|cannot|can not|won't|will not|am unable to|'m unable to|unable to|not able to|am not able to|"
    rf"not comfortable|not going to|must decline to|have to decline to)(?: be able to)? {_QUALIFIED}(?:{_HELP})",
    rf"\bi (?:can't|cannot|can not|won't|will not|am unable to|am not able to|must decline to|have to decline to)"
    rf"(?: be able to)? {_QUALIFIED}(?:{_HELP})",
    rf"\bi'm (?:unable to|not able to|not going to) {_QUALIFIED}(?:{_HELP})",
    r"\bi (?:must|have to|need to|respectfully|will have to)(?: respectfully| politely)? (?:decline|refuse)\b",
    r"\bi (?:don't|do not) feel (?:comfortable|right) (?:about )?\w+ing",
    r"\bi(?:'m| am) not (?:comfortable|willing to) (?:\w+ing|help|assist|provide|write|answer|do)",
    r"\bit (?:would be|is|'s) (?:against my|inappropriate for me|not appropriate for me)",
    r"\bich kann (?:dir |ihnen |euch )?(?:dabei|dazu|damit|hierzu|das|diese[rn]?|hierbei|bei \w+|leider|diese anfrage|keine)[^.!?\n]{0,50}"
    r"\b(?:nicht|keine)\b[^.!?\n]{0,40}(?:helfen|unterstützen|weiterhelfen|beantworten|erfüllen|geben|bereitstellen|liefern)",
    r"\b(?:leider )?(?:kann|darf|werde) ich (?:dir |ihnen |dabei |damit |leider |das |diese \w+ |hier )*(?:nicht|keine)[^.!?\n]{0,50}"
    r"(?:helfen|weiterhelfen|unterstützen|beantworten|erfüllen|geben|schreiben|bereitstellen|anbieten)",
    r"\bich (?:muss|möchte) (?:das |dies |diese \w+ |hier )*(?:leider )?(?:ablehnen|verweigern)",
    r"\bje (?:suis (?:vraiment )?désolée?,? (?:mais )?je )?ne (?:peux|puis|suis pas en mesure|pourrai) (?:malheureusement )?(?:pas |de )?"
    r"(?:vous |t'|te )?(?:aider|répondre à (?:cette|votre)|fournir|satisfaire|donner|accéder à|créer|écrire|rédiger|accomplir)",
    r"\bje (?:dois|préfère) (?:malheureusement )?(?:refuser|décliner)",
    r"\b(?:lo siento,? )?(?:pero )?no (?:puedo|podré|me es posible) (?:ayudar|asistir|responder a (?:esa|esta|tu|su)|proporcionar|"
    r"brindar|ofrecer|cumplir|dar|crear|escribir|generar|hacer eso)",
    r"\b(?:debo|tengo que) (?:rechazar|negarme|declinar)",
    r"\bnon (?:posso|sono in grado di|mi è possibile) (?:purtroppo )?(?:aiutar|assister|rispondere a (?:questa|tale|quest)|fornir|"
    r"soddisfare|dar|crear|scriver|generar|offrir|far)",
    r"\b(?:devo|sono costrett[oa] a) (?:rifiutare|declinare)",
    r"\bnão (?:posso|poderei|consigo|estou autorizad[oa] a) (?:te |lhe |o |a )?(?:ajudar|auxiliar|responder a (?:essa|esta)|fornecer|"
    r"atender|dar|criar|escrever|gerar|oferecer|fazer isso)",
    r"\b(?:devo|preciso|tenho que) (?:recusar|negar)",
    r"(?:我|本助手)?(?:很抱歉|抱歉|对不起|不好意思)[^。！？\n]{0,12}(?:无法|不能|不可以|没办法)[^。！？\n]{0,12}(?:帮助|协助|提供|回答|满足|完成|生成|编写|撰写|处理|支持)",
    r"我(?:无法|不能|没办法)(?:帮助|协助|提供|回答|满足|完成|为您|为你|给您|给你|生成|编写|撰写)",
    r"(?:申し訳|もうしわけ|すみません|ごめんなさい|残念ながら)[^！？\n]{0,40}(?:できません|できかねます|お答えできません|いたしかねます|応じられません)",
    r"(?:お手伝い|お答え|お応え|提供|回答|ご案内|対応|協力)(?:する)?(?:こと)?(?:は|が)?(?:できません|できかねます|いたしかねます)",
    r"\b(?:я )?(?:к сожалению,? )?(?:я )?не (?:могу|смогу|имею возможности) (?:вам |тебе )?(?:с этим )?(?:помочь|помогать|предоставить|"
    r"ответить на (?:этот|ваш|такой)|выполнить|дать|создать|написать|сгенерировать|обсуждать)",
    r"\b(?:я )?(?:вынужден[аы]?|должен|должна) отказать",
    r"(?:죄송|미안)[^.!?\n]{0,40}(?:도와드릴|제공할|답변할|도울|해드릴|제공해 드릴|답변드릴) ?수 ?(?:가 )?없",
)
"""Patterns of a refusal, over lower-case text."""

DISCLAIMERS = (
    r"\bas an? (?:ai|artificial intelligence|large language model|language model)(?: language)?(?: model| assistant| chatbot)?\b"
    r"(?=,| i\b|\s+(?:developed|created|trained))",
    r"\bi(?:'m| am) (?:just |only |merely )?an? (?:ai(?: language model| assistant)?|language model|artificial intelligence)\b",
    r"\bals (?:ki|künstliche intelligenz|ki-(?:sprach)?modell|ki-assistent|sprachmodell|ai)\b",
    r"\ben tant qu(?:e|')\s?(?:modèle de langage|modèle|ia|intelligence artificielle|assistant)\b",
    r"\bcomo (?:un |una |um |uma )?(?:modelo de (?:lenguaje|linguagem|língua|ia)|ia|inteligencia artificial|inteligência artificial|"
    r"asistente (?:de ia|virtual)|assistente (?:de ia|virtual))\b",
    r"\b(?:come|in quanto|essendo) (?:un |una |un')?(?:modello (?:linguistico|di linguaggio)|ia|intelligenza artificiale|assistente virtuale)\b",
    r"作为(?:一个|一名|一款)?(?:人工智能|ai|大型?语言模型|语言模型|智能助手)",
    r"(?:ai|人工知能|言語モデル|aiアシスタント|ai言語モデル)として(?:、|は|私|、私|の私)",
    r"\bкак (?:языковая модель|большая языковая модель|ии|искусственный интеллект|ии-модель|ии-ассистент|модель ии)\b",
    r"(?:ai|인공지능|언어 모델)(?: 언어)?(?: 모델)?(?:로서|으로서)",
)
"""Patterns of "as an AI"; anywhere in the response."""

_GOOD = r"great|good|excellent|fantastic|wonderful|brilliant|amazing|awesome|insightful|thoughtful|fascinating|superb|terrific"
FLATTERY = (
    rf"^\W*(?:wow\W+|oh\W+|what )?(?:an? |such an? )?(?:absolutely |truly |really |very )?(?:{_GOOD}) (?:question|idea|topic|choice of question|point|query)\b(?= ?[!.,—–-])",
    rf"\b(?:that's|that is|this is|what) (?:such )?an? (?:absolutely |truly |really |very )?(?:{_GOOD}|great and important|profound) (?:question|idea|query|observation|point)\b(?= ?[!.,—–-])",
    r"\byou(?:'re| are) (?:absolutely|totally|so|completely) (?:right|correct|brilliant|amazing)\b",
    r"\b(?:i love|i really love|i admire) (?:your|this|that) (?:question|curiosity|thinking|idea)",
    r"\byour (?:question|curiosity|insight|thinking|idea) is (?:truly |really |absolutely )?(?:brilliant|amazing|excellent|remarkable|wonderful|fantastic)",
    r"\b(?:was für eine|das ist eine|eine) (?:wirklich |sehr |absolut )?(?:tolle|großartige|ausgezeichnete|hervorragende|gute|fantastische|wunderbare) (?:frage|idee)\b(?= ?[!.,—–-])",
    r"^\W*(?:tolle|großartige|ausgezeichnete|hervorragende|gute|sehr gute|fantastische) (?:frage|idee)\b(?= ?[!.,—–-])",
    r"\b(?:quelle |c'est une |voilà une |^)(?:très |vraiment )?(?:excellente|bonne|superbe|magnifique|merveilleuse) (?:question|idée)\b(?= ?[!.,—–-])",
    r"(?:^|¡|qué |es una )\W*(?:muy )?(?:excelente|buena|gran|magnífica|maravillosa|fantástica|estupenda) (?:pregunta|idea)\b(?= ?[!.,—–-])",
    r"(?:^|che |è una )\W*(?:davvero )?(?:ottima|bella|eccellente|magnifica|meravigliosa|splendida) (?:domanda|idea)\b(?= ?[!.,—–-])",
    r"(?:^|que |é uma )\W*(?:muito )?(?:ótima|excelente|boa|bela|maravilhosa|fantástica) (?:pergunta|ideia)\b(?= ?[!.,—–-])",
    r"(?:这|您|你)?(?:真)?(?:是一个|是个|提了一个|问了一个|的)(?:非常|很|特别|极)?(?:好|棒|精彩|优秀|深刻|有深度)的?(?:问题|想法)",
    r"(?:とても|非常に|大変)?(?:素晴らしい|良い|いい|すばらしい|鋭い)(?:ご)?(?:質問|アイデア|着眼点)(?:です|ですね|！)",
    r"(?:^|какой |это )\W*(?:очень |действительно )?(?:отличный|прекрасный|замечательный|великолепный|хороший|потрясающий) вопрос\b(?= ?[!.,—–-])",
    r"(?:정말 |아주 )?(?:좋은|훌륭한|멋진) 질문(?:입니다|이네요|이에요)",
)  # fmt: skip
"""Patterns of flattery in the opening."""

# Every disclaimer has one of these; looking for them first is fast.
_AI_PIECES = (" ai", "artificial", "language model", "künstliche", " ki", "sprachmodell", "modèle", "intelligence", "modelo", "modello",
              " ia", "'ia", "inteligencia", "inteligência", "intelligenza", "assist", "asist", "作为", "として", "как ", "로서")  # fmt: skip
_REFUSAL, _DISCLAIMER, _FLATTERY = (
    re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for patterns in (REFUSALS, DISCLAIMERS, FLATTERY)
)
# A prompt that asks what the assistant is, or plays one, gets such a sentence as its answer.
_ABOUT_AI = re.compile(
    r"\b(?:are you|who are you|what are you|ai|a\.i\.|artificial intelligence|chatbot|language model|llm|ki|ia|ии)\b|人工智能|人工知能|語言模型|言語モデル|인공지능",
    re.IGNORECASE,
)


def find_refusal(response: str, opening: int = 200) -> str | None:
    """Return the phrase of a refusal among the first `opening` characters, or None."""
    return _found(_REFUSAL, response.lstrip()[:opening])


def find_boilerplate(prose: str, context: str, opening: int = 200) -> str | None:
    """Return an "as an AI" anywhere or flattery among the first `opening` characters, or None.

    Where the conversation is about AI, "as an AI" is not boilerplate.
    """
    normalised = _plain(prose)
    disclaimer = _found(_DISCLAIMER, normalised) if any(piece in normalised for piece in _AI_PIECES) else None
    if disclaimer and not _ABOUT_AI.search(context):
        return disclaimer
    return _found(_FLATTERY, prose.lstrip()[:opening])


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(_plain(text))
    return match[0].strip() if match else None


def _plain(text: str) -> str:
    """Return a text in lower case with straight apostrophes."""
    lower = text.lower()
    return lower if lower.isascii() and "`" not in lower else lower.translate(_APOSTROPHE)
