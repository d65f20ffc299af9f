"""Mistakes in the audit of responses, its queues and its description."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

REPETITION, MEASURES, DUPLICATES, RELEVANCE = (
    "maths/test_repetition.py",
    "evaluate/audit/test_measures.py",
    "evaluate/audit/test_duplicates.py",
    "evaluate/audit/test_relevance.py",
)
LANGUAGE, PHRASES, LEAKAGE, REFERENCES = (
    "evaluate/audit/test_language.py",
    "evaluate/audit/test_phrases.py",
    "evaluate/audit/test_template_leakage.py",
    "evaluate/audit/test_references.py",
)
MARKUP, SENTENCES, SCRIPTS, QUEUES, DESCRIPTION = (
    "evaluate/audit/test_markup.py",
    "evaluate/audit/test_sentence_end.py",
    "evaluate/audit/test_scripts.py",
    "evaluate/audit/test_queues.py",
    "evaluate/audit/test_description.py",
)
AUDIT = "evaluate/audit/test_audit.py"

TABLE = [
    ("a run of pieces of words counts", "maths/repetition.py", "longest_common_run: joined[starts[i - best]:starts[i + 1] + 1]", "joined[starts[i - best] + 1:starts[i + 1]]", REPETITION),
    ("the most frequent n-gram is any one", "maths/repetition.py", "most_frequent_ngram_count: max(Counter(_ngrams(items, n)).values(), default=0)", "min(Counter(_ngrams(items, n)).values(), default=0)", REPETITION),
    ("a loop is looked for too near the end", "maths/repetition.py", "find_trailing_repetition: max((times - 1) * length // times, 0)", "times * length", AUDIT),
    ("short texts repeat characters", "evaluate/audit/response.py", "character_repetition: len(dense) >= 4 * CHARACTER_NGRAM", "len(dense) >= CHARACTER_NGRAM", MEASURES),
    ("whitespace is a character", "evaluate/audit/response.py", "character_repetition: ''.join(text.split())", "text", MEASURES),
    ("zero-width characters are visible", "evaluate/audit/response.py", "is_empty: text.translate(_INVISIBLE).strip()", "text.strip()", MEASURES),
    ("every rule is a loop", "evaluate/audit/response.py", "audit_response: None if loop and _is_rule(loop) else loop", "loop", MEASURES),
    ("two items are a list", "evaluate/audit/repeated_items.py", "repeated_item_fraction: len(items) >= MIN_ITEMS", "len(items) >= 2", MEASURES),
    ("numbered items all differ", "evaluate/audit/repeated_items.py", "repeated_item_fraction: not w.isdigit()", "True", MEASURES),
    ("the own length is the yardstick", "evaluate/audit/rows.py", "_add_length_ratio: other != policy", "True", MEASURES),
    ("one word is a yardstick", "evaluate/audit/rows.py", "_add_length_ratio: max(median(others), SHORT_RESPONSE)", "max(median(others), 1)", MEASURES),
    ("shingles reach into the next text", "evaluate/audit/duplicates.py", "number_shingles: text_of[:len(fives)] == text_of[len(names) - len(fives):]", "text_of[:len(fives)] >= 0", DUPLICATES),
    ("similarity by the shorter text", "evaluate/audit/duplicates.py", "jaccard: len(left) + len(right) - both", "min(len(left), len(right))", DUPLICATES),
    ("the index is one shingle short", "evaluate/audit/duplicates.py", "find_near_duplicates: len(mine) - ceil(similarity * len(mine)) + 1", "len(mine) - ceil(similarity * len(mine))", DUPLICATES),
    ("responses to one prompt are duplicates", "evaluate/audit/duplicates.py", "find_near_duplicates.compare: groups[key] != groups[other]", "True", DUPLICATES),
    ("the prompt's words hide a template", "evaluate/audit/rows.py", "_without_topic: word not in topic", "True", DUPLICATES),
    ("a response is its own evidence", "evaluate/audit/relevance.py", "_own_relevance: said - responses", "said", RELEVANCE),
    ("idf counts once", "evaluate/audit/relevance.py", "relevances: np.log(len(prompts) / np.maximum(prompts_with, 1)) ** 2", "np.log(len(prompts) / np.maximum(prompts_with, 1))", RELEVANCE),
    ("like requests are other topics", "evaluate/audit/relevance.py", "relevances: (alike[owner[chosen]] @ alike.T).toarray() >= SAME_REQUEST", "(alike[owner[chosen]] @ alike.T).toarray() >= 2", RELEVANCE),
    ("off topic without a better prompt", "evaluate/audit/rows.py", "_flags_among_rows: relevance.best_other - relevance.own >= margin", "True", RELEVANCE),
    ("function words count whole", "evaluate/audit/language.py", "_weights: 1 / shared[word]", "1.0", LANGUAGE),
    ("close languages are named", "evaluate/audit/language.py", "detect_language: score - next_score >= min_margin * score", "True", LANGUAGE),
    ("few function words are enough", "evaluate/audit/language.py", "detect_language: seen[best] >= min_words", "seen[best] >= 1", LANGUAGE),
    ("a translation is a mismatch", "evaluate/audit/language.py", "find_language_mismatch: None if mismatch is None or _ASKS_FOR_A_LANGUAGE.search(text.context) else mismatch", "mismatch", LANGUAGE),
    ("only the declared language is right", "evaluate/audit/language.py", "_compare: (language_code(declared), of_prompt)", "(language_code(declared),)", LANGUAGE),
    ("a refusal anywhere counts", "evaluate/audit/phrases.py", "find_refusal: response.lstrip()[:opening]", "response", PHRASES),
    ("typographic apostrophes hide a refusal", "evaluate/audit/phrases.py", "_plain: lower.translate(_APOSTROPHE)", "lower", PHRASES),
    ("a talk about AI is boilerplate", "evaluate/audit/phrases.py", "find_boilerplate: disclaimer and not _ABOUT_AI.search(context)", "disclaimer", PHRASES),
    ("a token of the prompt leaks", "evaluate/audit/template_leakage.py", "find_template_leakage: match[0] not in text.context", "True", LEAKAGE),
    ("a dialogue that was asked for leaks", "evaluate/audit/template_leakage.py", "find_template_leakage: _ASKS_FOR_DIALOGUE.search(text.context)", "False", LEAKAGE),
    ("what the prompt gives is unverified", "evaluate/audit/references.py", "find_references: reference.text not in text.context", "True", REFERENCES),
    ("ISBN-13 weighs all digits alike", "evaluate/audit/references.py", "isbn_problem: int(digit) * (1, 3)[i % 2]", "int(digit)", REFERENCES),
    ("a month 13 of arXiv", "evaluate/audit/references.py", "arxiv_problem: 1 <= month <= 12", "1 <= month <= 99", REFERENCES),
    ("a fence of another length closes", "evaluate/audit/words.py", "split_fences: len(marks) >= len(opened[1])", "True", MARKUP),
    ("a fence with words closes", "evaluate/audit/words.py", "split_fences: not info.strip()", "True", MARKUP),
    ("any cells make a row", "evaluate/audit/markup.py", "_broken_table: _cells(row) != cells", "False", MARKUP),
    ("a stray end tag is right", "evaluate/audit/markup.py", "_open_tags: tag in stack", "True", MARKUP),
    ("an empty item ends a text", "evaluate/audit/sentence_end.py", "find_broken_off: _BARE_ITEM.match(last)", "False", SENTENCES),
    ("a title breaks off", "evaluate/audit/sentence_end.py", "find_broken_off: in_prose and sentences >= 3 and ended", "True", SENTENCES),
    ("quoted names are stray letters", "evaluate/audit/scripts.py", "find_stray_letters: _QUOTED.sub(' ', prose)", "prose", SCRIPTS),
    ("the prompt's script is foreign", "evaluate/audit/scripts.py", "find_stray_letters: set(context_scripts)", "set()", SCRIPTS),
    ("any accented pair is mojibake", "evaluate/audit/encoding.py", "find_mojibake: original and _PLAUSIBLE.fullmatch(original) and match[0] not in context", "True", SCRIPTS),
    ("quantiles of the margins' signs", "evaluate/audit/queues.py", "reward_limits: abs(value - rewards[prompt, sample, baseline])", "value - rewards[prompt, sample, baseline]", QUEUES),
    ("set limits are ignored", "evaluate/audit/queues.py", "reward_limits: chosen is not None", "False", QUEUES),
    ("published limits are ignored", "evaluate/audit/queues.py", "reward_limits: thresholds.reward_thresholds == 'published'", "False", QUEUES),
    ("a broken text is useful", "evaluate/audit/queues.py", "_low_but_useful: BROKEN & set(found['flags'])", "False", QUEUES),
    ("the draw has no seed", "evaluate/audit/queues.py", "_manual_review: random.Random(thresholds.review_seed)", "random.Random()", QUEUES),
    ("scores are compared without ranks", "evaluate/audit/queues.py", "_ranks: (rankdata(list(values.values())) - 0.5) / len(values)", "np.array(list(values.values()))", QUEUES),
    ("steps alone are a procedure anywhere", "evaluate/audit/queues.py", "_is_stem_procedure: steps and quantities", "steps or quantities", QUEUES),
    ("a strong loss is first when it is small", "evaluate/audit/queues.py", "_against_baseline: _by(losses, losses, highest=False)", "_by(losses, losses, highest=True)", QUEUES),
    ("McNemar counts concordant pairs", "evaluate/audit/description.py", "kind_rates: sum(baseline_has_kind[sample] and not has_kind[sample] for sample in shared_samples)", "sum(baseline_has_kind[sample] for sample in shared_samples)", DESCRIPTION),
    ("rates are of the baseline", "evaluate/audit/description.py", "kind_rates: wilson_interval(sum(has.values()), len(own))", "wilson_interval(len(own) - sum(has.values()), len(own))", DESCRIPTION),
    ("one test of many is enough", "evaluate/audit/description.py", "_policy_sentences: rate.mcnemar_p * tests < ALPHA", "rate.mcnemar_p < 2", DESCRIPTION),
    ("a loss is called a win", "evaluate/audit/description.py", "_pair_sentence: wins > losses", "wins < losses", DESCRIPTION),
    ("the mean without them has them", "evaluate/audit/description.py", "_mismatch_sentences: 'reward_mismatch' not in audited[key_of(row)]['flags']", "True", DESCRIPTION),
]  # fmt: skip

AUDITED = [Mutant(f"audit: {name}", file, old, new, tests) for name, file, old, new, tests in TABLE]
