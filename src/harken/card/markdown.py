"""Write a card as Markdown for people, and as a short summary for the terminal. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.card.faults import Measured, percent
from harken.data.pair_features import PAIR_FEATURES
from harken.run.terminal import escape_invisible, format_table

MAX_NAME_WIDTH = 48
"""Characters of a policy's name in the terminal's table."""
SLICE_TITLES = {
    "domain": "By domain",
    "language": "By language",
    "strength": "By strength of the preference",
    "source_policy": "By source policy",
    "rater": "By rater",
    "position": "By position of the preferred response",
    "length_gap": "By length(preferred) − length(other), in characters",
}


def card_lines(card: Measured) -> list[str]:
    """Summarise a card for a terminal: verdict, faults and warnings with their fixes, accuracy by source."""
    lines = [f"reward model card: {card['status']}", card["verdict"]]
    lines += [f"  fault {fault['name']}. Fix: {fault['fix']}" for fault in card["faults"]]
    lines += [f"  warning: {warning['what']}. Fix: {warning['fix']}" for warning in card["warnings"]]
    if sources := card["slices"].get("source_policy"):
        rows = [
            [name, f"{slice_section['pairs']:,}", f"{slice_section['prompts']:,}", percent(slice_section)]
            for name, slice_section in sources.items()
        ]
        lines += _terminal_table("accuracy by source policy", ("policies", *_DISTANCE_TITLES[1:]), rows)
    if distance := card.get("distance"):
        reference = escape_invisible(distance["reference"])
        title = f"accuracy by log-probability per token under {reference}, nats, nearest first"
        lines += _terminal_table(title, _DISTANCE_TITLES, _distance_rows(distance))
    return lines


def _terminal_table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = {name: [row[i] for row in rows] for i, name in enumerate(titles)}
    table = format_table(cells, right=[*titles][1:], longest=MAX_NAME_WIDTH).splitlines()
    return [f"  {title}:", *(f"    {line}" for line in table)]


def to_markdown(card: Measured) -> str:
    """Write the whole card as Markdown."""
    model = card["model"]
    blocks = ["# Report card of a reward model", "", card["verdict"], ""]
    blocks += [
        f"* **{fault['name']}**: {fault['sentence']}. Fix: {fault['fix']}." for fault in card["faults"]
    ]
    blocks += [f"* Warning: {warning['what']}. Fix: {warning['fix']}." for warning in card["warnings"]]
    blocks += ["", _table(["fact", "value"], [[name, str(value)] for name, value in model.items()]), ""]
    for title, text in (
        ("Sets", _sets(card)),
        ("Accuracy", _accuracy(card)),
        ("Accuracy by distance from the SFT model", _distance(card.get("distance"))),
        ("Baselines", _baselines(card)),
        ("Margins and spread", _spread(card)),
        ("Calibration", _calibration(card["calibration"])),
        ("Human ceiling", _ceiling(card["ceiling"])),
        ("What the judge favours", _judge_bias(card.get("judge_bias"))),
        ("What the prompt contributes", _prompt(card["prompt"])),
        ("Edits that add no quality", _probes(card["probes"])),
        ("Repeatability", _repeatability(card["repeatability"])),
        ("Best of n", _best_of_n(card.get("best_of_n"))),
        ("Learning curve and flipped labels", _learning_curve(card.get("learning_curve"))),
    ):
        if text:
            blocks += [f"## {title}", "", text, ""]
    return "\n".join(blocks).rstrip() + "\n"


def _sets(card: Measured) -> str:
    rows = []
    for set_section in card["sets"]:
        accuracy = set_section.get("accuracy")
        trained = set_section.get("trained_prompts", 0)
        notes = [set_section.get("note", ""), f"{trained} prompts trained on" if trained else ""]
        rows.append(
            [
                set_section["name"],
                set_section["kind"],
                f"{accuracy['pairs']:,}" if accuracy else "0",
                percent(accuracy) if accuracy else "–",
                "; ".join(filter(None, [*notes, *_benchmark_figures(set_section)])),
            ]
        )
    return _table(["file", "kind", "n", "accuracy", "notes"], rows)


def _benchmark_figures(section: Measured) -> list[str]:
    figures = [f"{name} {percent(section[name])}" for name in ("easy", "normal", "hard") if name in section]
    if "chance" in section:
        figures.append(f"chance {100 * section['chance']:.0f} %")
    if "score" in section.get("ties", {}):
        figures.append(f"Ties score {100 * section['ties']['score']:.1f}")
    return figures


def _accuracy(card: Measured) -> str:
    length = card["length"]
    rows = [["all", card["accuracy"]], ["longer is preferred", length["longer_preferred"]]]
    rows += [["shorter is preferred", length["shorter_preferred"]]]
    blocks = [_accuracy_table("pairs", rows)]
    if length["correlation"] is not None and length["longer_wins"] is not None:
        blocks.append(
            f"The longer response has the higher reward in {percent(length['longer_wins'])} of pairs of unequal "
            f"length; gaps of reward and of length correlate by {length['correlation']:+.2f}."
        )
    for name, slices in card["slices"].items():
        blocks += [f"**{SLICE_TITLES[name]}**", _accuracy_table(name.replace("_", " "), list(slices.items()))]
    return "\n\n".join(blocks)


def _distance(section: Measured | None) -> str:
    if not section:
        return ""
    by = "the run that the reward model was trained on" if section["found_by"] == "lineage" else "as given"
    unscored = f" {section['unscored']:,} pairs do not fit it." if section["unscored"] else ""
    return "\n\n".join(
        [
            f"Mean log-probability per token of a pair's two responses under {section['reference']} ({by}), in nats: "
            f"{section['preferred_logprob']:.2f} of the preferred, {section['other_logprob']:.2f} of the other "
            "responses."
            f"{unscored} The first line is nearest to that model.",
            _table(_DISTANCE_TITLES, _distance_rows(section)),
        ]
    )


_DISTANCE_TITLES = ("log-probability", "pairs", "prompts", "accuracy")


def _distance_rows(section: Measured) -> list[list[str]]:
    return [
        [
            f"{bin_['from']:.2f} to {bin_['to']:.2f}",
            f"{bin_['pairs']:,}",
            f"{bin_['prompts']:,}",
            percent(bin_),
        ]
        for bin_ in section["bins"]
    ]


def _baselines(card: Measured) -> str:
    rows = [
        [
            name.replace("_", " ")
            + (f" (fitted on {section['fitted_on']})" if "fitted_on" in section else ""),
            percent(section),
            _interval(section["difference"], 100, 1),
        ]
        for name, section in card["baselines"].items()
    ]
    if not rows:
        return ""
    return _table(["baseline", "accuracy", "model minus baseline, points"], rows)


def _spread(card: Measured) -> str:
    margin, spread = card["margin"], card["spread"]
    lines = []
    if margin:
        lines.append(
            f"Margins: mean {margin['mean']:+.3f}, standard deviation {margin['std']:.3f}, median "
            f"{margin['median']:+.3f}, 5 % to 95 % {margin['q05']:+.3f} … {margin['q95']:+.3f}."
        )
    lines.append(
        f"Raw rewards: mean {spread['mean']:+.3f} (chosen {spread['chosen_mean']:+.3f}, rejected "
        f"{spread['rejected_mean']:+.3f}), standard deviation {spread['std']:.3f}, {spread['low']:+.3f} … "
        f"{spread['high']:+.3f}. {_share(spread['saturated_rewards'])} of the rewards are beyond ±100, "
        f"{_share(spread['saturated_gaps'])} of the gaps beyond ±10; {_share(spread['indistinguishable'])} of the "
        f"pairs cannot be told apart. {_share(spread['ties'])} of the labels are ties."
    )
    if spread["first_preferred"] is not None:
        lines.append(
            f"The first response of the row is preferred in {_share(spread['first_preferred'])} of "
            f"{spread['positions_known']:,} rows."
        )
    return "\n\n".join(lines)


def _calibration(section: Measured | None) -> str:
    if section is None:
        return ""
    brier, ece = section["brier"], section["ece"]
    temperature = "none helps" if section["temperature"] is None else f"{section['temperature']:.2f}"
    error_after = section["ece_after_temperature"]
    lines = [
        f"P(chosen ≻ rejected): mean {section['mean_probability']:.3f}; negative log-likelihood {section['nll']:.4f} "
        f"(guessing {section['nll_of_guessing']:.4f}); Brier {brier['score']:.4f} = reliability "
        f"{brier['reliability']:.4f} − resolution {brier['resolution']:.4f} + uncertainty {brier['uncertainty']:.4f} "
        f"+ within bins {brier['within_bins']:+.4f}.",
        f"Expected calibration error {ece['error']:.4f}; a calibrated model would show {ece['null_mean']:.4f} on "
        f"average and up to {ece['null_high']:.4f} (p = {ece['p_value']:.3f}). Temperature fitted on half of the "
        f"prompts: {temperature}"
        + (f"; error on the other half then {error_after:.4f}." if error_after is not None else "."),
        _table(
            ["pairs", "confidence", "accuracy"],
            [
                [
                    str(bin_["pairs"]),
                    f"{bin_['confidence']:.3f}",
                    percent({**bin_, "share": bin_["accuracy"]}),
                ]
                for bin_ in section["bins"]
            ],
        ),
    ]
    return "\n\n".join(lines)


def _ceiling(section: Measured | None) -> str:
    if section is None or section["raters"] is None:
        return ""
    raters, alpha = section["raters"], section["alpha"]
    text = (
        f"A rater agrees with the majority of the others in {percent({**raters, 'share': raters['agreement']})} of "
        f"{raters['cases']:,} cases on {raters['rows']:,} rows; Krippendorff's alpha (ordinal) "
        + ("is not defined" if alpha is None else f"{alpha:.3f}")
    )
    text += f". The model's accuracy on these rows: {percent(section['model'])}." if section["model"] else "."
    rows = [
        [rater["rater"], f"{rater['votes']:,}"]
        + [percent(rater[name]) if rater[name] else "–" for name in ("model", "others")]
        for rater in section.get("by_rater", ())
    ]
    if not rows:
        return text
    titles = ["rater", "votes", "model agrees with the rater", "rater agrees with most others"]
    return f"{text}\n\n{_table(titles, rows)}"


def _judge_bias(section: Measured | None) -> str:
    if not section:
        return ""
    rows = [
        [PAIR_FEATURES[name][0], *_bias_cells(feature), *_bias_cells(feature.get("where_shorter"))]
        for name, feature in section["features"].items()
    ]
    titles = ["", "pairs", "label", "model", "of them shorter", "label", "model"]
    return "\n\n".join(
        [
            f"{section['pairs']:,} pairs were labelled by {', '.join(section['judges'])}. Where the two responses "
            "differ, how often the label and the model prefer the one with more, and how often where it is also the "
            "shorter one",
            _table(titles, rows),
            "Every pair was asked in both orders, so a preference for a position is not in the labels.",
        ]
    )


def _bias_cells(shares: Measured | None) -> list[str]:
    """Return pairs, label and model."""
    if shares is None:
        return ["", "", ""]
    return [f"{shares['pairs']:,}", percent(shares["judge"]), percent(shares["model"])]


def _prompt(section: Measured | None) -> str:
    if section is None:
        return ""
    return (
        f"{section['pairs']} pairs were also scored as responses to the prompt of another pair. Accuracy "
        f"{percent(section['accuracy'])} with its own prompt, {percent(section['accuracy_other_prompt'])} with the "
        "other. "
        f"{percent(section['flips'])} of the pairs change order. The margin is larger with its own prompt by "
        f"{_interval(section['lift'])} sd of the gaps, the preferred response's reward by "
        f"{_interval(section['drop'])} sd."
    )


def _probes(probes: Sequence[Measured]) -> str:
    if not probes:
        return ""
    rows = [
        [
            probe["description"],
            str(probe["pairs"]),
            _interval(probe["change"]),
            percent(probe["flips"]) if probe["flips"] else "–",
            percent(probe["above_preferred"]),
        ]
        for probe in probes
    ]
    titles = [
        "edit of the response that is not preferred",
        "n",
        "change of reward, sd",
        "wins the pair",
        "above preferred",
    ]
    return _table(titles, rows)


def _repeatability(section: Measured | None) -> str:
    if section is None:
        return ""
    names = {
        "batch": "alone or in a batch",
        "white_space": "trailing white space",
        "dtype": "float32 instead",
    }
    rows = [
        [words, *(f"{section[name][key]:.2g}" for key in ("mean", "q99", "largest"))]
        for name, words in names.items()
        if name in section
    ]
    return _table(["what changes", "mean |Δr|", "99th percentile", "largest"], rows)


def _best_of_n(curve: Sequence[Measured] | None) -> str:
    if not curve:
        return ""
    scores = [name for name in curve[0] if name not in ("n", "kl", "prompts")]
    rows = [
        [
            str(point["n"]),
            f"{point['kl']:.2f}",
            str(point["prompts"]),
            *(_interval(point[name], 1, 3) for name in scores),
        ]
        for point in curve
    ]
    return _table(["n", "KL bound, nats", "prompts", *scores], rows)


def _learning_curve(section: Mapping[str, Any] | None) -> str:
    if not section:
        return ""
    curve = [[f"{point['training_pairs']:,}", percent(point)] for point in section["curve"]]
    flip_rows = [[_share(point["flipped"]), percent(point)] for point in section["flipped_labels"]]
    return "\n\n".join(
        [
            f"Method: {section['method']}. The level is below that of a trained adapter; the slope says whether more "
            "pairs still help.",
            _table(["training pairs", "held-out accuracy"], curve),
            _table(["flipped labels", "held-out accuracy"], flip_rows),
        ]
    )


def _accuracy_table(title: str, rows: Sequence[Sequence[Any]]) -> str:
    return _table(
        [title, "pairs", "prompts", "accuracy"],
        [
            [name, f"{section['pairs']:,}", f"{section['prompts']:,}", percent(section)]
            for name, section in rows
            if section is not None
        ],
    )


def _interval(estimate: Measured, scale: float = 1.0, digits: int = 2) -> str:
    if estimate["low"] is None:
        return f"{scale * estimate['mean']:+.{digits}f} ({estimate.get('no_interval', 'no interval')})"
    low, high = scale * estimate["low"], scale * estimate["high"]
    return f"{scale * estimate['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
