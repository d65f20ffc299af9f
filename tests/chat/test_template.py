"""Chat templates: what transformers writes, at a frozen time, and with an end."""

# ruff: noqa: E501  a template reads better in whole lines

from __future__ import annotations

import copy
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tiny import CHATML, tiny_tokenizer

from harken.chat import template as chat_template
from harken.chat.template import TemplateRefusal, freeze_clock, render
from harken.errors import UserError
from harken.models.tokenizer import load_tokenizer

TOOLS = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
]
CALL = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"x": [1, "é<&"]}}}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Name\na <colour>. "},
    {"role": "assistant", "tool_calls": [CALL], "content": None, "reasoning": "hm"},
    {"role": "tool", "content": "42", "tool_call_id": "call00001", "name": "f"},
    {"role": "assistant", "content": "<think>so</think>Blue."},
    {"role": "user", "content": "And now?"},
]
WHOLE = """{%- if tools %}<tools>
{%- for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>{% endif %}
{%- set ns = namespace(last=-1, parts=[]) %}
{%- for m in messages[::-1] %}{% if m.role == 'user' and ns.last < 0 %}{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}{% endfor %}
{%- macro called(calls) -%}
  {% for c in calls %}<call>{{ c.function.name ~ '(' ~ (c.function.arguments | tojson(indent=1)) ~ ')' }}{{ ', ' if not loop.last }}</call>{% endfor %}
{%- endmacro %}
{%- for m in messages if m.role != 'nobody' %}
    {%- if m.role == 'assistant' %}
        {% generation %}{% if m.tool_calls is defined %}{{ called(m.tool_calls) }}{% endif %}{{ (m.reasoning_content or '') + (m.content or '').split('</think>')[-1] | trim }}{% endgeneration %}
    {%- elif m['role'] == 'system' and loop.first and loop.length > 1 and loop.revindex > 1 -%}
        {{ bos_token + '%s|%d' % (m.content, 3) + '{}'.format(m.role) + ('-' * 3) }}
    {%- else %}
{{ '<' + m.role + '>' }}{% for k, v in m.items() | sort if k not in ['role', 'content'] %}{{ k }}={{ v }};{% endfor %}{{ m.content | replace('a', 'b') | upper }}
    {%- endif %}
    {%- if loop.index0 == ns.last %}{% continue %}{% endif %}{{ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}<next>{{ dict(a=1)['a'] }}{% endif %}"""


def tokenizer_with(template: Any) -> Any:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHATML, WHOLE, {"default": CHATML, "tool_use": WHOLE}])
@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("add_generation_prompt", [False, True])
def test_it_writes_what_transformers_writes(template: Any, tools: Any, add_generation_prompt: bool):
    tokenizer = tokenizer_with(template)
    theirs = tokenizer.apply_chat_template(
        TURNS, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    assert render(tokenizer, TURNS, tools=tools, add_generation_prompt=add_generation_prompt) == theirs
    assert len(theirs) > 100


ENDLESS = {
    "a range without end": "{% for i in range(10**12) %}x{% endfor %}",
    "loops in loops": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a loop that calls itself": "{% for i in [1, 1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "long lists in a loop": "{% for i in range(90000) %}{% set x = range(90000) | list %}{% endfor %}",
    "a long text": "{{ 'a' * 10**10 }}",
    "long texts in a loop": "{% for i in range(90000) %}{% set x = 'a' * 900000 %}{% endfor %}",
    "a long number": "{{ 10 ** (10 ** 10) }}",
    "doubling by ~": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "doubling blocks": (
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
        "{% set n.x = y %}{% endfor %}"
    ),
    "center": "{{ 'a' | center(10**10) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "a width by %": "{{ '%9999999999d' % 1 }}",
    "a width by % *": "{{ '%*d' % (10**10, 1) }}",
    "a width by format": "{{ '{:>9999999999}'.format(1) }}",
    "a width by the filter format": "{{ '%9999999999d' | format(1) }}",
    "replace": "{{ ('a' * 9000) | replace('a', 'a' * 9000) | replace('a', 'a' * 9000) }}",
    "the method replace": "{{ ('a' * 9000).replace('a', 'a' * 9000) }}",
    "join": "{{ range(90000) | join('a' * 900000) }}",
    "the method join": "{{ ('a' * 900000).join(range(90000) | map('string') | list) }}",
    "indent": "{{ ('a\n' * 90000) | indent(90000) }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "batch": "{{ [1] | batch(10**9, 'a') | list }}",
    "chance": "{{ ['a', 'b'] | random }}",
    "filler": "{{ lipsum(n=1) }}",
    "a memory address": "{{ messages[0].items }}",
    "what is no template": "{% for %}",
    "division by zero": "{{ 1 / 0 }}",
}  # fmt: skip


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_is_refused_in_a_line(template: str):
    """Bounded by steps and sizes: the same on every machine, in every thread."""
    began, message = time.process_time(), []

    def write() -> None:
        try:
            render(tokenizer_with(template), TURNS)
        except TemplateRefusal as error:
            message.append(str(error))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert len(message) == 1 and "\n" not in message[0]
    assert time.process_time() - began < 20


def test_a_long_conversation_is_no_loop_without_end():
    turns = [{"role": ("user", "assistant")[i % 2], "content": "word " * 40} for i in range(3000)]
    tokenizer = tokenizer_with(WHOLE)
    assert render(tokenizer, turns) == tokenizer.apply_chat_template(turns, tokenize=False)
    text = "word " * 1_000_000
    assert render(tokenizer_with(CHATML), [{"role": "user", "content": text}]).count("word") == 1_000_000


def test_a_template_error_is_one_line():
    template = "{{ raise_exception('Conversation roles\nmust alternate user/assistant/user/assistant/...') }}"
    with pytest.raises(TemplateRefusal) as caught:
        render(tokenizer_with(template), TURNS)
    assert caught.value.message == "Conversation roles must alternate user/assistant/user/assistant/..."


DATED = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}" + CHATML


def test_dated_templates_use_one_time_per_run():
    """Dated templates: every prompt of a process is written at one time, that of the run where one is at work."""
    tokenizer = tokenizer_with(DATED)
    first = render(tokenizer, TURNS[:2])
    time.sleep(1.1)
    assert render(tokenizer, TURNS[:2]) == first
    then = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
    with freeze_clock(then):
        assert render(tokenizer, TURNS[:2]).startswith("2024-02-29 23:59:58")
        with freeze_clock(then + timedelta(days=1)):
            assert render(tokenizer, TURNS[:2]).startswith("2024-03-01 23:59:58")
    assert render(tokenizer, TURNS[:2]) == first


def test_a_tokenizer_records_the_time_it_was_first_read_at(tmp_path: Path):
    """final/ says the date, and whoever reads it writes prompts as of that date."""
    tokenizer_with(DATED).save_pretrained(tmp_path / "base")
    assert chat_template.folder_reads_clock(tmp_path / "base")
    with freeze_clock(datetime(2024, 2, 29, tzinfo=UTC)):
        load_tokenizer(tmp_path / "base").save_pretrained(tmp_path / "final")
    assert not chat_template.folder_reads_clock(tmp_path / "final")
    assert '"template_time": "2024-02-29T00:00:00+00:00"' in (
        tmp_path / "final" / "tokenizer_config.json"
    ).read_text("utf-8")
    with freeze_clock(datetime(2025, 1, 1, tzinfo=UTC)):
        again = load_tokenizer(tmp_path / "final")
        assert render(again, TURNS[:2]).startswith("2024-02-29 00:00:00")
        assert render(load_tokenizer(tmp_path / "base"), TURNS[:2]).startswith("2025-01-01 00:00:00")


def test_a_template_without_a_clock_leaves_no_record(tmp_path: Path):
    tiny_tokenizer().save_pretrained(tmp_path)
    load_tokenizer(tmp_path).save_pretrained(tmp_path / "again")
    assert "harken" not in (tmp_path / "again" / "tokenizer_config.json").read_text("utf-8")
    assert not chat_template.folder_reads_clock(tmp_path)


def test_a_recorded_time_that_is_none_is_refused():
    tokenizer = tokenizer_with(DATED)
    chat_template.set_record(tokenizer, template_time="yesterday")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: harken\.template_time is 'yesterday'"):
        render(tokenizer, TURNS[:2])
