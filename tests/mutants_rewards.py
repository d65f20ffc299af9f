"""Mistakes in the sources of reward: what is scored, by whom, and with which sign."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

PYTHON = [
    ("NaN is a reward", "PythonReward._reward: value is not None and (not math.isfinite(value))", "False"),
    ("no opinion counts as zero", 'PythonReward._reward: return_value.value', 'return_value.value or 0.0'),
    ("an old version of the function runs", 'PythonReward._import_module: code', "b'def score(prompt, response): return 1\\n'"),
    ("the function may change the records", "_details: copy.deepcopy(dict(prompt.details))", "dict(prompt.details)"),
    ("the weight is lost", "PythonReward.score: Score(self.name, value, self.weight)", "Score(self.name, value)"),
    ("sys.exit() of the function ends the run in silence", 'PythonReward._user_code_errors: BaseException', "Exception"),
]  # fmt: skip

ENSEMBLE = [
    ("disagreement pays", 'combine_scores: values.mean(axis=0) - penalty', "values.mean(axis=0) + penalty"),
    ("the spread is that of a sample", 'combine_scores: values.std(axis=0)', "values.std(axis=0, ddof=1)"),
    ("the best member counts", 'combine_scores: values.min', "values.max"),
    ("the spread is a reward", "EnsembleReward.score: 0.0", "1.0"),
]  # fmt: skip

LEARNED = [
    ("a bridged prompt ignores the limit", 'LearnedReward._encode_prompt: self.max_length is None', "True"),
    ("the response's tokens are not counted", 'LearnedReward._encode_prompt: self.max_length - response_length', "self.max_length"),
    ("NaN is clipped to a number", 'LearnedReward.standardized_scores: list(require_finite(self.name, rollouts, [self.model.standardize(value) for value in raw]))', "[self.model.standardize(value) for value in raw]"),
    ("a truncated response gets a forged end", "LearnedReward.tokenize: rollout.stop == 'end_of_turn'", "True"),
]  # fmt: skip

CLASSIFIER = [
    ("a logit in place of log-odds", 'ClassifierReward._label_scores: own - others.logsumexp(dim=1)', "own"),
    ("NaN is clipped to a number", 'ClassifierReward.score: require_finite(self.name, rollouts, [values[row] for row in rows])', "[values[row] for row in rows]"),
    ("always the first class", "ClassifierReward._find_label: by_name[label]", "0"),
    ("the response is truncated", "ClassifierReward._encode: 'only_first'", "'longest_first'"),
    ("the end of the prompt is truncated", "ClassifierReward.__init__: 'left'", "'right'"),
    ("a random head is taken", "load_classifier: sorted(told['missing_keys'])", "[]"),
    ("a response may write separators", "ClassifierReward._break_special_tokens: self._special_tokens.sub(lambda found: f'{found[0][0]} {found[0][1:]}', text)", "text"),
]  # fmt: skip

PARTS = [
    ("members take each other's adapter", "RewardLoader._source: f'{role}_{name}_{number}'", "f'{role}_{name}'"),
    ("a reward's own base is not watched", "RewardLoader._register_base: self.rewards.add_frozen(component, parameters, f'its own model, {name}')", "pass"),
    ("a changed function is not seen", 'ResolvedSources._lineage: self.functions[cached.column].sha256', "'0'"),
]  # fmt: skip

ISOLATION = [
    ("what a call changed stays", 'Isolation._isolated: process_state.restore_state(outer)', "pass"),
    ("the run's random draws are disturbed", 'Isolation._isolated: process_state.restore_random_state(drawn)', "pass"),
    ("a call begins where the one before left", 'Isolation.begin_call: process_state.restore_state(self._call_state)', "pass"),
    ("Ctrl-C is taken for the code's own", 'Isolation._record_interrupts.note: True', "False"),
    ("what it prints is swallowed", '_Output._say: self._lines <= MAX_PRINTED_LINES', "False"),
]  # fmt: skip

TABLES = [
    ("reward/isolation.py", ISOLATION, "reward/test_isolation.py"),
    ("reward/python_function.py", PYTHON, "reward/test_python_function.py reward/test_isolation.py"),
    ("reward/ensemble.py", ENSEMBLE, "reward/test_ensemble.py"),
    ("reward/learned.py", LEARNED, "reward/test_learned.py"),
    ("reward/classifier.py", CLASSIFIER, "reward/test_classifier.py"),
    ("reward/build.py", PARTS, "reward/test_build.py"),
]
REWARDS = [Mutant(name, file, old, new, tests) for file, table, tests in TABLES for name, old, new in table]
