"""Mistakes in seals: what is sealed, what is checked, and when the seal comes and goes."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

SEALS_TESTS, DAMAGE = "run/test_seals.py", "end_to_end/test_damage.py"
ORDER = f"{DAMAGE}::test_a_run_is_sealed_before_its_final_stands_and_before_it_is_called_finished"
COMMAND = f"{DAMAGE}::test_a_command_that_meets_a_damaged_file_says_so_and_changes_nothing"
LOADING = f"{DAMAGE}::test_an_evaluation_meets_a_model_that_was_damaged_since"
KINDS = f"{DAMAGE}::test_200_flips_and_100_truncations_of_each_kind_are_found"

SEALS = [
    Mutant("seals: every file passes", "run/seals.py", "return None if found == sha256 else", "return None if found else", SEALS_TESTS),
    Mutant("seals: a missing file passes", "run/seals.py", 'return "is missing"', "return None", SEALS_TESTS),
    Mutant("seals: the seal itself is believed", "run/seals.py", "if written == _text(sums):", "if sums:", SEALS_TESTS),
    Mutant("seals: a damaged seal is no seal", "run/seals.py", "if not _FIRST.startswith(written[: len(_FIRST)]) and not _LAST.search(written):", "if True:", SEALS_TESTS),
    Mutant("seals: a damaged first line is another tool's", "run/seals.py", " and not _LAST.search(written):", ":", SEALS_TESTS),
    Mutant("seals: an emptied seal is no seal", "run/seals.py", "not _FIRST.startswith(written[: len(_FIRST)])", "not written.startswith(_FIRST)", SEALS_TESTS),
    Mutant("seals: another tool's sums are damaged", "run/seals.py", "        return None\n    raise UserError(\n", "        pass\n    raise UserError(\n", SEALS_TESTS),
    Mutant("seals: lines in any order", "run/seals.py", "for name in sorted(sums)).encode()", "for name in sums).encode()", SEALS_TESTS),
    Mutant("seals: files in a folder of the folder pass", "run/seals.py", "for folder in path.parents[:DEEPEST]:", "for folder in path.parents[:1]:", SEALS_TESTS),
    Mutant("seals: the outer seal speaks for inner files", "run/seals.py", "        name = path.relative_to(folder).as_posix()\n        if (sha256", "        name = path.name\n        if (sha256", SEALS_TESTS),
    Mutant("seals: everything counts as weights", "run/seals.py", "if weights or not name.endswith", "if weights and not name.endswith", SEALS_TESTS),
    Mutant("seals: only weights are checked", "run/seals.py", 'if weights or not name.endswith(".safetensors"):', 'if weights or name.endswith(".safetensors"):', SEALS_TESTS),
    Mutant("seals: text is read unchecked", "run/seals.py", "    check(path)\n    return path.read_text", "    return path.read_text", f"{KINDS}[results.json]"),
    Mutant("seals: nothing is flushed before", "run/seals.py", "        atomic.sync(path)\n        sums", "        sums", SEALS_TESTS),
    Mutant("seals: names of files are not flushed before", "run/seals.py", "        atomic.sync(inner)\n", "        pass\n", SEALS_TESTS),
    Mutant("seals: changes within a tick are missed", "run/seals.py", "_digest.__wrapped__(*key) if recent else _digest(*key)", "_digest(*key)", SEALS_TESTS),
    Mutant("seals: every check reads the file", "run/seals.py", "_digest.__wrapped__(*key) if recent else _digest(*key)", "_digest.__wrapped__(*key)", SEALS_TESTS),
    Mutant("seals: a restored time hides a change", "run/seals.py", "facts.st_mtime_ns, facts.st_ctime_ns)\n    recent", "facts.st_mtime_ns, 0)\n    recent", SEALS_TESTS),
    Mutant("seals: unsealing leaves the seal", "run/seals.py", "        (folder / SUMS).unlink()\n", "        pass\n", SEALS_TESTS),
    Mutant("verify: damage is success", "cli.py", "raise typer.Exit(1 if any(one.problems for one in found) else 0)", "raise typer.Exit(0)", SEALS_TESTS),
    Mutant("verify: checkpoints are passed over", "run/verify.py", "if checkpoint.is_kept(folder.absolute()):", "if False:", SEALS_TESTS),
    Mutant("verify: what is in quarantine counts", "run/checkpoint.py", " and path.parent.name in HOLDERS", "", SEALS_TESTS),
    Mutant("loop: final is not sealed", "train/loop.py", "    seals.seal(unfinished)\n", "", ORDER),
    Mutant("loop: a run is sealed after its final came", "train/loop.py", "    seals.seal(run.root, run.records())\n    atomic.publish(unfinished, run.final)\n", "    atomic.publish(unfinished, run.final)\n    seals.seal(run.root, run.records())\n", ORDER),
    Mutant("run: the old seal stays while training goes on", "train/run.py", "    seals.unseal(run.root)", "    pass", ORDER),
    Mutant("run: credit is not sealed", "run/folder.py", ', *self.credit.glob("*.parquet")', "", f"{DAMAGE}::test_every_file_is_sealed_but_those_that_may_change"),
    Mutant("evaluation: the old seal stays", "evaluate/suite.py", "    seals.unseal(folder.root)\n", "", f"{DAMAGE}::test_an_evaluation_that_starts_again_has_no_seal_until_its_end"),
    Mutant("evaluation: a lost seal is not made up for", "evaluate/suite.py", "        if seals.listed(folder.root) is None:", "        if False:", f"{DAMAGE}::test_an_evaluation_that_ended_before_its_seal_is_sealed_by_the_same_command"),
    Mutant("pipeline: the old seal stays", "pipeline.py", "    seals.unseal(output)", "    pass", f"{DAMAGE}::test_a_pipeline_that_goes_on_has_no_seal_until_its_report"),
    Mutant("report: files change under the seal", "pipeline.py", "    seals.unseal(root)", "    pass", f"{DAMAGE}::test_a_report_that_is_built_again_is_sealed_again"),
    Mutant("stored: read unchecked", "run/stored.py", "    seals.check(path)\n", "", COMMAND),
    Mutant("manifest: read unchecked", "run/manifest.py", "    seals.check(path)\n", "", COMMAND),
    Mutant("tables: read unchecked", "run/tables.py", "    seals.check(path)\n", "", f"{KINDS}[04_eval/responses.parquet]"),
    Mutant("claim: a damaged configuration is compared", "run/claim.py", "seals.read_text(path)", "path.read_text()", COMMAND),
    Mutant("inspect: the configuration is read unchecked", "inspect/recorded.py", "    seals.check(run.config)\n", "", COMMAND),
    Mutant("inspect: a damaged tokenizer is passed over in silence", "inspect/tokens.py", "        seals.check_folder(tokenizer_folder(source), weights=False)\n", "", COMMAND),
    Mutant("plan: settings are read unchecked", "plan/architecture.py", "    seals.check_folder(folder, weights=False)\n", "", COMMAND),
    Mutant("doctor: the record of another run is read unchecked", "doctor/subject.py", "    seals.check(path)\n", "", f"{DAMAGE}::test_the_doctor_finds_a_damaged_record"),
    Mutant("resolve: settings are read unchecked", "models/resolve.py", "    seals.check_folder(folder, weights=False)\n", "", f"{KINDS}[03_ppo/final/adapter_config.json]"),
    Mutant("resolve: damaged weights get a fingerprint", "models/resolve.py", "        seals.check_folder(self.folder)\n", "", LOADING),
    Mutant("tokenizer: read unchecked", "models/tokenizer.py", "    seals.check_folder(folder, weights=False)\n", "", f"{KINDS}[03_ppo/final/tokenizer_config.json]"),
    Mutant("backbone: loaded unchecked", "models/backbone.py", "        source.check()\n", "", LOADING),
    Mutant("backbone: an adapter is loaded unchecked", "models/backbone.py", "        seals.check_folder(folder)\n", "", LOADING),
    Mutant("backbone: the merged copy is not sealed", "models/backbone.py", "            seals.seal(unfinished)\n", "", "end_to_end/test_pipeline.py::test_a_run_may_start_from_a_ppo_run"),
    Mutant("reward model: loaded unchecked", "models/roles.py", "        source.check()\n", "", f"{KINDS}[02_rm/final/reward_head.safetensors]"),
    Mutant("classifier: loaded unchecked", "reward/classifier.py", "    source.check()\n", "", LOADING),
    Mutant("run: the record behind a model is read unchecked", "train/run.py", "    seals.check(record)\n", "", f"{DAMAGE}::test_a_damaged_record_says_nothing_of_supervised_fine_tuning"),
]  # fmt: skip
