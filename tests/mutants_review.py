"""Mistakes in blinded reviews: what raters see, what is stored, refused and counted, and what becomes of votes."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

STUDY, VOTES, SERVER = "review/test_study.py", "review/test_votes.py", "review/test_server.py"
FIGURES, NEGATIVES, KAPPAS = (
    "review/test_statistics.py",
    "review/test_hard_negatives.py",
    "maths/test_agreement.py",
)
SIDES = f"{STUDY}::test_sides_are_balanced_within_blocks_and_depend_on_the_key"
REFUSED = f"{SERVER}::test_requests_of_other_sites_are_refused"

REVIEW = [
    # The plan
    Mutant("review: equal responses are shown", "review/items.py", "_pool_of_policies: texts[0].strip() == texts[1].strip()", "False", f"{STUDY}::test_equal_responses_are_left_out_and_strata_are_drawn_in_proportion"),
    Mutant("review: sides do not depend on the key", "review/assignment.py", "_hmac: hmac.new(key, '|'.join(map(str, parts)).encode(), hashlib.sha256)", "hmac.new(b'', '|'.join(map(str, parts)).encode(), hashlib.sha256)", SIDES),
    Mutant("review: sides are not balanced", "review/assignment.py", "_sides: (item.id, kind) in lefts", "values[item.id, kind][0] < 128", SIDES),
    Mutant("review: all raters see the same sides", "review/assignment.py", "_sides: _hmac(key, 'side', rater, item.id, kind)", "_hmac(key, 'side', item.id, kind)", f"{STUDY}::test_the_side_of_an_item_differs_between_raters"),
    Mutant("review: repeats keep their sides", "review/assignment.py", "_with_repeats: not task.first_left", "task.first_left", f"{STUDY}::test_repeats_come_later_with_the_sides_swapped"),
    Mutant("review: ids are the same for all raters", "review/assignment.py", "task_id: _hmac(key, 'task', rater, item, kind)", "_hmac(key, 'task', item, kind)", f"{SERVER}::test_the_wire_tells_nothing_of_policies"),
    Mutant("review: no item has two raters", "review/assignment.py", "_split: len(raters) > 1", "False", f"{STUDY}::test_every_item_has_a_rater_and_a_share_has_two"),
    Mutant("review: gold is taken from the compared items", "review/study.py", "plan_study: find_gold(config, drawn, rest, 2 * gold_tasks + first_gold)", "find_gold(config, rest, drawn, 2 * gold_tasks + first_gold)", f"{STUDY}::test_gold_is_never_one_of_the_items_that_are_compared"),
    Mutant("review: the broken response is gold", "review/gold.py", "_from_audit: replace(item, gold=0, gold_source=FROM_AUDIT)", "replace(item, gold=1, gold_source=FROM_AUDIT)", f"{STUDY}::test_gold_is_never_one_of_the_items_that_are_compared"),
    Mutant("review: an edited study is read", "review/study.py", "read_study: _hash({name: value for name, value in found.items() if name != 'hash'}) != found['hash']", "False", f"{STUDY}::test_a_study_is_kept_and_an_edited_one_is_refused"),
    # The store
    Mutant("votes: not flushed at every commit", "review/votes.py", "VoteStore.__init__: self._database.execute('PRAGMA synchronous=FULL')", "self._database.execute('PRAGMA synchronous=OFF')", f"{VOTES}::test_every_commit_is_flushed"),
    Mutant("votes: the chain is not checked", "review/votes.py", "_read: vote.chained() != vote.hash", "False", f"{VOTES}::test_rows_cannot_be_changed_or_deleted"),
    Mutant("votes: a vote that is sent twice is refused", "review/votes.py", "VoteStore.append: (known := self._by_uuid.get(vote.uuid)) is not None", "(known := self._by_uuid.get(vote.uuid)) is not None and False", f"{VOTES}::test_the_same_uuid_is_stored_once"),
    Mutant("votes: an old page overwrites a newer vote", "review/votes.py", "VoteStore.append: vote.supersedes != (standing.uuid if standing else '')", "False", f"{VOTES}::test_revision_and_undo_are_new_rows"),
    Mutant("votes: undo leaves the vote", "review/votes.py", "_applied: standing.pop(place, None)", "None", f"{VOTES}::test_revision_and_undo_are_new_rows"),
    Mutant("votes: acknowledged before they are stored", "review/votes.py", "_transaction: database.execute('COMMIT')", "None", f"{SERVER}::test_no_acknowledged_vote_is_lost_when_the_server_is_killed"),
    Mutant("votes: any number of seconds", "review/votes.py", "parse_vote: not 0 <= seconds <= MAX_SECONDS", "False", f"{VOTES}::test_what_is_no_vote_is_refused"),
    # The server
    Mutant("server: any host", "review/guard.py", "RequestGuard.refusal: [host.lower() for host in headers.get('host', [])] not in [[host] for host in self.hosts]", "False", REFUSED),
    Mutant("server: any origin", "review/guard.py", "RequestGuard.refusal: origin.lower() not in self.origins", "False", REFUSED),
    Mutant("server: requests of other sites", "review/guard.py", "RequestGuard.refusal: site.lower() not in _OWN_SITES", "False", REFUSED),
    Mutant("server: no token is needed", "review/links.py", "RaterLinks.rater_of: hmac.compare_digest(known.encode(), token.encode('utf-8', 'replace'))", "True", f"{SERVER}::test_without_a_token_nothing_is_told"),
    Mutant("server: bodies without a bound", "review/guard.py", "_read_body: len(body) > MAX_BODY", "False", f"{SERVER}::test_a_chunked_body_is_bounded_too"),
    Mutant("server: every static file", "review/server.py", "review_application.asset: name not in ASSETS", "False", f"{SERVER}::test_no_other_file_is_served"),
    Mutant("server: refusals without headers", "review/guard.py", "_with_headers.sender: [*kept, *own]", "kept", f"{SERVER}::test_every_answer_has_the_headers"),
    Mutant("server: raters vote on the items of others", "review/session.py", "ReviewSession.submit: known is None or known[0] != rater", "known is None", f"{SERVER}::test_a_rater_cannot_vote_on_the_item_of_another"),
    Mutant("server: the kind of a task is told", "review/session.py", "shown_task: {'id': task.id, 'prompt': [{'role': turn['role'], 'text': str(turn['content'])} for turn in item.prompt], 'left': left, 'right': right}", "{'id': task.id, 'kind': task.kind, 'prompt': [{'role': turn['role'], 'text': str(turn['content'])} for turn in item.prompt], 'left': left, 'right': right}", f"{SERVER}::test_the_wire_tells_nothing_of_policies"),
    # Statistics
    Mutant("review: sides are policies", "review/outcomes.py", "outcome_of: (choice == 'left') == first_left", "choice == 'left'", f"{FIGURES}::test_a_choice_of_side_becomes_a_policy_through_the_task_alone"),
    Mutant("review: repeats count as votes", "review/statistics.py", "review_figures: one.task.kind == 'vote'", "one.task.kind != 'calibration'", f"{FIGURES}::test_calibration_gold_and_repeats_are_in_no_win_rate_and_no_pair"),
    Mutant("review: a headline without agreement", "review/statistics.py", "headline_decision: alpha['low'] <= 0", "alpha['value'] <= 0", f"{FIGURES}::test_a_headline_needs_agreement_above_chance"),
    Mutant("review: a headline of one rater", "review/statistics.py", "headline_decision: agreement is None", "False", f"{FIGURES}::test_wins_ties_and_losses_by_hand"),
    Mutant("review: two votes are two items", "review/statistics.py", "item_signs: sums.get(one.item.id, 0) + one.sign", "one.sign", f"{FIGURES}::test_votes_of_two_raters_on_an_item_are_one_item"),
    Mutant("review: the first item side is the winner", "review/outcomes.py", "UnblindedVote.score: {'first': -size, 'second': size}", "{'first': size, 'second': -size}", f"{FIGURES}::test_wins_ties_and_losses_by_hand"),
    Mutant("review: any calibration is good", "review/calibration.py", "calibration_of: right / len(gold) < study.config.calibration_accuracy", "False", f"{FIGURES}::test_calibration_decides_who_goes_on"),
    Mutant("review: fast raters pass the calibration", "review/calibration.py", "calibration_of: fast > MAX_TOO_FAST * len(own)", "False", f"{FIGURES}::test_calibration_stops_who_votes_faster_than_reading"),
    Mutant("review: changed votes pass the lock", "review/report.py", "require_locked: (found['study'], found['votes'], found['head']) != (study.hash, len(votes), head)", "False", f"{FIGURES}::test_the_lock_is_final_and_sees_changes"),
    Mutant("review: a lock with open items", "review/report.py", "_require_complete: len(done) < total and (not early)", "False", f"{FIGURES}::test_the_lock_is_final_and_sees_changes"),
    Mutant("agreement: nominal is ordinal", "maths/statistics/agreement.py", "_distances: level == 'nominal'", "False", KAPPAS),
    Mutant("agreement: an interval of a point", "maths/statistics/agreement.py", "alpha_interval: is_unvaried(known)", "False", f"{KAPPAS}::test_alphas_interval_is_no_point_where_raters_always_agree"),
    Mutant("agreement: Cohen without chance", "maths/statistics/agreement.py", "cohen_kappa: (float(np.trace(table)) / float(total) - expected) / (1 - expected)", "float(np.trace(table)) / float(total)", KAPPAS),
    Mutant("agreement: Fleiss counts a rater with themselves", "maths/statistics/agreement.py", "fleiss_kappa: (counts**2).sum(axis=1) - ratings", "(counts**2).sum(axis=1)", KAPPAS),
    # What becomes of votes and failures
    Mutant("export: the loser is chosen", "review/export.py", "_pair_row: {'chosen': winner, 'rejected': 1 - winner}", "{'chosen': 1 - winner, 'rejected': winner}", f"{FIGURES}::test_votes_become_pairs"),
    Mutant("export: contradictions become pairs", "review/export.py", "_decide: 1 in signs and -1 in signs", "False", f"{FIGURES}::test_votes_become_pairs"),
    Mutant("export: rows selected by agreement are not marked", "review/export.py", "export_pairs: row | {CONTRADICTIONS_LEFT_OUT: left_out}", "row", f"{FIGURES}::test_votes_become_pairs"),
    Mutant("raters: votes in no order", "review/rater_figures.py", "over_time: items[start:end]", "items[:end]", f"{FIGURES}::test_the_course_of_a_rater_is_drawn_in_blocks"),
    Mutant("live: the reward of the start is that of the end", "review/live.py", "_reward_change: after[key] - before[key]", "before[key] - after[key]", "review/test_live.py"),
    Mutant("export: both bad is a tie", "review/export.py", "_decide: 'both_bad' if any((one.outcome == 'both_bad' for one in known)) else 'ties'", "'ties'", f"{FIGURES}::test_votes_become_pairs"),
    Mutant("stage: the votes replace the pairs they are added to", "review/stage.py", "run_review_stage: rows_to_add(config.add_to, config.add_limit, config.seed)", "[]", "end_to_end/test_review_pipeline.py::test_review_then_a_second_reward_model_then_ppo_again"),
    Mutant("stage: an unlocked review is exported", "review/stage.py", "run_review_stage: not folder.lock.exists()", "not votes", f"{NEGATIVES}::test_a_stage_waits_for_votes_and_then_exports_them"),
    Mutant("hard negatives: any reward is high", "review/hard_negatives.py", "choose_rule: gap > margin", "True", f"{NEGATIVES}::test_the_first_rule_that_holds"),
    Mutant("hard negatives: broken responses are clean", "review/hard_negatives.py", "_pairs: not flags[audit.key_of(row)] & BROKEN", "True", f"{NEGATIVES}::test_rows_by_hand"),
    Mutant("hard negatives: the clean response with the lowest reward", "review/hard_negatives.py", "_pairs: max(clean, key=lambda row: row['reward'], default=None)", "min(clean, key=lambda row: row['reward'], default=None)", f"{NEGATIVES}::test_rows_by_hand"),
    Mutant("evaluation: reviewed prompts stay", "evaluation/left_out.py", "leave_out_prompts: trained_prompts.digest(prompt.messages) not in used", "True", f"{NEGATIVES}::test_prompts_of_a_review_leave_the_next_evaluation"),
]  # fmt: skip
