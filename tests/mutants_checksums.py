"""Mistakes in checksums: which files have them, what is verified, and when they are written and removed."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

CHECKSUM_TESTS, DAMAGE = "run/test_checksums.py", "end_to_end/test_damage.py"
ORDER = f"{DAMAGE}::test_checksums_are_written_before_final_appears_and_the_run_is_finished"
COMMAND = f"{DAMAGE}::test_commands_report_a_damaged_file_and_change_nothing"
ALONE = f"{DAMAGE}::test_each_reader_checks_what_it_reads_by_itself"
LOADING = f"{DAMAGE}::test_an_evaluation_meets_a_model_that_was_damaged_since"
KINDS = f"{DAMAGE}::test_200_flips_and_100_truncations_of_each_kind_are_found"

CHECKSUMS = [
    Mutant("checksums: every file passes", "run/checksums.py", 'file_problem: found == sha256', "found", CHECKSUM_TESTS),
    Mutant("checksums: a missing file passes", "run/checksums.py", "file_problem: 'is missing'", "None", CHECKSUM_TESTS),
    Mutant("checksums: the file of checksums is not verified", "run/checksums.py", 'read_checksums: written == _text(sums)', "sums", CHECKSUM_TESTS),
    Mutant("checksums: a damaged seal is no seal", "run/checksums.py", 'read_checksums: not _FIRST.startswith(written[:len(_FIRST)]) and (not _LAST.search(written))', "True", CHECKSUM_TESTS),
    Mutant("checksums: a damaged first line is another tool's", "run/checksums.py", 'read_checksums: not _FIRST.startswith(written[:len(_FIRST)]) and (not _LAST.search(written))', "not _FIRST.startswith(written[:len(_FIRST)])", CHECKSUM_TESTS),
    Mutant("checksums: an emptied seal is no seal", "run/checksums.py", 'read_checksums: _FIRST.startswith(written[:len(_FIRST)])', "written.startswith(_FIRST)", CHECKSUM_TESTS),
    Mutant("checksums: another tool's sums are damaged", "run/checksums.py", 'read_checksums: if not _FIRST.startswith(written[:len(_FIRST)]) and (not _LAST.search(written)):\n    return None', "if not _FIRST.startswith(written[:len(_FIRST)]) and (not _LAST.search(written)):\n    pass", CHECKSUM_TESTS),
    Mutant("checksums: lines in any order", "run/checksums.py", "_text: sorted(sums)", "sums", CHECKSUM_TESTS),
    Mutant("checksums: files in a folder of the folder pass", "run/checksums.py", 'verify_file: MAX_PATH_PARTS', "1", CHECKSUM_TESTS),
    Mutant("checksums: outer checksums are used for inner files", "run/checksums.py", 'verify_file: path.relative_to(folder).as_posix()', "path.name", CHECKSUM_TESTS),
    Mutant("checksums: everything counts as weights", "run/checksums.py", "verify_folder: weights or not name.endswith('.safetensors')", "weights and (not name.endswith('.safetensors'))", CHECKSUM_TESTS),
    Mutant("checksums: only weights are checked", "run/checksums.py", "verify_folder: not name.endswith('.safetensors')", "name.endswith('.safetensors')", CHECKSUM_TESTS),
    Mutant("checksums: text is read unchecked", "run/checksums.py", 'read_verified_text: verify_file(path)', "pass", f"{KINDS}[results.json]"),
    Mutant("checksums: nothing is flushed before", "run/checksums.py", 'write_checksums: atomic.sync(path)', "pass", CHECKSUM_TESTS),
    Mutant("checksums: names of files are not flushed before", "run/checksums.py", 'write_checksums: atomic.sync(inner)', "pass", CHECKSUM_TESTS),
    Mutant("checksums: changes within a tick are missed", "run/checksums.py", "file_sha256: _digest.__wrapped__(*key) if recent else _digest(*key)", "_digest(*key)", CHECKSUM_TESTS),
    Mutant("checksums: every check reads the file", "run/checksums.py", "file_sha256: _digest.__wrapped__(*key) if recent else _digest(*key)", "_digest.__wrapped__(*key)", CHECKSUM_TESTS),
    Mutant("checksums: a restored time hides a change", "run/checksums.py", "file_sha256: (path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)", "(path.resolve(), facts.st_size, facts.st_mtime_ns, 0)", CHECKSUM_TESTS),
    Mutant("checksums: removing the checksums leaves the file", "run/checksums.py", 'remove_checksums: (folder / CHECKSUMS).unlink()', "pass", CHECKSUM_TESTS),
    Mutant("verify: damage is success", "cli/main.py", "verify: 1 if any((one.problems for one in found)) else 0", "0", CHECKSUM_TESTS),
    Mutant("verify: checkpoints are passed over", "run/verify.py", "verify: checkpoint.is_checkpoint(folder.absolute())", "False", CHECKSUM_TESTS),
    Mutant("verify: what is in quarantine counts", "run/checkpoint.py", 'is_checkpoint: _STEP.fullmatch(path.name) is not None and path.parent.name in CHECKPOINT_FOLDERS', "_STEP.fullmatch(path.name) is not None", CHECKSUM_TESTS),
    Mutant("loop: final is not sealed", "train/loop.py", '_save_final: checksums.write_checksums(unfinished)', "pass", ORDER),
    Mutant("loop: a run is sealed after its final came", "train/loop.py", '_save_final: checksums.write_checksums(run.root, run.checksummed_files())\natomic.publish_folder(unfinished, run.final)', 'atomic.publish_folder(unfinished, run.final)\nchecksums.write_checksums(run.root, run.checksummed_files())', ORDER),
    Mutant("run: the old seal stays while training goes on", "train/launch.py", '_train: checksums.remove_checksums(run.root)', "pass", ORDER),
    Mutant("run: credit is not sealed", "run/folder.py", "RunFolder.checksummed_files: (self.rollouts, self.credit, self.held_out)", "(self.rollouts, self.held_out)", f"{DAMAGE}::test_every_file_that_may_not_change_has_a_checksum"),
    Mutant("evaluation: the old seal stays", "evaluation/suite.py", '_evaluate: checksums.remove_checksums(folder.root)', "pass", f"{DAMAGE}::test_an_evaluation_that_starts_again_has_no_checksums_until_its_end"),
    Mutant("evaluation: a lost seal is not made up for", "evaluation/suite.py", '_evaluate: checksums.read_checksums(folder.root) is None', "False", f"{DAMAGE}::test_an_evaluation_that_ended_before_its_checksums_gets_them_from_the_same_command"),
    Mutant("pipeline: the old seal stays", "pipeline/run.py", '_lock: checksums.remove_checksums(folder.root)', "pass", f"{DAMAGE}::test_a_resumed_pipeline_has_no_checksums_until_its_report"),
    Mutant("report: files change under the seal", "pipeline/page.py", 'write_page: checksums.remove_checksums(pipeline_config.parent)', "pass", f"{DAMAGE}::test_a_report_that_is_built_again_gets_new_checksums"),
    Mutant("stored: read unchecked", "run/json_io.py", '_content: checksums.verify_file(path)', "pass", f"{ALONE}[object]"),
    Mutant("manifest: read unchecked", "run/manifest.py", 'read_manifest: checksums.verify_file(path)', "pass", COMMAND),
    Mutant("tables: read unchecked", "run/tables.py", 'read_rows: checksums.verify_file(path)', "pass", f"{KINDS}[04_eval/responses.parquet]"),
    Mutant("claim: a damaged configuration is compared", "run/config_lock.py", 'read_locked_config: checksums.read_verified_text(path)', "path.read_text()", COMMAND),
    Mutant("inspect: the configuration is read unchecked", "inspection/recorded.py", 'read_config: checksums.verify_file(run.config)', "pass", f"{ALONE}[run_to_inspect]"),
    Mutant("inspect: a damaged tokenizer is passed over in silence", "inspection/tokens.py", '_tokenizer: checksums.verify_folder(tokenizer_folder(source), weights=False)', "pass", COMMAND),
    Mutant("plan: settings are read unchecked", "plan/architecture.py", '_read_config: checksums.verify_folder(folder, weights=False)', "pass", f"{ALONE}[model_to_plan]"),
    Mutant("doctor: the record of another run is read unchecked", "doctor/context.py", 'recorded_config: checksums.verify_file(path)', "pass", f"{DAMAGE}::test_the_doctor_finds_a_damaged_record"),
    Mutant("resolve: settings are read unchecked", "models/resolve.py", '_from_folder: checksums.verify_folder(folder, weights=False)', "pass", f"{ALONE}[model]"),
    Mutant("resolve: damaged weights get a fingerprint", "models/resolve.py", 'ModelSource.fingerprint: checksums.verify_folder(self.folder)', "pass", LOADING),
    Mutant("tokenizer: read unchecked", "models/tokenizer.py", 'load_tokenizer: checksums.verify_folder(folder, weights=False)', "pass", f"{KINDS}[03_ppo/final/tokenizer_config.json]"),
    Mutant("backbone: loaded unchecked", "models/backbone.py", "Backbone.load: source.check()", "pass", LOADING),
    Mutant("backbone: an adapter is loaded unchecked", "models/adapted_model.py", 'AdaptedModel.load_adapter: checksums.verify_folder(folder)', "pass", LOADING),
    Mutant("backbone: the merged copy is not sealed", "models/adapted_model.py", 'AdaptedModel.base_folder: checksums.write_checksums(unfinished)', "pass", "end_to_end/test_pipeline.py::test_a_run_may_start_from_a_ppo_run"),
    Mutant("reward model: loaded unchecked", "models/roles.py", "RewardModel.load: source.check()", "pass", f"{KINDS}[02_rm/final/reward_head.safetensors]"),
    Mutant("classifier: loaded unchecked", "reward/classifier.py", "load_classifier: source.check()", "pass", LOADING),
    Mutant("run: the record behind a model is read unchecked", "run/manifest.py", 'find_lineage: checksums.verify_file(path)', "pass", f"{DAMAGE}::test_a_damaged_manifest_is_no_sft_model"),
]  # fmt: skip
