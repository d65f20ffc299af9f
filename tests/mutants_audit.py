"""Mistakes in the audit of responses, its queues and its description."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

REPETITION, MEASURES, DUPLICATES, RELEVANCE = (
    "maths/test_repetition.py",
    "evaluation/audit/test_measures.py",
    "evaluation/audit/test_duplicates.py",
    "evaluation/audit/test_relevance.py",
)
LANGUAGE, PHRASES, LEAKAGE, REFERENCES = (
    "evaluation/audit/test_language.py",
    "evaluation/audit/test_phrases.py",
    "evaluation/audit/test_template_leakage.py",
    "evaluation/audit/test_references.py",
)
MARKUP, SENTENCES, SCRIPTS, QUEUES, DESCRIPTION = (
    "evaluation/audit/test_markup.py",
    "evaluation/audit/test_sentence_end.py",
    "evaluation/audit/test_scripts.py",
    "evaluation/audit/test_queues.py",
    "evaluation/audit/test_description.py",
)
AUDIT = "evaluation/audit/test_audit.py"

TABLE = [
    ("a run of pieces of words counts", "maths/repetition.py", "longest_common_run: joined[starts[i - best]:starts[i + 1] + 1]", "joined[starts[i - best] + 1:starts[i + 1]]", REPETITION),
    ("the most frequent n-gram is any one", "maths/repetition.py", "most_frequent_ngram_count: max(Counter(_ngrams(items, n)).values(), default=0)", "min(Counter(_ngrams(items, n)).values(), default=0)", REPETITION),
    ("a loop is looked for too near the end", "maths/repetition.py", "find_trailing_repetition: max((times - 1) * length // times, 0)", "times * length", AUDIT),
    ("short texts repeat characters", "evaluation/audit/response.py", "character_repetition: len(dense) >= 4 * CHARACTER_NGRAM", "len(dense) >= CHARACTER_NGRAM", MEASURES),
    ("whitespace is a character", "evaluation/audit/response.py", "character_repetition: ''.join(text.split())", "text", MEASURES),
    ("zero-width characters are visible", "evaluation/audit/response.py", "is_empty: text.translate(_INVISIBLE).strip()", "text.strip()", MEASURES),
    ("every rule is a loop", "evaluation/audit/response.py", "audit_response: None if loop and _is_rule(loop) else loop", "loop", MEASURES),
    ("two items are a list", "evaluation/audit/repeated_items.py", "repeated_item_fraction: len(items) >= MIN_ITEMS", "len(items) >= 2", MEASURES),
    ("numbered items all differ", "evaluation/audit/repeated_items.py", "repeated_item_fraction: not w.isdigit()", "True", MEASURES),
    ("the own length is the yardstick", "evaluation/audit/rows.py", "_add_length_ratio: other != policy", "True", MEASURES),
    ("one word is a yardstick", "evaluation/audit/rows.py", "_add_length_ratio: max(median(others), SHORT_RESPONSE)", "max(median(others), 1)", MEASURES),
    ("shingles reach into the next text", "evaluation/audit/duplicates.py", "number_shingles: text_of[:len(fives)] == text_of[len(names) - len(fives):]", "text_of[:len(fives)] >= 0", DUPLICATES),
    ("similarity by the shorter text", "evaluation/audit/duplicates.py", "jaccard: len(left) + len(right) - both", "min(len(left), len(right))", DUPLICATES),
    ("the index is one shingle short", "evaluation/audit/duplicates.py", "find_near_duplicates: len(mine) - ceil(similarity * len(mine)) + 1", "len(mine) - ceil(similarity * len(mine))", DUPLICATES),
    ("responses to one prompt are duplicates", "evaluation/audit/duplicates.py", "find_near_duplicates.compare: groups[key] != groups[other]", "True", DUPLICATES),
    ("the prompt's words hide a template", "evaluation/audit/rows.py", "_without_topic: word not in topic", "True", DUPLICATES),
    ("a response is its own evidence", "evaluation/audit/relevance.py", "_own_relevance: said - responses", "said", RELEVANCE),
    ("idf counts once", "evaluation/audit/relevance.py", "relevances: np.log(len(prompts) / np.maximum(prompts_with, 1)) ** 2", "np.log(len(prompts) / np.maximum(prompts_with, 1))", RELEVANCE),
    ("like requests are other topics", "evaluation/audit/relevance.py", "relevances: (alike[owner[chosen]] @ alike.T).toarray() >= SAME_REQUEST", "(alike[owner[chosen]] @ alike.T).toarray() >= 2", RELEVANCE),
    ("off topic without a better prompt", "evaluation/audit/rows.py", "_flags_among_rows: relevance.best_other - relevance.own >= margin", "True", RELEVANCE),
    ("function words count whole", "evaluation/audit/language.py", "_weights: 1 / shared[word]", "1.0", LANGUAGE),
    ("close languages are named", "evaluation/audit/language.py", "detect_language: score - next_score >= min_margin * score", "True", LANGUAGE),
    ("few function words are enough", "evaluation/audit/language.py", "detect_language: seen[best] >= min_words", "seen[best] >= 1", LANGUAGE),
    ("a translation is a mismatch", "evaluation/audit/language.py", "find_language_mismatch: None if mismatch is None or _ASKS_FOR_A_LANGUAGE.search(text.context) else mismatch", "mismatch", LANGUAGE),
    ("only the declared language is right", "evaluation/audit/language.py", "_compare: (language_code(declared), of_prompt)", "(language_code(declared),)", LANGUAGE),
    ("a refusal anywhere counts", "evaluation/audit/phrases.py", "find_refusal: response.lstrip()[:opening]", "response", PHRASES),
    ("typographic apostrophes hide a refusal", "evaluation/audit/phrases.py", "_plain: lower.translate(_APOSTROPHE)", "lower", PHRASES),
    ("a talk about AI is boilerplate", "evaluation/audit/phrases.py", "find_boilerplate: disclaimer and not _ABOUT_AI.search(context)", "disclaimer", PHRASES),
    ("a token of the prompt leaks", "evaluation/audit/template_leakage.py", "find_template_leakage: match[0] not in text.context", "True", LEAKAGE),
    ("a dialogue that was asked for leaks", "evaluation/audit/template_leakage.py", "find_template_leakage: _ASKS_FOR_DIALOGUE.search(text.context)", "False", LEAKAGE),
    ("what the prompt gives is unverified", "evaluation/audit/references.py", "find_references: reference.text not in text.context", "True", REFERENCES),
    ("ISBN-13 weighs all digits alike", "evaluation/audit/references.py", "isbn_problem: int(digit) * (1, 3)[i % 2]", "int(digit)", REFERENCES),
    ("a month 13 of arXiv", "evaluation/audit/references.py", "arxiv_problem: 1 <= month <= 12", "1 <= month <= 99", REFERENCES),
    ("a fence of another length closes", "evaluation/audit/words.py", "split_fences: len(marks) >= len(opened[1])", "True", MARKUP),
    ("a fence with words closes", "evaluation/audit/words.py", "split_fences: not info.strip()", "True", MARKUP),
    ("any cells make a row", "evaluation/audit/markup.py", "_broken_table: _cells(row) != cells", "False", MARKUP),
    ("a stray end tag is right", "evaluation/audit/markup.py", "_open_tags: tag in stack", "True", MARKUP),
    ("an empty item ends a text", "evaluation/audit/sentence_end.py", "find_broken_off: _BARE_ITEM.match(last)", "False", SENTENCES),
    ("a title breaks off", "evaluation/audit/sentence_end.py", "find_broken_off: in_prose and sentences >= 3 and ended", "True", SENTENCES),
    ("quoted names are stray letters", "evaluation/audit/scripts.py", "find_stray_letters: _QUOTED.sub(' ', prose)", "prose", SCRIPTS),
    ("the prompt's script is foreign", "evaluation/audit/scripts.py", "find_stray_letters: set(context_scripts)", "set()", SCRIPTS),
    ("any accented pair is mojibake", "evaluation/audit/encoding.py", "find_mojibake: original and _PLAUSIBLE.fullmatch(original) and match[0] not in context", "True", SCRIPTS),
    ("quantiles of the margins' signs", "evaluation/audit/queues.py", "reward_limits: abs(value - rewards[prompt, sample, baseline])", "value - rewards[prompt, sample, baseline]", QUEUES),
    ("set limits are ignored", "evaluation/audit/queues.py", "reward_limits: chosen is not None", "False", QUEUES),
    ("published limits are ignored", "evaluation/audit/queues.py", "reward_limits: thresholds.reward_thresholds == 'published'", "False", QUEUES),
    ("a broken text is useful", "evaluation/audit/queues.py", "_low_but_useful: BROKEN & set(found['flags'])", "False", QUEUES),
    ("the draw has no seed", "evaluation/audit/queues.py", "_manual_review: random.Random(thresholds.review_seed)", "random.Random()", QUEUES),
    ("scores are compared without ranks", "evaluation/audit/queues.py", "_ranks: (rankdata(list(values.values())) - 0.5) / len(values)", "np.array(list(values.values()))", QUEUES),
    ("steps alone are a procedure anywhere", "evaluation/audit/queues.py", "_is_stem_procedure: steps and quantities", "steps or quantities", QUEUES),
    ("a strong loss is first when it is small", "evaluation/audit/queues.py", "_against_baseline: _by(losses, losses, highest=False)", "_by(losses, losses, highest=True)", QUEUES),
    ("McNemar counts concordant pairs", "evaluation/audit/description.py", "kind_rates: sum(baseline_has_kind[sample] and not has_kind[sample] for sample in shared_samples)", "sum(baseline_has_kind[sample] for sample in shared_samples)", DESCRIPTION),
    ("rates are of the baseline", "evaluation/audit/description.py", "kind_rates: wilson_interval(sum(has.values()), len(own))", "wilson_interval(len(own) - sum(has.values()), len(own))", DESCRIPTION),
    ("one test of many is enough", "evaluation/audit/description.py", "_policy_sentences: rate.mcnemar_p * tests < ALPHA", "rate.mcnemar_p < 2", DESCRIPTION),
    ("a loss is called a win", "evaluation/audit/description.py", "_pair_sentence: wins > losses", "wins < losses", DESCRIPTION),
    ("the mean without them has them", "evaluation/audit/description.py", "_mismatch_sentences: 'reward_mismatch' not in audited[key_of(row)]['flags']", "True", DESCRIPTION),
]  # fmt: skip

AUDITED = [Mutant(f"audit: {name}", file, old, new, tests) for name, file, old, new, tests in TABLE]
