"""Mistakes in what is believed of files, and in what is said of those that are wrong."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

PUT_BACK, STORED, WEIGHTS = "train/test_restore.py", "run/test_json_io.py", "models/test_weights.py"
DROPPED, SAFE = "malformed/test_dropped_rows.py", "test_safe_files.py"

INPUT = [
    Mutant("config: a learning rate of any size", "config/base.py", "<module>: Field(gt=0, le=10)", "Field(gt=0)", "test_config.py"),
    Mutant("eval: prompts of the training are not told", "evaluation/trained_prompts.py", 'count_trained_prompts: trained_prompts.digest(prompt.messages)', "prompt.id", "end_to_end/test_trained_prompts.py"),
    Mutant("resume: a smaller tensor is spread over a larger one", "train/restore.py", '_mismatch: found[name].shape != tensor.shape', "found[name].dtype != tensor.dtype", PUT_BACK),
    Mutant("resume: a step beyond the end is taken", "train/restore.py", 'restore: stage.total', "stage.total + 1", PUT_BACK),
    Mutant("resume: a moment of any size", "train/restore.py", '_mismatch: not packed', "packed", PUT_BACK),
    Mutant("stored: numbers without end", "run/json_io.py", "_finite: not math.isfinite(number)", "math.isnan(number)", STORED),
    Mutant("stored: lines end at any letter that ends one", "run/json_io.py", "read_lines: _content(path, fix, bounded_read.MAX_LINES).split(b'\\n')[:-1]", '[line.encode() for line in _content(path, fix, bounded_read.MAX_LINES).decode().splitlines()[:-1]]', STORED),
    Mutant("stored: the last key at fault is named", "run/json_io.py", 'validate: error.errors(include_url=False)[0]', "{**error.errors(include_url=False)[0], 'loc': ()}", STORED),
    Mutant("weights: what the model's file lacks is made up", "models/weights.py", "read_model: told['missing_keys']", "[]", WEIGHTS),
    Mutant("weights: what an adapter's file lacks is made up", "models/weights.py", 'load_adapter: [key for key in wanted if key not in found]', "[key for key in found if key not in wanted]", WEIGHTS),
    Mutant("rows: every dropped row is listed", "data/report.py", 'DataReport.lines: self.dropped_rows[:MAX_LISTED_ROWS]', "self.rejects", DROPPED),
    Mutant("rows: the field at fault is not named", "data/report.py", "DroppedRow.line: (self.where, self.field)", "(self.where,)", DROPPED),
    Mutant("rows: leaks are the prompts that do not leak", "data/sources.py", "_warn_of_leaks: (prompt_key(record) in trained for record in held_out)", "(prompt_key(record) not in trained for record in held_out and [held_out[0]])", DROPPED),
    Mutant("rows: what repeats is told by prompt alone", "data/sources.py", '_row_content: (prompt_key(record), *answers)', "(prompt_key(record), record.prompt.id)", DROPPED),
    Mutant("split: held-out rows come from the split that is trained on", "data/sources.py", "load_split: data.model_copy(update={'limit': eval_limit, 'split': split})", "data.model_copy(update={'limit': eval_limit, 'split': data.split})", "data/test_sources.py"),
    Mutant("split: limit leaves the held-out rows whole", "data/sources.py", "load_split: data.limit if data.eval_limit is None else data.eval_limit", "data.eval_limit if data.eval_limit is None else data.eval_limit", "data/test_sources.py::test_limit_bounds_the_held_out_rows_too"),
    Mutant("account: the short one forgets warnings", "data/report.py", 'DataReport.summary: [self._totals_line(), *([f"  {\'; \'.join(parts)}"] if parts else []), *warnings]', '[self._totals_line(), *([f"  {\'; \'.join(parts)}"] if parts else []), *warnings[:1]]', "data/test_report.py"),
    Mutant("plan: held-out rows are told nowhere", "plan/report.py", "_duration: duration.outside_steps > 0", "duration.outside_steps < 0", "plan/test_plan.py::test_held_out_evaluation_has_a_line_of_its_own"),
    Mutant("advice: a key that is none", "health/learning_rules.py", "<module>: 'lower training.lr, training.ppo.epochs or training.ppo.minibatches; set training.ppo.target_kl_per_token'", "'lower training.lr, ppo.epochs or training.ppo.minibatches; set training.ppo.target_kl_per_token'", "test_advice.py"),
    Mutant("advice: a size is called a count", "config/errors.py", "_suggestion: foreign.conversion", "False", "config/test_files.py"),
    Mutant("advice: eval is offered what it has not", "run/config_lock.py", 'lock_config: AcceptedChanges(can_accept=False)', "AcceptedChanges()", "test_advice.py"),
    Mutant("bounds: what unpacks without end is unpacked", "data/compressed.py", '_read_limited: size > max(RATIO_CHECK_BYTES, MAX_RATIO * packed.tell())', "size < 0", "data/test_bounds.py"),
    Mutant("bounds: a text of any length is tokenised", "data/parse.py", "convert_rows: _letters(record) > longest", "_letters(record) < 0", "data/test_bounds.py"),
    Mutant("terminal: titles may be set", "run/terminal.py", "<module>: '(?:\\\\x1b\\\\[|\\\\x9b)[0-9;?]*[ -/]*[@-~]|\\\\x1b[\\\\]PX^_].*?(?:\\\\x07|\\\\x1b\\\\\\\\|$)|[\\\\x00-\\\\x08\\\\x0b-\\\\x1f\\\\x7f-\\\\x9f\\\\u202a-\\\\u202e\\\\u2066-\\\\u2069]'", "'(?:\\\\x1b\\\\[|\\\\x9b)[0-9;?]*[ -/]*[@-~]|\\\\x1b[\\\\]].{99}|[\\\\x00-\\\\x08\\\\x0b-\\\\x1f\\\\x7f-\\\\x9f\\\\u202a-\\\\u202e\\\\u2066-\\\\u2069]'", SAFE),
    Mutant("terminal: letters may run backwards", "run/terminal.py", "<module>: '(?:\\\\x1b\\\\[|\\\\x9b)[0-9;?]*[ -/]*[@-~]|\\\\x1b[\\\\]PX^_].*?(?:\\\\x07|\\\\x1b\\\\\\\\|$)|[\\\\x00-\\\\x08\\\\x0b-\\\\x1f\\\\x7f-\\\\x9f\\\\u202a-\\\\u202e\\\\u2066-\\\\u2069]'", "'(?:\\\\x1b\\\\[|\\\\x9b)[0-9;?]*[ -/]*[@-~]|\\\\x1b[\\\\]PX^_].*?(?:\\\\x07|\\\\x1b\\\\\\\\|$)|[\\\\x00-\\\\x08\\\\x0b-\\\\x1f\\\\x7f-\\\\x9f]'", SAFE),
    Mutant("terminal: results are printed as they are", "run/terminal.py", "show: strip_control(text)", "text", SAFE),
    Mutant("shards: any place may be read", "models/resolve.py", "_check_weights: Path(s).name != s or not (folder / s).is_file()", "not (folder / s).is_file()", "models/test_resolve.py"),
    Mutant("metrics: a value may be text", "evaluation/run_summary.py", "_is_metric: isinstance(value, int | float) and (not isinstance(value, bool))", "isinstance(value, int | float | str)", "evaluation/test_run_summary.py"),
    Mutant("configuration: sections within sections without end", "config/yaml.py", "<module>: 40", "4000", "config/test_yaml.py::test_nesting_and_aliases_have_an_end"),
    Mutant("configuration: a file of somebody else is overwritten", "run/own_folder.py", "_require_written_here: written != text", "False", "run/test_config_lock.py"),
    Mutant("configuration: results without one are overwritten", "run/own_folder.py", "require_own_folder: (*RESULTS, *PARTIAL_RESULTS)", "()", "run/test_config_lock.py"),
    Mutant("configuration: results of another command are mixed in", "run/own_folder.py", "require_no_results: folder / name not in own", "False", "run/test_config_lock.py"),
    Mutant("configuration: a killed attempt is another command's", "run/own_folder.py", "require_no_results: folder / name not in own", "True", "run/test_config_lock.py"),
    Mutant("train: another program's manifest is called damaged", "train/launch.py", "train: require_own_folder(run.config, (run.checkpoints, run.final, run.best))", "pass", "train/test_data_fingerprint.py"),
    Mutant("data: a changed file of a finished run is not seen", "train/load_data.py", "changed_files: before[key] != now[key]", "False", "train/test_data_fingerprint.py"),
    Mutant("data: the held-out file is not recorded", "train/load_data.py", "_file_hashes: ('path', 'eval_path')", "('path',)", "train/test_data_fingerprint.py"),
    Mutant("data: thumbs are read as demonstrations", "data_check.py", "check_data: task == 'unpaired_preference'", "False", "data/test_classified.py"),
    Mutant("data: thumbs are counted the wrong way", "data/classified.py", "parse_rated_rows: bool(record.desirable)", "not record.desirable or True", "data/test_classified.py"),
    Mutant("data: messages as a completion lose their prompt", "data/response_layouts.py", "prompt_response: [*prompt, *fields.parse_messages(row[name], name)]", "[*fields.parse_messages(row[name], name)]", "data/test_classified.py"),
    Mutant("data: columns of dropped rows are unused", "data/parse.py", "convert_rows: [name for name in columns_seen if name not in used] if records else []", "[name for name in columns_seen if name not in used]", "data/test_classified.py"),
    Mutant("data: any task fits a classifier", "data/parse.py", "_path: data.task not in (None, task) and (not (data.task == 'sft' and task in LABELLED_TASKS))", "False", "data/test_classified.py"),
    Mutant("configuration: each member of a union is a key", "config/errors.py", "_locate: not variants and _is_union(annotation)", "False", "config/test_errors.py"),
    Mutant("configuration: each member of a union is a problem", "config/errors.py", "explain: len(set(places)) - 1", "len(problems) - 1", "config/test_errors.py"),
    Mutant("counts: one thing is several", "run/counted.py", "counted: number == 1", "False", "run/test_counted.py"),
    Mutant("checkpoints: the settings of another run are taken", "models/checkpoint_folder.py", "_cached: [(file.name, file_sha256(file)) for file in sorted(copied)]", "[]", "end_to_end/test_evaluate_anything.py::test_a_step_has_the_settings_of_its_own_run"),
    Mutant("configuration: infinite numbers", "config/base.py", "Strict: False", "True", "config/test_rewards.py"),
]  # fmt: skip
