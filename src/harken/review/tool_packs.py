"""Write a review's items as plain files for Label Studio or Argilla, and read the votes in their exports. No torch.

Every rater has a file of their own, in their own order: calibration, items, gold and repeats with swapped sides. It
holds texts and opaque ids only; the id of a task identifies the rater, so accounts in the tool need no names.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from xml.sax.saxutils import quoteattr

from harken.errors import UserError
from harken.review.session import shown_task
from harken.review.study import Study
from harken.run import atomic, json_io

Tool = Literal["label-studio", "argilla"]
TOOLS: tuple[str, ...] = get_args(Tool)
TOOL_CHOICES = {"left": "Left", "right": "Right", "tie": "Tie", "both_bad": "Both bad", "skip": "Skip"}
STRENGTH_LABELS = {"1": "slightly", "2": "clearly", "3": "much"}
FIX_EXPORT = "export the labelled project again: JSON of Label Studio, or records.to_json of Argilla"


@dataclass(frozen=True)
class ToolExport:
    """The votes of an export in the order in which they were given, and counts of what was left out, by reason.

    `texts`: the two responses of each task as the export has them.
    """

    tool: Tool
    votes: list[dict[str, Any]]
    left_out: Counter[str] = field(default_factory=Counter)
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def write_tool_pack(study: Study, folder: Path, tool: Tool) -> list[Path]:
    """Write one file of items per rater, the rubric, and the layout of the page; return the files."""
    files: dict[str, str] = {"rubric.md": f"# Rubric\n\n{study.config.rubric}\n"}
    if tool == "label-studio":
        files["labeling_config.xml"] = _labeling_config(study)
    else:
        files["settings.py"] = _argilla_settings(study)
    for rater, tasks in study.tasks.items():
        shown = [shown_task(study, task) for task in tasks]
        rows = [_label_studio_task(one) if tool == "label-studio" else _argilla_record(one) for one in shown]
        files[f"{rater}.json"] = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    for name, text in files.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in files]


def read_tool_export(path: Path) -> ToolExport:
    """Read an export of either tool. Raises UserError for a file that is neither's."""
    rows = [row for row in json_io.read_list(path, FIX_EXPORT) if isinstance(row, dict)]
    if rows and all("fields" in row and "responses" in row for row in rows):
        shown = {str(row.get("id")): row["fields"] for row in rows}
        return replace(_read_argilla(rows), texts=_responses(shown))
    if rows and all("task" in _label_studio_data(row) for row in rows):
        shown = {str(_label_studio_data(row)["task"]): _label_studio_data(row) for row in rows}
        return replace(_read_label_studio(rows), texts=_responses(shown))
    raise UserError(
        "these are no labelled items of a pack for Label Studio or Argilla", where=str(path), fix=FIX_EXPORT
    )


def without_edited(study: Study, export: ToolExport) -> ToolExport:
    """Leave out the votes on responses that are no longer those of the study: they were edited in the tool."""
    edited = set()
    for task_id, texts in export.texts.items():
        if task_id in study.by_task:
            shown = shown_task(study, study.by_task[task_id][1])
            if [text.split() for text in texts] != [shown["left"].split(), shown["right"].split()]:
                edited.add(task_id)
    votes = [vote for vote in export.votes if vote["task"] not in edited]
    left_out = export.left_out + Counter({"items with edited responses": len(export.votes) - len(votes)})
    return replace(export, votes=votes, left_out=left_out)


def _responses(shown: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return left and right of every task that has both as text."""
    return {
        task: (fields["left"], fields["right"])
        for task, fields in shown.items()
        if isinstance(fields, Mapping)
        and all(isinstance(fields.get(side), str) for side in ("left", "right"))
    }


def vote_uuid(study: Study, vote: Mapping[str, Any], supersedes: str) -> str:
    """Return the uuid of a vote, which is the same whenever the same export is read."""
    content = json.dumps(
        [study.hash, vote["task"], vote["choice"], vote["strength"], vote["reasons"], supersedes]
    )
    return str(uuid.uuid5(uuid.NAMESPACE_URL, content))


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
    return f"""<View>
  <Header value={quoteattr(study.config.rubric)} size="5"/>
  <Text name="prompt" value="$prompt"/>
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">
    <Text name="left" value="$left"/>
    <Text name="right" value="$right"/>
  </View>
  <Choices name="choice" toName="prompt" choice="single" required="true" showInline="true">
{choices}
  </Choices>
  <Rating name="strength" toName="prompt" maxRating="3"/>
  <Choices name="reasons" toName="prompt" choice="multiple" showInline="true">
{reasons}
  </Choices>
</View>
"""


def _label_studio_data(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a task: inside `data` in the JSON export, the row itself in JSON-MIN."""
    data = row.get("data")
    if isinstance(data, Mapping):
        return data
    return row if isinstance(row.get("task"), str) else {}


def _read_label_studio(rows: Sequence[dict[str, Any]]) -> ToolExport:
    left_out: Counter[str] = Counter()
    votes: list[tuple[str, dict[str, Any]]] = []
    for row in rows:
        task = str(_label_studio_data(row)["task"])
        if "data" not in row:
            votes.append((str(row.get("updated_at") or row.get("created_at") or ""), _vote(task, row)))
            continue
        annotation = [one for one in row.get("annotations") or () if isinstance(one, Mapping)]
        done = [one for one in annotation if not one.get("was_cancelled")]
        left_out["cancelled annotations"] += len(annotation) - len(done)
        left_out["earlier annotations of one item"] += max(len(done) - 1, 0)
        left_out["items without a vote"] += not done
        for one in sorted(done, key=_time_of)[-1:]:
            votes.append((_time_of(one), _vote(task, {**_results(one), "lead_time": one.get("lead_time")})))
    ordered = [vote for _, vote in sorted(votes, key=lambda pair: pair[0])]
    return ToolExport("label-studio", [one for one in ordered if one["choice"]], +left_out)


def _time_of(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _results(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an annotation by the name of their control."""
    results: dict[str, Any] = {}
    for result in annotation.get("result") or ():
        if isinstance(result, Mapping) and isinstance(result.get("value"), Mapping):
            value = result["value"]
            results[str(result.get("from_name"))] = value.get("choices", value.get("rating"))
    return results


def _vote(task: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vote from the values of the three questions, as they are exported by either tool."""
    choice, reasons = values.get("choice"), values.get("reasons") or []
    if isinstance(reasons, Mapping):  # JSON-MIN writes several choices as {"choices": [...]}
        reasons = reasons.get("choices") or []
    if isinstance(choice, list):
        choice = choice[0] if choice else None
    names = {shown: name for name, shown in TOOL_CHOICES.items()}
    levels = {label: int(number) for number, label in STRENGTH_LABELS.items()}
    strength = values.get("strength") or 0
    seconds = values.get("lead_time")
    return {
        "task": task,
        "choice": names.get(choice, choice) if isinstance(choice, str) else "",
        "strength": levels.get(strength, strength) if isinstance(strength, str) else strength,
        "reasons": [reasons] if isinstance(reasons, str) else list(reasons),
        "seconds": float(seconds) if isinstance(seconds, int | float) else 0.0,
    }


def _argilla_record(shown: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"prompt": _prompt_text(shown), "left": shown["left"], "right": shown["right"]}
    return {
        "id": shown["id"],
        "fields": fields,
        "metadata": {},
        "suggestions": {},
        "responses": {},
        "vectors": {},
    }


def _argilla_settings(study: Study) -> str:
    """Return a script that makes the data set of one rater: it runs where the Argilla client is installed."""
    return f'''"""Make the data set of one rater: python settings.py RATER WORKSPACE. ARGILLA_API_URL: the server."""

import os
import sys

import argilla as rg

rater, workspace = sys.argv[1:3]
client = rg.Argilla(api_url=os.environ["ARGILLA_API_URL"], api_key=os.environ["ARGILLA_API_KEY"])
settings = rg.Settings(
    guidelines={study.config.rubric!r},
    fields=[rg.TextField(name=name) for name in ("prompt", "left", "right")],
    questions=[
        rg.LabelQuestion(name="choice", labels={TOOL_CHOICES!r}),
        rg.LabelQuestion(name="strength", labels={STRENGTH_LABELS!r}, required=False),
        rg.MultiLabelQuestion(name="reasons", labels={list(study.config.reasons)!r}, required=False),
    ],
)
dataset = rg.Dataset(name=f"review-{{rater}}", workspace=workspace, settings=settings, client=client)
dataset.create()
dataset.records.from_json(f"{{rater}}.json")
# After labelling: dataset.records.to_json(f"{{rater}}-votes.json")
'''


def _read_argilla(rows: Sequence[dict[str, Any]]) -> ToolExport:
    left_out: Counter[str] = Counter()
    votes = []
    for row in rows:
        answers = row["responses"] if isinstance(row["responses"], Mapping) else {}
        values: dict[str, Any] = {}
        for name in ("choice", "strength", "reasons"):
            response = [one for one in answers.get(name) or () if isinstance(one, Mapping)]
            if response:
                values[name] = response[-1].get("value")
                left_out["earlier answers to one question"] += len(response) - 1
        if isinstance(values.get("strength"), str) and values["strength"].isdigit():
            values["strength"] = int(values["strength"])
        if values.get("choice") is None:
            left_out["items without a vote"] += 1
        else:
            votes.append(_vote(str(row.get("id")), values))
    return ToolExport("argilla", votes, +left_out)
