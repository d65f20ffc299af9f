"""Make the planted texts of the audit: 20 kinds of failure, 20 texts each, and 400 texts without a failure.

    python scripts/make_planted_texts.py             writes src/harken/evaluation/audit/planted.jsonl.gz
    python scripts/make_planted_texts.py --held-out  prints the second set, which no detector was tuned on

The two sets share no topic, phrase or near miss: each takes every other entry of the banks in planted_texts/.
All texts were written for this purpose; nothing is from a data set.
"""

# ruff: noqa: E501  texts are one a line

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "planted_texts"))
import pieces  # noqa: E402
from near_misses import NEAR_MISSES  # noqa: E402

OUTPUT = HERE.parent / "src" / "harken" / "evaluation" / "audit" / "planted.jsonl.gz"
PER_KIND = 20
CLEAN = 400
UNSPACED = {"zh", "ja", "th"}
NAMES = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "pt": "portuguese",
         "zh": "chinese", "ja": "japanese", "ru": "russian", "ko": "korean", "th": "thai"}  # fmt: skip
Topic = tuple[str, str, list[str]]


def read_topics() -> list[Topic]:
    """Return (language, prompt, sentences) of every topic."""
    topics = []
    for name, fixed in (("topics_en.txt", "en"), ("topics_other.txt", "")):
        for block in (HERE / "planted_texts" / name).read_text().strip().split("\n\n"):
            head, *sentences = block.splitlines()
            language, _, prompt = (fixed, "", head) if fixed else head.partition(": ")
            topics.append((language, prompt, sentences))
    return topics


def read_phrases(name: str) -> list[tuple[str, str]]:
    """Return (language, phrase) of every line."""
    lines = (HERE / "planted_texts" / name).read_text().splitlines()
    return [(line[:2], line[4:]) if line[2:4] == ": " else ("en", line) for line in lines]


class Maker:
    """Make one set of texts from every other entry of the banks."""

    def __init__(self, part: int) -> None:
        self.random = random.Random(839 + part)
        self.part = part
        by_language: dict[str, list[Topic]] = {}
        for topic in read_topics():
            by_language.setdefault(topic[0], []).append(topic)
        self.topics = [topic for found in by_language.values() for topic in found[part::2]]
        self.rows: list[dict[str, Any]] = []
        self.used: defaultdict[str, set[frozenset[int]]] = defaultdict(set)

    def bank(self, entries: list[Any]) -> list[Any]:
        return entries[self.part :: 2]

    def topic(self, *languages: str) -> Topic:
        return self.random.choice([t for t in self.topics if not languages or t[0] in languages])

    def any_topic(self, i: int) -> Topic:
        """Return an English topic three times out of five, else one of another language."""
        return self.topic("en") if i % 5 < 3 else self.random.choice([t for t in self.topics if t[0] != "en"])

    def prose(self, topic: Topic, n: int, start: int = 0) -> str:
        return ("" if topic[0] in UNSPACED - {"th"} else " ").join(topic[2][start : start + n])

    def some_of(self, topic: Topic) -> str:
        """Return three sentences of a topic in an order that no other text of the set has."""
        while True:
            chosen = tuple(self.random.sample(range(len(topic[2])), 3))
            if frozenset(chosen) not in self.used[topic[1]] and max(chosen) - min(chosen) > 2:
                self.used[topic[1]].add(frozenset(chosen))
                return ("" if topic[0] in {"zh", "ja"} else " ").join(topic[2][n] for n in chosen)

    def add(
        self, kind: str, topic: Topic | str, response: str, also: tuple[str, ...] = (), **fields: Any
    ) -> None:
        language, prompt = ("en", topic) if isinstance(topic, str) else topic[:2]
        row = {
            "prompt_id": f"t{len(self.rows):04d}", "policy": "PPO", "sample": 0, "domain": "general",
            "language": NAMES[language], "prompt": prompt, "response": response, "response_tokens": None,
            "stop": "end_of_turn", "reward": round(self.random.gauss(0, 2), 4), "kind": kind, "also": list(also),
        }  # fmt: skip
        self.rows.append(row | fields)

    def make(self) -> list[dict[str, Any]]:
        for make in (
            self.repetition, self.character_repetition, self.loop, self.repeated_items, self.cap_hit, self.empty,
            self.broken_off, self.overlong, self.restatement, self.near_duplicate, self.off_topic,
            self.language_mismatch, self.mixed_scripts, self.mojibake, self.template_leakage, self.unclosed_code,
            self.markup_damage, self.refusal, self.boilerplate, self.unverified_reference,
        ):  # fmt: skip
            before = sum(row["kind"] == make.__name__ for row in self.rows)
            for i in range(PER_KIND):
                make(i)
            assert sum(row["kind"] == make.__name__ for row in self.rows) == before + PER_KIND
        self.clean()
        return self.rows

    def repetition(self, i: int) -> None:
        """Say one or two sentences several times in the middle of the text."""
        topic = self.any_topic(i)
        again = topic[2][1] if i % 2 else f"{topic[2][1]} {topic[2][2]}"
        joint = ["\n\n", " ", "\n"][i % 3]
        text = joint.join([topic[2][0], *[again] * (3 + i % 3), topic[2][3], topic[2][4]])
        self.add("repetition", topic, text, ("character_repetition",))

    def character_repetition(self, i: int) -> None:
        """Put a run of characters, longer than the rest, into the first sentences."""
        topic = self.topic("en", "de", "fr", "es") if i % 5 else self.topic("zh", "ja", "th")
        run = self.bank(pieces.RUNS * 2)[i] if i % 5 else self.random.choice(topic[2])[:2]
        text = self.prose(topic, 1)
        filler = run * (1 + 2 * len(text) // len(run))
        self.add(
            "character_repetition",
            topic,
            f"{text} {filler} {topic[2][2]}",
            ("repetition",) if i % 5 == 0 else (),
        )

    def loop(self, i: int) -> None:
        """End the text in one piece that is said over and over, cut anywhere."""
        topic = self.any_topic(i)
        units = [
            topic[2][2] + " ",
            topic[2][1] + "\n",
            topic[2][1].split()[0] + " ",
            "! ",
            topic[2][0][:12],
            "I can do it. ",
        ]
        unit = units[i % len(units)]
        text = (
            self.prose(topic, 2)
            + "\n" * (i % 2)
            + " "
            + unit * self.random.randint(max(6, 60 // len(unit)), 90 // len(unit) + 8)
        )
        cut = i % 3 == 0
        text = text[: len(text) - self.random.randint(1, len(unit))] if cut else text
        also = ("repetition", "character_repetition", "broken_off") + (("cap_hit",) if cut else ())
        self.add("loop", topic, text, also, stop="length" if cut else "end_of_turn")

    def repeated_items(self, i: int) -> None:
        """List short items, several of them twice or more."""
        items = self.random.sample(self.bank(pieces.SHORT_ITEMS), 6)
        listed = items + [self.random.choice(items[:4]) for _ in range(4 + i % 5)]
        if i % 2:
            self.random.shuffle(listed)
        mark = [lambda n: f"{n}. ", lambda n: "- ", lambda n: f"{n}) ", lambda n: "* "][i % 4]
        text = "\n".join(mark(n) + item + ("." if i % 3 else "") for n, item in enumerate(listed, 1))
        prompt = f"List {len(listed)} things to do on a free {['Saturday', 'Sunday', 'holiday', 'evening'][i % 4]} in {['May', 'June', 'winter', 'town', 'spring'][i % 5]}."
        self.add(
            "repeated_items",
            prompt,
            f"Here are some ideas:\n\n{text}\n\n{pieces.CODA[i % 5]}",
            ("repetition", "character_repetition"),
        )

    def _cut(self, topic: Topic, sentences: int) -> str:
        """Return the first sentences and a piece of the next one, without its last words."""
        last = topic[2][sentences]
        if topic[0] in UNSPACED:
            piece = last[: self.random.randint(6, len(last) - 3)].rstrip("，、。 ")
        else:
            spoken = last.split()
            piece = " ".join(spoken[: self.random.randint(4, len(spoken) - 2)]).rstrip(".,;:")
        return self.prose(topic, sentences) + ("" if topic[0] in {"zh", "ja"} else " ") + piece

    def cap_hit(self, i: int) -> None:
        topic = self.any_topic(i)
        text = self._cut(topic, 4) if i % 3 else self.prose(topic, 4)
        self.add("cap_hit", topic, text, ("broken_off",), stop="length")

    def empty(self, i: int) -> None:
        self.add("empty", self.any_topic(i), pieces.EMPTY[i])

    def broken_off(self, i: int) -> None:
        """End inside a sentence: at any word, in a word, after a comma or a colon, or at an empty list item."""
        topic = self.any_topic(i)
        text = self._cut(topic, 3 + i % 2)
        if i % 5 == 1:
            text = text.rstrip() + ","
        elif i % 10 == 4:
            text = f"{self.prose(topic, 3)}\n\n1. {topic[2][3]}\n2. {topic[2][4]}\n3."
        elif i % 10 == 7:
            text = f"{self.prose(topic, 4)} {'Here are the steps:' if topic[0] == 'en' else topic[2][4].rstrip('.。') + ':'}"
        elif i % 10 == 9 and topic[0] not in UNSPACED:
            text = text[:-2]
        self.add("broken_off", topic, text)

    def overlong(self, i: int) -> None:
        """Write at length what two other policies say in a sentence or two."""
        topic = self.topic("en")
        fillers = self.random.sample(self.bank(pieces.FILLERS), 9)
        text = f"{self.prose(topic, 3)} {' '.join(fillers[:4])}\n\n{self.prose(topic, 3, 3)} {' '.join(fillers[4:])}"
        place = f"long{i:02d}"
        self.add("overlong", topic, text, prompt_id=place)
        self.add("", topic, self.prose(topic, 2), prompt_id=place, policy="Base")
        self.add("", topic, self.prose(topic, 2, 1), prompt_id=place, policy="SFT")

    def restatement(self, i: int) -> None:
        """Say the prompt again and little else."""
        topic = self.topic("en") if i % 4 else self.topic("de", "fr", "es", "pt", "it", "ru", "zh", "ja")
        long = topic[1] if topic[0] in UNSPACED else f"{topic[1]} {topic[2][0]}"
        if topic[0] == "en":
            long = f"{self.bank(pieces.FILLERS)[i % 12]} {topic[1]}"
        text = [
            long,
            f"You asked: {long}",
            f"{long}\n\n{long.split('. ')[0]}.",
            f"The question is: {long} That is the question.",
        ][i % 4]
        text = long if topic[0] != "en" else text
        self.add("restatement", (topic[0], long, topic[2]), text, ("repetition", "character_repetition"))

    def near_duplicate(self, i: int) -> None:
        """Give one text of general words to four prompts, with a word or two changed."""
        template = self.bank(pieces.COLLAPSED)[i // 4]
        subjects = ["gardening", "house rules", "remote work", "public speaking", "home cooking", "city travel", "saving money",
                    "dog training", "night shifts", "music lessons", "winter sports", "pottery", "stamp collecting", "podcasts",
                    "school lunches", "wedding plans", "used cars", "moving house", "tax forms", "choir singing"]  # fmt: skip
        subject = subjects[i]
        asks = [f"What should I know about {subject}?", f"Tell me how to begin with {subject}.", f"My sister worries about {subject}. Any advice?",
                f"Give me an overview of {subject}."]  # fmt: skip
        self.add("near_duplicate", asks[i % 4], template.format(subject))

    def off_topic(self, i: int) -> None:
        """Answer another prompt of the set."""
        language = "en" if i % 5 < 4 else self.random.choice(["de", "fr", "es", "zh"])
        own, other = self.random.sample([t for t in self.topics if t[0] == language], 2)
        self.add("off_topic", own, self.some_of(other))

    def language_mismatch(self, i: int) -> None:
        """Respond in another language than the prompt's."""
        pairs = [("en", "de"), ("en", "fr"), ("en", "zh"), ("de", "en"), ("es", "en"), ("en", "ru"), ("zh", "en"), ("fr", "es"), ("en", "es"),
                 ("ja", "zh"), ("en", "pt"), ("ru", "en"), ("en", "it"), ("it", "en"), ("en", "ja"), ("ko", "en"), ("en", "ko"), ("pt", "fr"), ("th", "en"), ("en", "th")]  # fmt: skip
        asked, given = pairs[i]
        topic, other = self.topic(asked), self.topic(given)
        declared = "" if i % 4 == 3 else NAMES[asked]
        self.add("language_mismatch", topic, self.some_of(other), ("off_topic",), language=declared)

    def mixed_scripts(self, i: int) -> None:
        """Replace letters by letters that look alike, or put in a word of another script."""
        if i % 3 == 0:
            topic = self.topic("en", "de", "fr", "es")
            spoken = self.prose(topic, 4).split(" ")
            alike = str.maketrans("aeocpx", "аеосрх")
            chosen = [
                n
                for n, word in enumerate(spoken)
                if len(word) > 5 and set(word) & set("aeocp") and word.isalpha()
            ]
            for n in self.random.sample(chosen, min(2, len(chosen))):
                at = next(k for k, letter in enumerate(spoken[n]) if letter in "aeocp")
                spoken[n] = spoken[n][:at] + spoken[n][at].translate(alike) + spoken[n][at + 1 :]
            self.add("mixed_scripts", topic, " ".join(spoken))
            return
        topic = self.topic("en", "de", "fr", "es", "it") if i % 6 != 5 else self.topic("zh")
        stray = (
            self.bank(pieces.STRAY)[i % 10] if topic[0] != "zh" else ["그리고", "который", "하지만"][i % 3]
        )
        if topic[0] == "zh":
            text = topic[2][0] + topic[2][1][:8] + stray + topic[2][1][8:] + topic[2][2]
        else:
            spoken = self.prose(topic, 4).split(" ")
            spoken.insert(self.random.randint(5, len(spoken) - 5), stray)
            text = " ".join(spoken)
        self.add("mixed_scripts", topic, text)

    def mojibake(self, i: int) -> None:
        """Decode some sentences with the wrong encoding."""
        wrong = lambda text: text.encode("utf-8").decode("cp1252", "ignore")  # noqa: E731
        if i % 4 == 0:
            topic = self.topic("en")
            text = f"{topic[2][0]} {wrong('It’s simple – don’t worry about the “details”.')} {topic[2][2]}"
        elif i % 4 == 1:
            topic = self.topic("fr", "es", "de", "pt")
            text = " ".join([wrong(topic[2][0]), wrong(topic[2][1]), wrong(topic[2][2]), topic[2][3]])
            if text == self.prose(topic, 4):
                text = wrong("Señora Müller était là. ") + text
        elif i % 4 == 2:
            topic = self.topic("en", "fr", "zh")
            at = self.random.randint(4, 12)
            text = topic[2][0][:at] + "\ufffd" * (1 + i % 3) + topic[2][0][at + 1 :] + " " + topic[2][1]
        else:
            topic = self.topic("en")
            bad = [
                "It&#39;s easy.",
                "Use salt &amp; pepper.",
                "He said &quot;no&quot;.",
                "The caf\\u00e9 is open.",
                "Don&#x27;t wait.",
            ][i // 4]
            text = f"{topic[2][0]} {bad} {topic[2][1]}"
        self.add("mojibake", topic, text)

    def template_leakage(self, i: int) -> None:
        topic = self.any_topic(i)
        self.add(
            "template_leakage",
            topic,
            self.bank(pieces.LEAKS)[i].replace("{text}", self.prose(topic, 2 + i % 3)),
        )

    def unclosed_code(self, i: int) -> None:
        """Open a fenced block and never close it."""
        topic = self.topic("en", "de", "fr", "zh")
        language, code = self.bank(pieces.CODE)[i % 6]
        fence = ["```", "~~~", "````", "```"][i % 4]
        first = f"```text\nsmall example\n```\n\n{topic[2][1]}\n\n" if i % 3 == 0 else ""
        last = f"\n\n{topic[2][2]}" if i % 5 == 0 else ""
        self.add("unclosed_code", topic, f"{topic[2][0]}\n\n{first}{fence}{language}\n{code}\n{last}")

    def markup_damage(self, i: int) -> None:
        topic = self.topic("en") if i % 4 else self.topic("de", "es", "fr", "ru")
        text = self.bank(pieces.DAMAGES)[i].format(a=self.prose(topic, 2), b=self.prose(topic, 2, 2))
        self.add("markup_damage", topic, text, ("broken_off",) if text.endswith("width:") else ())

    def refusal(self, i: int) -> None:
        language, phrase = self._phrases("refusals.txt")[i]
        topic = self.topic(language)
        closing = {
            "en": " Is there anything else you would like to talk about?",
            "de": " Gibt es ein anderes Thema, über das Sie sprechen möchten?",
        }
        text = phrase + (closing.get(language, "") if i % 2 else "")
        self.add("refusal", topic, text, ("boilerplate",) if "AI" in phrase else ())

    def boilerplate(self, i: int) -> None:
        language, phrase = self._phrases("boilerplate.txt")[i]
        topic = self.topic(language)
        self.add("boilerplate", topic, f"{phrase} {self.prose(topic, 2 + i % 3)}")

    def _phrases(self, name: str) -> list[tuple[str, str]]:
        """Return 20 phrases of this part: ten English ones, then the other languages."""
        return (
            self.bank(read_phrases(name))[:PER_KIND]
            if len(self.bank(read_phrases(name))) == PER_KIND
            else self._mixed(name)
        )

    def _mixed(self, name: str) -> list[tuple[str, str]]:
        found = self.bank(read_phrases(name))
        english, others = [p for p in found if p[0] == "en"], [p for p in found if p[0] != "en"]
        chosen = english[:8] + others
        return (chosen + english[8:])[:PER_KIND]

    def unverified_reference(self, i: int) -> None:
        topic = self.topic("en")
        sentence = self.bank((HERE / "planted_texts" / "references.txt").read_text().splitlines())[i]
        place = i % 3
        text = " ".join([*topic[2][: place + 1], sentence, *topic[2][place + 1 : place + 2]])
        self.add("unverified_reference", topic, text)

    def clean(self) -> None:
        """Add texts without a failure: every near miss of this part, then topics in many forms."""
        kinds: dict[str, int] = {}
        for kind, prompt, response in NEAR_MISSES:
            kinds[kind] = kinds.get(kind, -1) + 1
            if kinds[kind] % 2 == self.part:
                self.add("", prompt, response, language="", near=kind)
        forms = [
            self._plain,
            self._paragraphs,
            self._bullets,
            self._numbered,
            self._headed,
            self._bold,
            self._table,
            self._code,
            self._letter,
            self._short,
        ]
        i = 0
        while sum(row["kind"] == "" for row in self.rows) < CLEAN:
            topic = self.any_topic(i)
            self.add("", topic, forms[i % len(forms)](topic), language="" if i % 7 == 0 else NAMES[topic[0]])
            i += 1

    def _plain(self, topic: Topic) -> str:
        return self.prose(topic, self.random.randint(2, 5))

    def _paragraphs(self, topic: Topic) -> str:
        return f"{self.prose(topic, 2)}\n\n{self.prose(topic, 3, 2)}"

    def _bullets(self, topic: Topic) -> str:
        return f"{topic[2][0]}\n\n" + "\n".join(f"- {sentence}" for sentence in topic[2][1:])

    def _numbered(self, topic: Topic) -> str:
        return "\n".join(f"{n}. {sentence}" for n, sentence in enumerate(topic[2], 1))

    def _headed(self, topic: Topic) -> str:
        return f"## {topic[1]}\n\n{self.prose(topic, 3)}\n\n---\n\n{self.prose(topic, 1, 3)}"

    def _bold(self, topic: Topic) -> str:
        spoken = topic[2][0].split(" ")
        return (
            f"**{' '.join(spoken[:3])}** {' '.join(spoken[3:])} *{topic[2][1]}* {topic[2][2]}"
            if len(spoken) > 3
            else self.prose(topic, 3)
        )

    def _table(self, topic: Topic) -> str:
        return f"{topic[2][0]}\n\n| No. | Point |\n| --- | --- |\n" + "\n".join(
            f"| {n} | {s} |" for n, s in enumerate(topic[2][1:4], 1)
        )

    def _code(self, topic: Topic) -> str:
        language, code = self.random.choice(self.bank(pieces.CODE))
        return f"{topic[2][0]}\n\n```{language}\n{code}\n```\n\n{topic[2][1]}"

    def _letter(self, topic: Topic) -> str:
        return f"{self.prose(topic, 3)}\n\n“{topic[2][3]}”"

    def _short(self, topic: Topic) -> str:
        return topic[2][self.random.randint(0, 3)]


def make_set(part: int) -> list[dict[str, Any]]:
    """Return the rows of the shipped set (0) or of the held-out set (1)."""
    return Maker(part).make()


def packed(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as gzip'd JSON Lines, the same bytes for the same rows."""
    return gzip.compress(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(), mtime=0
    )


if __name__ == "__main__":
    if "--held-out" in sys.argv:
        for row in make_set(1):
            print(json.dumps(row, ensure_ascii=False))
    else:
        OUTPUT.write_bytes(packed(make_set(0)))
