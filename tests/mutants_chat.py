"""Mistakes between a conversation and its tokens: texts that are lost, clocks that move, tags that double."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

PROBE, TEMPLATE, STAGES = (
    "data/test_template_probe.py",
    "test_chat_template.py",
    "end_to_end/test_chat_templates.py",
)

CHAT = [
    Mutant("templates: a text that is lost is not missed", "data/template_probe.py", "if place < 0:", "if place < -1:", PROBE),
    Mutant("templates: turns may change places", "data/template_probe.py", "if places != sorted(places):", "if places == []:", PROBE),
    Mutant("templates: a response may stand twice", "data/template_probe.py", "whole.count(said[1]) > 1", "whole.count(said[1]) > 2", PROBE),
    Mutant("templates: a turn of a row may be lost", "data/template_probe.py", "    if not said or said in written:", "    if True:", PROBE),
    Mutant("templates: a silent template takes system turns", "data/template_probe.py", "    return said[3] in text\n", "    return True\n", PROBE),
    Mutant("templates: system turns replace the user's", "data/chat.py", '"\\n\\n".join([*system, turns[first].content])', '"\\n\\n".join([*system])', PROBE),
    Mutant("templates: the clock moves", "chat_template.py", "        _frozen = datetime.now(UTC)\n    return _frozen", "        return datetime.now(UTC)\n    return _frozen", TEMPLATE),
    Mutant("templates: final/ does not say the date", "models/tokenizer.py", "    chat_template.record_time(tokenizer)\n", "", TEMPLATE),
    Mutant("templates: a resumed run has a new date", "train/run.py", "with chat_template.clock_at(began):", "with chat_template.clock_at(datetime.now(began.tzinfo)):", STAGES),
    Mutant("templates: an evaluation forgets its date", "evaluate/suite.py", 'settings["template_time"] = moment.isoformat()', "pass", STAGES),
    Mutant("templates: a long conversation is a loop without end", "bounded_jinja.py", "self.steps = STEPS + 16 * characters", "self.steps = 5_000", TEMPLATE),
    Mutant("templates: chance is drawn", "bounded_jinja.py", "for name in _OF_CHANCE:", "for name in ():", TEMPLATE),
    Mutant("chat: the opened tag is doubled", "data/chat.py", "if text.lstrip().startswith(tag):", "if False:", PROBE),
    Mutant("chat: the opened tag is not closed", "data/chat.py", "self.template.closes + text", "text", PROBE),
    Mutant("chat: a truncated response is closed", "data/chat.py", "closed = not ended or tag", "closed = tag", PROBE),
    Mutant("chat: user turns keep special tokens too", "data/chat.py", 'response=message.role == "assistant"', "response=True", PROBE),
    Mutant("chat: control tokens are kept when recorded", "data/special_tokens.py", "return (names & self.all) - self.control", "return names & self.all", PROBE),
    Mutant("chat: kept tokens are not decoded", "data/special_tokens.py", "if not self.kept:", "if True:", PROBE),
    Mutant("rows: arguments of tools stay JSON text", "data/fields.py", "arguments = json.loads(arguments) if arguments.strip() else {}", "pass", PROBE),
    Mutant("rows: an image is left out of a text", "data/fields.py", 'raise Drop("unsupported_content", f"{field}.{kind[:40]}")', "continue", PROBE),
    Mutant("rows: tools do not count for an id", "data/examine.py", "(text + tools).encode()", "text.encode()", PROBE),
    Mutant("rows: markup is not looked for in responses", "data/markup.py", "return [*turns, *responses_of(row)]", "return turns", PROBE),
    Mutant("tokens: train says nothing of the checks", "train/load_data.py", "        say(line)\n    for rows, report", "        pass\n    for rows, report", STAGES),
    Mutant("tokens: errors of the checks do not end training", "data/token_checks.py", 'if found.level == "error":', 'if found.level == "never":', PROBE),
    Mutant("rows: the advice is always max_length", "data/report.py", 'FIXES.get(reason, "correct the rows', 'FIXES.get("response_too_long", "correct the rows', STAGES),
]  # fmt: skip
