"""Mistakes in the report card of a reward model: calibration, agreement, intervals, probes, faults, the gate."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

CALIBRATION = [
    ("temperature multiplied", "preference_probability: np.asarray(gaps, dtype=np.float64) / temperature", "np.asarray(gaps, dtype=np.float64) * temperature"),
    ("folded by the label", "fold_pairs: p >= 0.5", "label >= 0.5"),
    ("outcome not folded", "fold_pairs: np.where(first, label, 1 - label)", "label"),
    ("likelihood of the other side", "negative_log_likelihood: np.logaddexp(0, -z)", "np.logaddexp(0, z)"),
    ("soft labels rounded", "negative_log_likelihood: (1 - label) * np.logaddexp(0, z)", "(label < 0.5) * np.logaddexp(0, z)"),
    ("Brier without the square", "brier_score: (p - y) ** 2", "np.abs(p - y)"),
    ("bins of equal width", 'equal_mass_bins: np.quantile(p, np.arange(1, count) / count, method="inverted_cdf")', "np.linspace(0.5, 1, count + 1)[1:-1]"),
    ("bins of a single pair", "equal_mass_bins: len(p) // MIN_PAIRS_PER_BIN", "len(p)"),
    ("bins weighted equally", "brier_parts: np.average((mean_p - mean_y) ** 2, weights=size)", "np.average((mean_p - mean_y) ** 2)"),
    ("resolution around one half", "brier_parts: mean_y - y.mean()", "mean_y - 0.5"),
    ("covariance counted once", "brier_parts: 2 * np.mean(inside_p * inside_y)", "np.mean(inside_p * inside_y)"),
    ("ECE signed", "calibration_error: np.abs(np.add.reduceat(outcomes - p, starts, axis=-1))", "np.add.reduceat(outcomes - p, starts, axis=-1)"),
    ("null of guessing", "calibration_error: random.random(len(p)) < p", "random.random(len(p)) < 0.5"),
    ("p-value of the other tail", "calibration_error: null >= observed", "null <= observed"),
    ("temperature upside down", "fit_temperature: 1 / optimize.brentq(slope, hottest, coldest, xtol=1e-13, rtol=1e-13)", "optimize.brentq(slope, hottest, coldest, xtol=1e-13, rtol=1e-13)"),
    ("temperature of a model that disagrees", "fit_temperature: slope(0.0) >= 0", "False"),
]  # fmt: skip

AGREEMENT = [
    ("a rater among the others", "rater_ceiling: np.sign(signs.sum() - signs)", "np.sign(signs.sum() + 0 * signs)"),
    ("ties of the others count", "rater_ceiling: (signs != 0) & (others != 0)", "signs != 0"),
    ("nominal distance", "_distances: (middle[:, :, None] - middle[:, None, :]) ** 2", "(middle[:, :, None] != middle[:, None, :]) * 1.0"),
    ("interval distance", "_distances: np.cumsum(marginal, axis=1) - marginal / 2", "np.arange(marginal.size, dtype=float).reshape(marginal.shape)"),
]  # fmt: skip

INTERVALS = [
    ("narrower than independent rows", "clustered_jeffreys: min(rows, total)", "rows"),
    ("halves are capped", "clustered_jeffreys: rows if halves else min(rows, total)", "min(rows, total)"),
    ("no small-sample correction", "clustered_mean_interval: count / (count - 1)", "1.0"),
    ("equal values have a point", "clustered_mean_interval: count == 1 or is_constant(x)", "count == 1"),
    ("the limits are forgotten", "clustered_mean_interval: unvaried_interval(mean, count, limits, confidence)", "unvaried_interval(mean, count, None, confidence)"),
    ("a two-sided limit", "unvaried_interval: 1 - (1 - confidence) ** (1 / units)", "1 - ((1 - confidence) / 2) ** (1 / units)"),
    ("the way to a limit from zero", "unvaried_interval: value + share * (limits[0] - value)", "value + share * limits[0]"),
]  # fmt: skip

SCORED = [
    ("ties are right", "ScoredPairs.correct: self.margin > 0", "self.margin >= 0"),
    ("labels below one half forgotten", "ScoredPairs.side: np.sign(self.label - 0.5)", "np.ones(len(self.label))"),
    ("label ties count", "ScoredPairs.decided: self.side != 0", "self.side == self.side"),
    ("pairs of one prompt are independent", "ScoredPairs.accuracy: self.prompts[self.decided]", "np.arange(len(self.pairs))[self.decided]"),
    ("unscored pairs kept", "score: ScoredPairs(list(pairs), rewards).select(known)", "ScoredPairs(list(pairs), rewards)"),
]  # fmt: skip

ACCURACY = [
    ("longer for shorter", "length_accuracy: gaps > 0", "gaps < 0"),
    ("lengths of equal pairs win", "length_accuracy: scored.lengths[:, 0] != scored.lengths[:, 1]", "scored.lengths[:, 0] >= 0"),
    ("correlation of a side", "_correlation: length @ scored.gap", "length @ scored.rewards[:, 0]"),
    ("models in the order of the row", "_writers: sorted(set(pair.written_by))", "pair.written_by"),
    ("rows of a slice are those of another name", "slice_names: _listed(names)[0]", "_listed(names[::-1])[0]"),
]  # fmt: skip

ROWS = [
    ("the best pairs are kept as the errors", "_chosen: scored.decided[i] and scored.margin[i] <= 0", "scored.margin[i] > 0"),
    ("the other side is the preferred one", "_row: scored.side[i] >= 0", "scored.side[i] < 0"),
]  # fmt: skip

BASELINES = [
    ("ties of a baseline are wrong", "_compare: (1 + verdict) / 2", "(verdict > 0) * 1.0"),
    ("difference the other way", "_compare: scored.correct - right", "right - scored.correct"),
    ("fitted on its own half", "_bag_of_words_margins: not there", "there"),
    ("words of the rejected side added", "_features: (pair.rejected, -1.0)", "(pair.rejected, 1.0)"),
    ("no penalty", "fit_pair_weights: x.T @ (special.expit(z) - label) + l2 * w", "x.T @ (special.expit(z) - label)"),
]  # fmt: skip

SPREAD = [
    ("one side's spread", "spread_section: scored.rewards.reshape(-1)", "scored.rewards[:, 0]"),
    ("signed gaps", "spread_section: np.abs(scored.gap)", "scored.gap"),
    ("margins of ties", "margin_section: scored.margin[scored.decided]", "scored.margin"),
]  # fmt: skip

EDITS = [
    ("one repetition less", "repeat_last_sentence: range(times)", "range(times - 1)"),
    ("the first sentence repeated", "repeat_last_sentence: [match.group().strip() for match in _SENTENCE.finditer(text)]", "[match.group().strip() for match in _SENTENCE.finditer(text)][:1]"),
    ("the first half deleted", "delete_second_half: parts[:len(parts) // 2]", "parts[len(parts) // 2:]"),
]  # fmt: skip

PROBES = [
    ("the preferred side edited", "_worse: scored.side[index] > 0", "scored.side[index] < 0"),
    ("wins of pairs ranked wrong", "_summarise: beats_preferred[ranked_right]", "beats_preferred"),
    ("change not in units of the spread", "_summarise: (after - before) / scale", "after - before"),
    ("the other prompt is the own one", "other_prompts: scored.prompts[j] != scored.prompts[i]", "True"),
    ("lift the other way", "prompt_section: own.margin - other.margin", "other.margin - own.margin"),
    ("drop of the worse side", "prompt_section: np.where(own.side > 0, 0, 1)", "np.where(own.side > 0, 1, 0)"),
]  # fmt: skip

BEST_OF_N = [
    ("judges at random", "best_of_n_curve: best_of_n_mean([rewards[i] for i in kept], [values[i] for i in kept], n)", "best_of_n_mean([rewards[i] for i in kept], [values[i] for i in kept], n if name == 'reward' else 1)"),
    ("prompts with too few samples", "best_of_n_curve: len(row) >= n", "len(row) >= 1"),
]  # fmt: skip

DISTANCE = [
    ("the farthest bin first", "_quantile_masks: np.unique(index)[::-1]", "np.unique(index)"),
    ("the place of the chosen side", "distance_section: each.mean(axis=1)", "each[:, 0]"),
    ("unscored pairs stay", "distance_section: np.isfinite(each).all(axis=1)", "np.isfinite(each).any(axis=1)"),
    ("preferred and other swapped", "distance_section: np.where(kept.side > 0, 0, 1)", "np.where(kept.side > 0, 1, 0)"),
    ("bins of any size", "_quantile_masks: len(place) // MIN_DISTANCE_BIN_PAIRS", "len(place)"),
]  # fmt: skip

REFERENCE = [
    ("sums, not means", "mean_response_logprobs: total / sum(masks[i])", "total"),
    ("the prompt counts too", "mean_response_logprobs: i >= max(start, 1)", "i >= 1"),
    ("any run below is the SFT model", '_is_sft: training.get("type") == "sft"', "True"),
    ("token ids of another tokenizer", "find_reference.logprobs: isinstance(pair, TokenPair)", "False"),
]  # fmt: skip

LEARNING_CURVE = [
    ("labels never flipped", "learning_curve: 1 - label[flipped]", "label[flipped]"),
    ("every fraction is all pairs", "learning_curve: order[:max(round(len(x) * fraction), 2)]", "order"),
    ("held-out labels forgotten", "learning_curve: test @ weights * scored.side", "test @ weights"),
]  # fmt: skip

STABILITY = [
    ("repeatability of nothing", "repeatability_section: together - alone", "together - together"),
    ("signed moves", "_moves: np.abs(change)", "change"),
]  # fmt: skip

LISTS = [
    ("the best chosen response counts", "_credit: right.min() > wrong.max()", "right.max() > wrong.max()"),
    ("equal rewards are right", "_credit: right.min() > wrong.max()", "right.min() >= wrong.max()"),
    ("a shared maximum is right", "_credit: 1 / (1 + int((wrong == right[0]).sum()))", "1.0"),
    ("0 / 0 in the term is a fall", "ties_score: np.tanh(np.minimum(tied, ref) / spread - 1)", "np.tanh(np.nan_to_num(np.minimum(tied, ref) / spread) - 1)"),
    ("easy and hard swapped", "style_figures: (np.tril_indices(STYLES, -1), np.triu_indices(STYLES, 1))", "(np.triu_indices(STYLES, 1), np.tril_indices(STYLES, -1))"),
    ("chance of one chosen response", "_chance: k / (len(row.rejected) + k)", "1 / (len(row.rejected) + len(row.chosen))"),
    ("the spread of all responses", "ties_score: float(right.max() - right.min())", "float(values.max() - values.min())"),
    ("hard without the ref row", "ties_score: np.minimum(tied, ref) > spread", "tied > spread"),
    ("the term is not small", "ties_score: 0.01 * term", "0.1 * term"),
]  # fmt: skip

FAULTS = [
    ("a constant has further faults", "find_faults: _constant(card['spread'])", "None"),
    ("flipped by the point estimate", "find_faults: accuracy['high'] < 0.5", "accuracy['share'] < 0.5"),
    ("length by one kind alone", "_length_bias: good['low'] > 0.5 and bad['high'] < 0.5", "good['low'] > 0.5"),
    ("blind by the point estimate", "_ignores_prompt: prompt['flips']['high'] < BLIND_FLIPS", "prompt['flips']['share'] < BLIND_FLIPS"),
    ("an edit that lowers the reward is paid", '_raises_reward: change["low"] > EXPLOIT_CHANGE', "abs(change['low']) > EXPLOIT_CHANGE"),
    ("null responses by their change", "_raises_reward: probe['name'] in _REPLACES", "False"),
    ("lengthening edits named twice", "_exploitable: 'prefers_longer' in biased", "False"),
    ("saturated rewards alone", "_saturated: max(spread['saturated_rewards'], spread['saturated_gaps'])", "min(spread['saturated_rewards'], spread['saturated_gaps'])"),
]  # fmt: skip

JUDGEMENT = [
    ("65 % by the point estimate", "accuracy_sentence: high < LOW", "accuracy['share'] < LOW"),
    ("90 % by the upper end", "accuracy_sentence: low >= SUSPICIOUS", "high >= SUSPICIOUS"),
    ("guessing is good", "judge_card: accuracy is None or accuracy['low'] <= 0.5", "False"),
    ("skew of one side", "_spread_warnings: is_position_skewed(first, spread['positions_known'])", "first >= 0.95"),
    ("a small policy is warned of", "_context_warnings: size['policy'] > SMALL_MODEL * size['reward_model']", "size['reward_model'] > SMALL_MODEL * size['policy']"),
    ("leaks not counted", "_context_warnings: part.get('trained_prompts', 0)", "0"),
    ("baselines by the point estimate", "_accuracy_warnings: difference['low'] <= 0", "difference['mean'] <= 0"),
]  # fmt: skip

GATE = [
    ("the gate takes the point estimate", "gate_reasons: accuracy['low'] < gate.accuracy", "accuracy['share'] < gate.accuracy"),
    ("every fault blocks", "gate_reasons: fault['name'] in gate.faults", "True"),
    ("an accepted gate is accepted for ever", "apply_gate: before.get('accepted') is True and before | {'accepted': False} == decision | {'accepted': False}", "before.get('accepted') is True"),
]  # fmt: skip

PROVENANCE = [
    ("sides swapped", "written_by: (_clean(row[first]), _clean(row[second]))", "(_clean(row[second]), _clean(row[first]))"),
]  # fmt: skip

GRID = [
    ("rows at the limit are over it", "grid_cells: row.tokens > limit", "row.tokens >= limit"),
    ("shares of all stages", "grid_cells: r.stage == stage and domain in ('all', r.domain or 'none')", "domain in ('all', r.domain or 'none')"),
    ("SFT reads the worse side", "row_lengths: row.label > 0.5", "row.label < 0.5"),
    ("shortened rows are dropped", "_dropped: n < tokens and isinstance(encode(n), RenderFailure)", "n < tokens"),
]  # fmt: skip

ADVICE = [
    ("warned of unknown writers", "warn_off_policy: not names or any((PurePath(name).name in parts or name in parts for name in names))", "any((PurePath(name).name in parts or name in parts for name in names))"),
    ("final/ is a name", "warn_off_policy: part.casefold() not in _NO_NAME", "True"),
    ("ties have a position", "describe_positions: pair.chosen_first is not None", "True"),
]  # fmt: skip

TABLES = {
    (
        "data/length_grid.py",
        "test_data_check.py::test_the_grid_of_limits_stages_and_domains test_data_check.py::test_prompts_and_tokens_have_a_grid_too test_data_check.py::test_a_row_of_the_limit_fits_and_sft_reads_the_better_side",
    ): GRID,
    (
        "data/advice.py",
        "data/test_advice.py test_data_check.py::test_who_wrote_the_responses_and_a_policy_without_samples",
    ): ADVICE,
    ("card/scored.py", "card/test_sections.py"): SCORED,
    ("card/accuracy.py", "card/test_sections.py"): ACCURACY,
    ("card/rows.py", "card/test_sections.py"): ROWS,
    ("card/baselines.py", "card/test_sections.py"): BASELINES,
    ("card/spread.py", "card/test_sections.py"): SPREAD,
    ("card/edits.py", "card/test_sections.py"): EDITS,
    ("card/probes.py", "card/test_sections.py"): PROBES,
    ("card/best_of_n.py", "card/test_sections.py"): BEST_OF_N,
    ("card/distance.py", "card/test_distance.py"): DISTANCE,
    ("card/reference.py", "card/test_distance.py"): REFERENCE,
    ("card/learning_curve.py", "card/test_sections.py"): LEARNING_CURVE,
    ("card/stability.py", "card/test_sections.py"): STABILITY,
    ("card/list_benchmarks.py", "card/test_list_benchmarks.py"): LISTS,
    ("card/faults.py", "card/test_faults.py card/test_judgement.py"): FAULTS,
    ("card/judgement.py", "card/test_judgement.py"): JUDGEMENT,
    (
        "card/gate.py",
        "card/test_gate.py::test_the_lower_end_of_the_interval_and_the_named_faults_decide card/test_gate.py::test_the_decision_is_recorded_and_an_accepted_one_is_not_asked_again",
    ): GATE,
    ("data/provenance.py", "card/test_provenance.py"): PROVENANCE,
    ("maths/statistics/calibration.py", "maths/test_calibration.py"): CALIBRATION,
    ("maths/statistics/agreement.py", "maths/test_agreement.py"): AGREEMENT,
    ("maths/statistics/intervals.py", "maths/test_clustered_intervals.py"): INTERVALS,
}

CARD = [
    Mutant(name, file, old, new, tests)
    for (file, tests), rows in TABLES.items()
    for name, old, new in rows
]  # fmt: skip
