"""Mistakes in reading other systems' responses, in choosing policies and scorers, and in comparing folders."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

FORMS, FILES = "data/test_external_responses.py", "evaluation/test_response_files.py"
ANYTHING, DIFF = "end_to_end/test_evaluate_anything.py", "evaluation/test_settings_diff.py"
CURVES, FOLDERS = "maths/test_overoptimisation.py", "end_to_end/test_compare_folders.py"
WORDS, FRONTIER = "evaluation/test_overoptimisation.py", "end_to_end/test_frontier.py"
EXTERNAL, MATCH = "data/external_responses.py", "evaluation/response_files.py"
SUITE, SCORERS = "evaluation/suite.py", "evaluation/scorers.py"
PURE = "maths/statistics/overoptimisation.py"

EVALUATION = [
    Mutant("responses: an unknown stop reason passes for an end", EXTERNAL, "_stop: 'end_of_turn' if reason in _ENDED else None", "'end_of_turn'", FORMS),
    Mutant("responses: truncation is not read", EXTERNAL, "_stop: 'length' if reason in _TRUNCATED else 'end_of_turn' if reason in _ENDED else None", "'end_of_turn' if reason in _ENDED else None", FORMS),
    Mutant("responses: only the first of a list is read", EXTERNAL, "_choices: [choice for item in value for choice in _choices(item)]", "_choices(value[0])", FORMS),
    Mutant("responses: a failed system is an empty response", EXTERNAL, "_choices: [(None, {})]", "[('', {})]", FORMS),
    Mutant("responses: matched by their place in the file", MATCH, "_KnownPrompts.find: row.id is not None and row.id in self._by_id", "False", FILES),
    Mutant("responses: one id for two prompts passes", MATCH, "_KnownPrompts.find: self._require_same_text(row, text)", "pass", FILES),
    Mutant("responses: one id for two conversations with one last turn passes", MATCH, "_first_difference: one != other", "one != other and one is sides[0][0]", FILES),
    Mutant("responses: equal texts are not counted", MATCH, "repeated_texts: len(prompts) - len({_text_key(prompt.messages) for prompt in prompts})", "0", FILES),
    Mutant("responses: whole numbers that a gap made floats are no ids", EXTERNAL, "_name: isinstance(cell, float) and cell.is_integer()", "False", FILES),
    Mutant("scorers: a rule takes the place of a column with gaps", SCORERS, "_default_scorer: sum(names[column] for names in file_columns)", "0", FILES),
    Mutant("scorers: failed responses need a score", MATCH, "number_columns: row.text is not None", "True", FILES),
    Mutant("responses: equal texts are one prompt", MATCH, "_KnownPrompts.find: [prompt for prompt in same if prompt not in self._used]", "same", FILES),
    Mutant("responses: null counts as a response", MATCH, "_assign: row.text is None", "False", FILES),
    Mutant("responses: samples in the order of the file", MATCH, "_in_order: sorted(rows, key=lambda row: row.sample or 0)", "list(rows)", FILES),
    Mutant("responses: more samples than every file has", MATCH, "match_files: min(len(own[p.id]) for own in found.values() for p in shared)", "max(len(own[p.id]) for own in found.values() for p in shared)", FILES),
    Mutant("responses: the fingerprint leaves out scores", MATCH, "fingerprint_rows: dict(r.values)", "{}", FILES),
    Mutant("responses: the fingerprint leaves out the text", MATCH, "fingerprint_rows: r.text", "None", FILES),
    Mutant("evaluation: another file under one name passes", SUITE, "_run: contents |= {name: fingerprint_rows(rows) for name, rows in files.items()}", "pass", ANYTHING),
    Mutant("evaluation: an unknown stop counts as not truncated", "evaluation/responses.py", "response_row: None if stop is None else stop == 'length'", "stop == 'length'", ANYTHING),
    Mutant("evaluation: a column of scores is another one's", SCORERS, "_column: part.path", "'reward'", ANYTHING),
    Mutant("evaluation: best of n is the worst", "evaluation/best_of_n.py", "choose: scores[i]", "-scores[i]", ANYTHING),
    Mutant("evaluation: best of n draws across samples", "evaluation/best_of_n.py", "choose: start // n % samples", "0", ANYTHING),
    Mutant("evaluation: a budget truncates nothing", "evaluation/responses.py", "truncate_responses: len(rollout.response_tokens) <= limit", "True", ANYTHING),
    Mutant("evaluation: a truncated response ended by itself", "evaluation/responses.py", "truncate_responses: 'length'", "rollout.stop", "evaluation/test_responses.py::test_a_response_beyond_a_budget_ends_there_truncated"),
    Mutant("evaluation: a checkpoint is the final model", "models/checkpoint_folder.py", "_weights: {name: tensor.to(found[name].dtype) for name, tensor in saved.items()}", "{}", ANYTHING),
    Mutant("evaluation: batch sensitivity scores in batches", "evaluation/batch_sensitivity.py", "measure: abs(a - b)", "a + 1.0", ANYTHING),
    Mutant("evaluation: slices are lost", SUITE, "_run: sources.load_prompts(config.data, seed=config.seed, keep=config.kept_columns)", "sources.load_prompts(config.data, seed=config.seed)", ANYTHING),
    Mutant("compare: equal weights elsewhere are a difference", "evaluation/settings_diff.py", "differences: key not in same", "True", DIFF),
    Mutant("compare: a seed is no difference", "evaluation/settings_diff.py", "confounding: effect not in WITHOUT_EFFECT", "effect not in WITHOUT_EFFECT and effect != 'random draws'", DIFF),
    Mutant("compare: two kinds of settings are controlled", "evaluation/settings_diff.py", "confounding: len(keys) == 1 and len(groups) == 1", "len(keys) >= 1", DIFF),
    Mutant("compare: secrets are shown", "evaluation/settings_diff.py", "differences: redact(left_settings.get(key), key)", "left_settings.get(key)", DIFF),
    Mutant("compare: a folder with itself", "evaluation/compare_folders.py", "compare_folders: left.resolve() == right.resolve()", "left == right", "malformed/test_odd_evaluations.py::test_what_cannot_be_compared_is_named"),
    Mutant("compare: left for right", "evaluation/compare_folders.py", "_shared_rows: zip(keyed, names, strict=True)", "zip(keyed, names[::-1], strict=True)", FOLDERS),
    Mutant("best of n: drawn with the wrong size", PURE, "selection_weights: math.comb(i, n - 1)", "math.comb(i, n - 1) * (i + 1)", CURVES),
    Mutant("best of n: with replacement", PURE, "selection_weights: math.comb(i, n - 1) / whole", '((i + 1) ** n - i ** n) / len(score_array) ** n', CURVES),
    Mutant("best of n: equal scores keep their order", PURE, "selection_weights: shared[rank]", "chance[np.argsort(np.argsort(score_array, kind='stable'))]", CURVES),
    Mutant("Gao: KL for its root", PURE, "fit_gao: np.sqrt(np.maximum(np.asarray(kl, dtype=np.float64), 0.0))", "np.maximum(np.asarray(kl, dtype=np.float64), 0.0)", CURVES),
    Mutant("Gao: the curve of best of n for RL", PURE, "_penalty: form == 'best_of_n'", "True", CURVES),
    Mutant("Gao: the peak of RL without − 1", PURE, "_peak: alpha / beta - 1", "alpha / beta", CURVES),
    Mutant("Gao: normal for t", PURE, "fit_gao: stats.t.ppf(0.975, free)", "1.96", CURVES),
    Mutant("divergence: within error", PURE, "find_divergence: -fall <= limit * error", "False", CURVES),
    Mutant("divergence: although the reward fell", PURE, "find_divergence: rise <= 0", "False", CURVES),
    Mutant("frontier: PPO's KL is another update's", "evaluation/overoptimisation.py", "_beside_best_of_n: last.kl", "points[0].kl", WORDS),
    Mutant("frontier: judged by its mean, not its change", "evaluation/overoptimisation.py", "fit_judge: p.changes[judge]", "p.judges[judge]", "evaluation/test_overoptimisation.py"),
    Mutant("frontier: chosen by the judge", "evaluation/frontier.py", "curve_points: best_of_n_mean(reward[known], gold[known], count)", "best_of_n_mean(gold[known], reward[known], count)", "evaluation/test_frontier.py"),
]  # fmt: skip
