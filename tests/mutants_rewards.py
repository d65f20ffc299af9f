"""Mistakes in the sources of reward: what is scored, by whom, and with which sign."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

PYTHON = [
    ("NaN is a reward", "if value is not None and not math.isfinite(value):", "if False:"),
    ("no opinion counts as zero", "        value = returned.value\n", "        value = returned.value or 0.0\n"),
    ("an old version of the function runs", "exec(compile(code, str(self._file)", 'exec(compile(b"def score(prompt, response): return 1\\n", str(self._file)'),
    ("the function may change the records", "        copy.deepcopy(dict(prompt.details)),\n", "        dict(prompt.details),\n"),
    ("the weight is lost", "Score(self.name, value, self.weight)", "Score(self.name, value)"),
    ("sys.exit() of the function ends the run in silence", "        except BaseException as error:\n            if self._isolation.is_request(error):\n                raise\n            what = f\"{self._called} failed", "        except Exception as error:\n            if self._isolation.is_request(error):\n                raise\n            what = f\"{self._called} failed"),
]  # fmt: skip

ENSEMBLE = [
    ("disagreement pays", "values.mean(axis=0) - penalty", "values.mean(axis=0) + penalty"),
    ("the spread is that of a sample", "penalty = k * values.std(axis=0)", "penalty = k * values.std(axis=0, ddof=1)"),
    ("the best member counts", "values.min(axis=0)", "values.max(axis=0)"),
    ("the spread is a reward", "float(sd), 0.0)", "float(sd), 1.0)"),
]  # fmt: skip

LEARNED = [
    ("a bridged prompt ignores the limit", "            if self.max_length is None:\n", "            if True:\n"),
    ("the answer's tokens are not counted", "self.max_length - taken", "self.max_length"),
    ("NaN is clipped to a number", "list(finite(self.name, rollouts, [self.model.standard(value) for value in raw]))", "[self.model.standard(value) for value in raw]"),
    ("a cut answer gets a forged end", 'ended=rollout.stop == "end_of_turn"', "ended=True"),
]  # fmt: skip

CLASSIFIER = [
    ("a logit in place of log-odds", "own - others.logsumexp(dim=1)", "own"),
    ("NaN is clipped to a number", "raw = finite(self.name, rollouts, [values[row] for row in rows])", "raw = [values[row] for row in rows]"),
    ("always the first class", "return by_name[label]", "return 0"),
    ("the answer is cut", '"truncation": "only_first"', '"truncation": "longest_first"'),
    ("the end of the prompt is cut", 'tokenizer.truncation_side = "left"', 'tokenizer.truncation_side = "right"'),
    ("a random head is taken", 'if missing := sorted(told["missing_keys"]):', "if missing := []:"),
    ("an answer may write separators", 'return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)', "return text"),
]  # fmt: skip

PARTS = [
    ("members take each other's adapter", 'f"{role}_{name}_{number}"', 'f"{role}_{name}"'),
    ("a reward's own base is not watched", "        self.rewards.add(component, parameters, f\"its own model, {name}\")\n", ""),
    ("a changed function is not seen", '"fingerprint": self.functions[part.column].sha256}', '"fingerprint": "0"}'),
]  # fmt: skip

ISOLATION = [
    ("what a call changed stays", "            surroundings.put(outer)\n", ""),
    ("the run's random draws are disturbed", "            surroundings.put_random_state(drawn)\n", ""),
    ("a call begins where the one before left", "        surroundings.put(self._before)\n", ""),
    ("Ctrl-C is taken for the code's own", "self._interrupted = True", "self._interrupted = False"),
    ("what it prints is swallowed", "if self._lines <= MOST_LINES:", "if False:"),
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
