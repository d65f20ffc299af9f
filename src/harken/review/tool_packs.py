"""Write a review's items as plain files for Label Studio or Argilla. No torch. Their exports: `tool_exports.py`.

Every rater has a file of their own, in their own order: calibration, items, gold and repeats with swapped sides. It
holds texts and opaque ids only; the id of a task identifies the rater, so accounts in the tool need no names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from xml.sax.saxutils import quoteattr

from harken.review.session import shown_task
from harken.review.study import Study
from harken.run import atomic

Tool = Literal["label-studio", "argilla"]
TOOLS: tuple[str, ...] = get_args(Tool)
TOOL_CHOICES = {"left": "Left", "right": "Right", "tie": "Tie", "both_bad": "Both bad", "skip": "Skip"}
WORD_JOINER = "\N{WORD JOINER}"
WHICH, HOW_MUCH = "Which response is better?", "How much better? Optional"
WHY = "Why? Optional, of the better response"
STRENGTH_LABELS = {"1": "slightly", "2": "clearly", "3": "much"}


def write_tool_pack(study: Study, folder: Path, tool: Tool) -> list[Path]:
    """Write one file of items per rater, the rubric, and the layout of the page; return the files."""
    files: dict[str, str] = {"rubric.md": f"# Rubric\n\n{study.config.rubric}\n"}
    if tool == "label-studio":
        files["labeling_config.xml"] = _labeling_config(study)
    else:
        files["settings.py"] = _argilla_settings(study)
        files["export.py"] = _ARGILLA_EXPORT
    for rater, tasks in study.tasks.items():
        shown = [shown_task(study, task) for task in tasks]
        rows = [_label_studio_task(one) if tool == "label-studio" else _argilla_record(one) for one in shown]
        files[f"{rater}.json"] = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    for name, text in files.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in files]


def _prompt_text(shown: Mapping[str, Any]) -> str:
    turns = shown["prompt"]
    if len(turns) == 1:
        return str(turns[0]["text"])
    return "\n\n".join(f"{turn['role']}: {turn['text']}" for turn in turns)


def _label_studio_task(shown: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"prompt": _prompt_text(shown), "left": shown["left"], "right": shown["right"]}
    return {"data": {"task": shown["id"], **texts}}


def _labeling_config(study: Study) -> str:
    choices = "\n".join(
        f"    <Choice value={quoteattr(v)} alias={quoteattr(k)}/>" for k, v in TOOL_CHOICES.items()
    )
    reasons = "\n".join(f"    <Choice value={quoteattr(reason)}/>" for reason in study.config.reasons)
    levels = ", ".join(f"{number} {label}" for number, label in STRENGTH_LABELS.items())
    box = "border: 1px solid #d0d0d0; border-radius: 4px; padding: 0 0.75em 0.5em; white-space: pre-wrap"
    return f"""<View>
  <Header value={quoteattr(study.config.rubric)} size="6"/>
  <View style="{box}">
    <Header value="Prompt" size="5"/>
    <Text name="prompt" value="$prompt"/>
  </View>
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em; margin-top: 1em">
    <View style="{box}">
      <Header value="Left" size="5"/>
      <Text name="left" value="$left"/>
    </View>
    <View style="{box}">
      <Header value="Right" size="5"/>
      <Text name="right" value="$right"/>
    </View>
  </View>
  <Header value="{WHICH}" size="5"/>
  <Choices name="choice" toName="prompt" choice="single" required="true" showInline="true">
{choices}
  </Choices>
  <Header value={quoteattr(f"{HOW_MUCH}: {levels}")} size="5"/>
  <Rating name="strength" toName="prompt" maxRating="3"/>
  <Header value="{WHY}" size="5"/>
  <Choices name="reasons" toName="prompt" choice="multiple" showInline="true">
{reasons}
  </Choices>
</View>
"""


def _no_markup(text: str) -> str:
    """Put an invisible character after every < and &: Argilla's page shows a text with tags or entities as HTML."""
    return text.replace("<", f"<{WORD_JOINER}").replace("&", f"&{WORD_JOINER}")


def _argilla_record(shown: Mapping[str, Any]) -> dict[str, Any]:
    texts = {"prompt": _prompt_text(shown), "left": shown["left"], "right": shown["right"]}
    fields = {name: _no_markup(text) for name, text in texts.items()}
    return {
        "id": shown["id"],
        "fields": fields,
        "metadata": {},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


_ARGILLA_EXPORT = '''"""Write the responses of one rater to RATER-votes.json: python export.py RATER WORKSPACE.

The flattened list has the status of every response. records.to_json has not: drafts and discarded responses look as
submitted ones there.
"""

import json
import os
import sys
from pathlib import Path

import argilla as rg

rater, workspace = sys.argv[1:3]
client = rg.Argilla(api_url=os.environ["ARGILLA_API_URL"], api_key=os.environ["ARGILLA_API_KEY"])
dataset = client.datasets(f"review-{rater}", workspace=workspace)
votes = Path(__file__).with_name(f"{rater}-votes.json")
votes.write_text(json.dumps(dataset.records.to_list(flatten=True)), encoding="utf-8")
print(votes)
'''


def _argilla_settings(study: Study) -> str:
    """Return a script that makes the data set of one rater: it runs where the Argilla client is installed."""
    return f'''"""Make the data set of one rater: python settings.py RATER WORKSPACE.

ARGILLA_API_URL and ARGILLA_API_KEY in the environment: the server, and the key of an owner or admin.
"""

import os
import sys
from pathlib import Path

import argilla as rg

rater, workspace = sys.argv[1:3]
client = rg.Argilla(api_url=os.environ["ARGILLA_API_URL"], api_key=os.environ["ARGILLA_API_KEY"])
settings = rg.Settings(
    guidelines={study.config.rubric!r},
    fields=[rg.TextField(name=name) for name in ("prompt", "left", "right")],
    questions=[
        rg.LabelQuestion(name="choice", title={WHICH!r}, labels={TOOL_CHOICES!r}),
        rg.LabelQuestion(name="strength", title={HOW_MUCH!r}, labels={STRENGTH_LABELS!r}, required=False),
        rg.MultiLabelQuestion(name="reasons", title={WHY!r}, labels={list(study.config.reasons)!r}, required=False),
    ],
)
dataset = rg.Dataset(name=f"review-{{rater}}", workspace=workspace, settings=settings, client=client)
dataset.create()
dataset.records.from_json(Path(__file__).with_name(f"{{rater}}.json"))
# After labelling: python export.py RATER WORKSPACE
'''
