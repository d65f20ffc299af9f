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
    ("a signal is not heeded", STOPPING, "    if _State.asked is None or not _State.listening:", "    if True:", "run/test_stopping.py"),
    ("a step that has begun is given up at once", STOPPING, "if late or not _State.begun:", "if True:", "run/test_stopping.py"),
    ("a step that has begun is waited for for ever", STOPPING, "if late or not _State.begun:", "if not _State.begun:", "run/test_stopping.py"),
    ("late and clean are one", STOPPING, "late=_State.begun)", "late=False)", "run/test_stopping.py"),
    ("a step never ends", STOPPING, "    try:\n        yield\n        _State.changing = False\n    finally:\n        _State.begun = False\n\n\ndef begun", "    yield\n    _State.changing = False\n\n\ndef begun", "run/test_stopping.py"),
    ("a second signal is a first one", STOPPING, "        os._exit(128 + number)", "        return", "run/test_stopping.py"),
    ("handlers stay", STOPPING, "            signal.signal(number, handler)", "            pass", "run/test_stopping.py"),
    ("the last run's signal ends the next", STOPPING, "_State.listening, _State.asked, _State.begun = True, None, False", "_State.listening = True", "run/test_stopping.py"),
    ("inner listening ends the outer", STOPPING, "if _State.listening or threading", "if threading", "run/test_stopping.py"),
    ("SIGTERM ends the process where it stands", STOPPING, "        signal.signal(signal.SIGTERM, _stop)", "        pass", "run/test_stopping.py"),
    ("two may write", WRITER, "        lock.acquire(blocking=False)", "        pass", "run/test_writer.py"),
    ("the folder stays locked", WRITER, "        lock.release()", "        pass", "run/test_writer.py"),
    ("the owner stays", WRITER, "        (folder / OWNER).unlink(missing_ok=True)\n", "", "run/test_writer.py"),
    ("room is not asked for", WRITER, "if free < needed:", "if False:", "run/test_writer.py"),
    ("moments take no room", LOOP, "return 3 * parameters + others", "return parameters + others", "train/test_best.py"),
    ("time does not count", "train/loop.py", "return minutes is not None and time.monotonic()", "return False and time.monotonic()", "train/test_best.py"),
    ("one checkpoint must do", LOOP, "2 * _bytes_of_checkpoint", "_bytes_of_checkpoint", "train/test_best.py"),
    ("a damaged part is believed", PARTS, "if hashlib.sha256(body).hexdigest().encode() != digest:", "if False:", "run/test_parts.py"),
    ("a part is made every time", PARTS, "if (kept := _read(path)) is not None:", "if (kept := None) is not None:", "run/test_parts.py"),
    ("lines end at any line end", PARTS, "body.splitlines()", "body.decode().splitlines()", "run/test_parts.py"),
    ("a full disk ends the work", PARTS, "if not atomic.disk_is_full(error):", "if True:", "run/test_parts.py"),
    ("the best is lost and nobody knows", BEST, "            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))", "            return", "train/test_best.py"),
    ("the best before stays", BEST, "        checkpoint.prune(folder, keep=1)\n", "", "train/test_best.py"),
    ("final is not flushed", ATOMIC, "    for path in [*sorted(unfinished.rglob(\"*\")), unfinished]:\n        sync(path)\n", "", "run/test_atomic.py"),
    ("an old folder is in the way", ATOMIC, "    if folder.exists():\n        os.rename(folder, replaced)\n", "", "run/test_atomic.py"),
    ("the name is not flushed", ATOMIC, "    os.rename(unfinished, folder)\n    sync(folder.parent)\n", "    os.rename(unfinished, folder)\n", "run/test_atomic.py"),
    ("new folders are not flushed", ATOMIC, "        folder.mkdir(exist_ok=True)\n        sync(folder.parent)\n", "        folder.mkdir(exist_ok=True)\n", "run/test_atomic.py"),
    ("an interrupted run is over", STATUS, "and not reason.startswith(\"interrupted\")", "", "run/test_status.py"),
    ("a run that stopped by itself is not over", STATUS, "return told[\"state\"] == \"completed\" or (", "return told[\"state\"] == \"completed\" and (", "run/test_status.py"),
    ("the state of a step given up is kept", LOOP, "self._save(self.done, self.before)", "self._save(self.done + 1, self.before)", "kill/test_signals.py"),
    ("what was not evaluated is trained again", LOOP, "            self._save(self.done + 1, self.stage.state() | {_UNLOGGED: texts})", "            pass", "kill/test_signals.py"),
    ("who stops after a step keeps the state before it", LOOP, "self.done, self.unlogged, self.before = number + 1, {}, stage.state()", "self.done, self.unlogged = number + 1, {}", "kill/test_signals.py"),
    ("a stopped run keeps no checkpoint", LOOP, "            self._save(self.done, self.before)", "            pass", "kill/test_signals.py"),
    ("weights change unsaid", OPTIMISER, "        stopping.begun()\n", "", "kill/test_signals.py"),
    ("a forward is no safe point", BACKBONE, "        stopping.check()\n", "", "kill/test_signals.py"),
    ("the file of the lines is not flushed", TRACKING, "        atomic.sync(self._run.root)", "        pass", "run/test_tracking.py"),
    ("parts are of other prompts", ANSWERS, "prompts[start : start + size]", "prompts[:size]", "evaluate/test_answers.py"),
    ("equal answers do not tie", ANSWERS, "distinct = list(dict.fromkeys(sequences))", "distinct = list(sequences)", "evaluate/test_answers.py"),
    ("all parts are of one policy", ANSWERS, "f\"answers-{number:02d}-{start:06d}.jsonl\"", "f\"answers-{start:06d}.jsonl\"", "evaluate/test_answers.py"),
    ("other prompts are mixed in", SUITE, "        \"prompts\": _fingerprint(prompts),\n", "", "evaluate/test_answers.py"),
    ("every change is accepted", "run/changes.py", "if differences and not self.accept:", "if False:", "end_to_end/test_changes.py"),
    ("an accepted change is not told", "train/run.py", '        extra["changes"] = [{', '        extra["changed"] = [{', "end_to_end/test_changes.py"),
    ("the last acceptance alone is told", "run/manifest.py", 'accepted := [*before.get("changes", []), *', 'accepted := [*', "end_to_end/test_changes.py"),
    ("an accepted change is asked for again", "train/run.py", "        claim.replace(run.config, settings)\n", "        pass\n", "end_to_end/test_changes.py"),
    ("a finished run takes another configuration", "train/run.py", "Changes(accept_changes, offered=not finished)", "Changes(accept_changes)", "end_to_end/test_changes.py"),
    ("versions are not compared", "train/run.py", "of_versions(manifest.read(run.manifest), manifest.versions())", "[]", "end_to_end/test_changes.py"),
    ("the end of a run on a full disk is lost", "run/status.py", "if not atomic.disk_is_full(error) or _is_end(told):", "if not atomic.disk_is_full(error):", "run/test_status.py"),
    ("a full disk ends a run for its status", "run/status.py", "if not atomic.disk_is_full(error) or _is_end(told):", "if True:", "run/test_status.py"),
    ("a run goes on with other rows", "train/run.py", "(before.get(\"data\"), now.get(\"data\"))", "(None, None)", "end_to_end/test_bad_input.py"),
    ("other rows have the same fingerprint", "train/load_data.py", "            digest.update(repr(row)", "            repr(repr(row)", "end_to_end/test_bad_input.py"),
    ("other settings are mixed in", SUITE, "folder.summary, folder.parts)", "folder.summary)", "evaluate/test_answers.py"),
]  # fmt: skip
KILL = [Mutant(f"kill: {name}", file, old, new, test) for name, file, old, new, test in TABLE]
