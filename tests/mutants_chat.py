"""Mistakes between a conversation and its tokens: texts that are lost, clocks that move, tags that double."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

PROBE, TEMPLATE, STAGES = (
    "data/test_template_probe.py",
    "chat/test_template.py",
    "end_to_end/test_chat_templates.py",
)

CHAT = [
    Mutant("templates: a text that is lost is not missed", "data/template_probe.py", "_require_order: 0", "-1", PROBE),
    Mutant("templates: turns may change places", "data/template_probe.py", "_require_order: places != sorted(places)", "places == []", PROBE),
    Mutant("templates: a response may stand twice", "data/template_probe.py", "probe: whole.count(said[1]) > 1", "whole.count(said[1]) > 2", PROBE),
    Mutant("templates: a turn of a row may be lost", "data/template_probe.py", "reaches: not said or said in written", "True", PROBE),
    Mutant("templates: a silent template takes system turns", "data/template_probe.py", "_supports_system: said[3] in text", "True", PROBE),
    Mutant("templates: system turns replace the user's", "data/chat.py", "_merged: [*system, turns[first].content]", "[*system]", PROBE),
    Mutant("templates: the clock moves", "chat/template.py", "template_time: _frozen = datetime.now(UTC)", "return datetime.now(UTC)", TEMPLATE),
    Mutant("templates: final/ does not say the date", "models/tokenizer.py", "load_tokenizer: chat_template.record_time(tokenizer)", "pass", TEMPLATE),
    Mutant("templates: a resumed run has a new date", "train/launch.py", "train: chat_template.freeze_clock(began)", "chat_template.freeze_clock(datetime.now(began.tzinfo))", STAGES),
    Mutant("templates: an evaluation forgets its date", "evaluation/fixed_inputs.py", "freeze_template_clock: settings['template_time'] = moment.isoformat()", "pass", STAGES),
    Mutant("templates: a long conversation is a loop without end", "chat/bounded_jinja.py", "Budget.__init__: MAX_STEPS + 16 * characters", "5000", TEMPLATE),
    Mutant("templates: chance is drawn", "chat/bounded_jinja.py", "BoundedEnvironment.__init__: _RANDOM_NAMES", "()", TEMPLATE),
    Mutant("chat: the opened tag is doubled", "data/chat.py", "Renderer.adjust_opened_tag: text.lstrip().startswith(tag)", "False", PROBE),
    Mutant("chat: the opened tag is not closed", "data/chat.py", "Renderer.adjust_opened_tag: self.template.closing_text + text", "text", PROBE),
    Mutant("chat: a truncated response is closed", "data/chat.py", "Renderer.adjust_opened_tag: not ended or tag.replace('<', '</') in text", "tag.replace('<', '</') in text", PROBE),
    Mutant("chat: user turns keep special tokens too", "data/chat.py", "Renderer._template_message: message.role == 'assistant'", "True", PROBE),
    Mutant("chat: control tokens are kept when recorded", "data/special_tokens.py", "SpecialTokens._recorded: (names & self.all) - self.control", "names & self.all", PROBE),
    Mutant("chat: kept tokens are not decoded", "data/special_tokens.py", "SpecialTokens.decode: not self.kept", "True", PROBE),
    Mutant("rows: arguments of tools stay JSON text", "data/fields.py", "_tool_call: arguments = json.loads(arguments) if arguments.strip() else {}", "pass", PROBE),
    Mutant("rows: an image is left out of a text", "data/fields.py", "_content: raise RowError('unsupported_content', f'{field}.{kind[:40]}')", "continue", PROBE),
    Mutant("rows: tools do not count for an id", "data/parse.py", "content_hash: text + tools", "text", PROBE),
    Mutant("rows: markup is not looked for in responses", "data/markup.py", "row_texts: [*turns, *row_responses(row)]", "turns", PROBE),
    Mutant("tokens: train says nothing of the checks", "train/load_data.py", '_encode_split: for line in token_checks.check_tokenizer(renderer, [text for row in sample for text in row_responses(row)]):\n    say(line)', "for line in token_checks.check_tokenizer(renderer, [text for row in sample for text in row_responses(row)]):\n    pass", STAGES),
    Mutant("tokens: errors of the checks do not end training", "data/token_checks.py", "check_tokenizer: 'error'", "'never'", PROBE),
    Mutant("rows: the advice is always max_length", "data/report.py", "DataReport.explain_empty: DROP_FIXES.get(reason, 'correct the rows; rejects.jsonl names each with its reason')", "DROP_FIXES.get('response_too_long', 'correct the rows; rejects.jsonl names each with its reason')", STAGES),
]  # fmt: skip
