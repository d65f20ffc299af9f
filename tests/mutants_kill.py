"""Mistakes in stopping, locking and going on."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

STOPPING, WRITER, PARTS, ATOMIC, STATUS, LOOP = (
    "run/stopping.py",
    "run/writer.py",
    "run/parts.py",
    "run/atomic.py",
    "run/status.py",
    "train/loop.py",
)
ANSWERS, SUITE, BEST, OPTIMISER, BACKBONE, CHECKPOINT, TRACKING = (
    "evaluate/answers.py",
    "evaluate/suite.py",
    "train/best.py",
    "train/optimiser.py",
    "models/backbone.py",
    "run/checkpoint.py",
    "run/tracking.py",
)

# Mistake, file, what stands there, what is planted, the test that must see it.
TABLE = [
    ("a signal is not heeded", STOPPING, "check: _State.asked is None or not _State.listening", "True", "run/test_stopping.py"),
    ("a step that has begun is given up at once", STOPPING, "check: late or not _State.begun", "True", "run/test_stopping.py"),
    ("a step that has begun is waited for for ever", STOPPING, "check: late or not _State.begun", "not _State.begun", "run/test_stopping.py"),
    ("late and clean are one", STOPPING, "check: Stopped(_State.asked, late=_State.begun)", "Stopped(_State.asked, late=False)", "run/test_stopping.py"),
    ("a step never ends", STOPPING, "step: try:\n    yield\n    _State.changing = False\nfinally:\n    _State.begun = False", "yield\n_State.changing = False", "run/test_stopping.py"),
    ("a second signal is a first one", STOPPING, "_note: os._exit(128 + number)", "return", "run/test_stopping.py"),
    ("handlers stay", STOPPING, "listening: signal.signal(number, handler)", "pass", "run/test_stopping.py"),
    ("the last run's signal ends the next", STOPPING, "listening: _State.listening, _State.asked, _State.begun = (True, None, False)", "_State.listening = True", "run/test_stopping.py"),
    ("inner listening ends the outer", STOPPING, "listening: _State.listening or threading.current_thread() is not threading.main_thread()", "threading.current_thread() is not threading.main_thread()", "run/test_stopping.py"),
    ("SIGTERM ends the process where it stands", STOPPING, "raise_on_terminate: signal.signal(signal.SIGTERM, _stop)", "pass", "run/test_stopping.py"),
    ("two may write", WRITER, "writing: lock.acquire(blocking=False)", "pass", "run/test_writer.py"),
    ("the folder stays locked", WRITER, "writing: lock.release()", "pass", "run/test_writer.py"),
    ("the owner stays", WRITER, "writing: (folder / OWNER).unlink(missing_ok=True)", "pass", "run/test_writer.py"),
    ("room is not asked for", WRITER, "require_room: free < needed", "False", "run/test_writer.py"),
    ("moments take no room", LOOP, "_bytes_of_checkpoint: 3 * parameters", "parameters", "train/test_best.py"),
    ("time does not count", "train/loop.py", "_Loop._long_ago: minutes is not None", "False", "train/test_best.py"),
    ("one checkpoint must do", LOOP, "_Loop.__init__: 2 * _bytes_of_checkpoint(stage.tensors())", "_bytes_of_checkpoint(stage.tensors())", "train/test_best.py"),
    ("a damaged part is believed", PARTS, "_read: hashlib.sha256(body).hexdigest().encode() != digest", "False", "run/test_parts.py"),
    ("a part is made every time", PARTS, "part: _read(path)", "None", "run/test_parts.py"),
    ("lines end at any line end", PARTS, "_read: body.splitlines", "body.decode().splitlines", "run/test_parts.py"),
    ("a full disk ends the work", PARTS, "part: not atomic.disk_is_full(error)", "True", "run/test_parts.py"),
    ("the best is lost and nobody knows", BEST, "Best.consider: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))", "return", "train/test_best.py"),
    ("the best before stays", BEST, "Best.__init__: checkpoint.prune(folder, keep=1)", "pass", "train/test_best.py"),
    ("final is not flushed", ATOMIC, "publish: for path in [*sorted(unfinished.rglob('*')), unfinished]:\n    sync(path)", "pass", "run/test_atomic.py"),
    ("an old folder is in the way", ATOMIC, "publish: if folder.exists():\n    os.rename(folder, replaced)", "pass", "run/test_atomic.py"),
    ("the name is not flushed", ATOMIC, "publish: sync(folder.parent)", "pass", "run/test_atomic.py"),
    ("new folders are not flushed", ATOMIC, "make_folder: sync(folder.parent)", "pass", "run/test_atomic.py"),
    ("an interrupted run is over", STATUS, "_is_end: told['state'] == 'stopped' and (not reason.startswith('interrupted'))", "told['state'] == 'stopped'", "run/test_status.py"),
    ("a run that stopped by itself is not over", STATUS, "_is_end: told['state'] == 'completed' or (told['state'] == 'stopped' and (not reason.startswith('interrupted')))", "told['state'] == 'completed' and (told['state'] == 'stopped' and (not reason.startswith('interrupted')))", "run/test_status.py"),
    ("the state of a step given up is kept", LOOP, "_Loop._save_here: self._save(self.done, self.before)", "self._save(self.done + 1, self.before)", "kill/test_signals.py"),
    ("what was not evaluated is trained again", LOOP, "_Loop._save_here: self._save(self.done + 1, self.stage.state() | {_UNLOGGED: texts})", "pass", "kill/test_signals.py"),
    ("who stops after a step keeps the state before it", LOOP, "_Loop.train: self.done, self.unlogged, self.before = (number + 1, {}, stage.state())", "self.done, self.unlogged = (number + 1, {})", "kill/test_signals.py"),
    ("a stopped run keeps no checkpoint", LOOP, "_Loop._save_here: self._save(self.done, self.before)", "pass", "kill/test_signals.py"),
    ("weights change unsaid", OPTIMISER, "Optimiser.move: stopping.begun()", "pass", "kill/test_signals.py"),
    ("a forward is no safe point", BACKBONE, "Backbone.forward: stopping.check()", "pass", "kill/test_signals.py"),
    ("the file of the lines is not flushed", TRACKING, "Tracker.start: atomic.sync(self._run.root)", "pass", "run/test_tracking.py"),
    ("parts are of other prompts", ANSWERS, "answer: prompts[start:start + size]", "prompts[:size]", "evaluate/test_answers.py"),
    ("equal answers do not tie", ANSWERS, "score: dict.fromkeys(sequences)", "sequences", "evaluate/test_answers.py"),
    ("all parts are of one policy", ANSWERS, "answer: f'answers-{number:02d}-{start:06d}.jsonl'", "f'answers-{start:06d}.jsonl'", "evaluate/test_answers.py"),
    ("other prompts are mixed in", SUITE, "_run: {'fingerprints': contents | {f'judge {name}': part for name, part in judges.lineage().items()}, 'prompts': _fingerprint(prompts), 'batch_shape': BATCH_SHAPE}", "{'fingerprints': contents | {f'judge {name}': part for name, part in judges.lineage().items()}, 'batch_shape': BATCH_SHAPE}", "evaluate/test_answers.py"),
    ("every change is accepted", "run/changes.py", "Changes.meet: differences and (not self.accept)", "False", "end_to_end/test_changes.py"),
    ("an accepted change is not told", "train/run.py", "_train: 'changes'", "'changed'", "end_to_end/test_changes.py"),
    ("the last acceptance alone is told", "run/manifest.py", "write: [*before.get('changes', []), *extra.get('changes', [])]", "[*extra.get('changes', [])]", "end_to_end/test_changes.py"),
    ("an accepted change is asked for again", "train/run.py", "_train: claim.replace(run.config, settings)", "pass", "end_to_end/test_changes.py"),
    ("a finished run takes another configuration", "train/run.py", "_train: Changes(accept_changes, offered=not finished)", "Changes(accept_changes)", "end_to_end/test_changes.py"),
    ("versions are not compared", "train/run.py", "_train: of_versions(manifest.read(run.manifest), manifest.versions())", "[]", "end_to_end/test_changes.py"),
    ("the end of a run on a full disk is lost", "run/status.py", "write: not atomic.disk_is_full(error) or _is_end(told)", "not atomic.disk_is_full(error)", "run/test_status.py"),
    ("a full disk ends a run for its status", "run/status.py", "write: not atomic.disk_is_full(error) or _is_end(told)", "True", "run/test_status.py"),
    ("a run goes on with other rows", "train/run.py", "_check_lineage: (before.get('data'), now.get('data'))", "(None, None)", "end_to_end/test_bad_input.py"),
    ("other rows have the same fingerprint", "train/load_data.py", "lineage: digest.update(repr(row).encode('utf-8', 'surrogatepass'))", "repr(repr(row).encode('utf-8', 'surrogatepass'))", "end_to_end/test_bad_input.py"),
    ("other settings are mixed in", SUITE, "_evaluate: claim(folder.config, settings, folder.summary, folder.parts)", "claim(folder.config, settings, folder.summary)", "evaluate/test_answers.py"),
]  # fmt: skip
KILL = [Mutant(f"kill: {name}", file, old, new, test) for name, file, old, new, test in TABLE]
