"""Mistakes in preference optimisation: losses, scores, the reference, examples, ranking, metrics."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

LOSSES = [
    ("ipo without its target", "ipo: 1.0 / (2.0 * beta)", "0.0"),
    ("ipo's target upside down", "ipo: 1.0 / (2.0 * beta)", "beta / 2.0"),
    ("hinge with the sides swapped", "hinge: chosen_logratio - rejected_logratio", "rejected_logratio - chosen_logratio"),
    ("hinge without beta", "hinge: 1.0 - beta * (chosen_logratio - rejected_logratio)", "1.0 - (chosen_logratio - rejected_logratio)"),
    ("simpo's margin is added", "simpo: gamma", "-gamma"),
    ("simpo's margin inside beta", "simpo: gamma", "beta * gamma"),
    ("odds without the complement", "log_odds: log_p - torch.log(-torch.expm1(log_p))", "log_p"),
    ("odds of certainty are infinite", "log_odds: average_logprob.clamp(max=-1e-06)", "average_logprob"),
    ("odds ratio swapped", "odds_ratio: bradley_terry(log_odds(chosen), log_odds(rejected))", "bradley_terry(log_odds(rejected), log_odds(chosen))"),
    ("kto's thumbs swapped", "kto: 1.0 - sigmoid(-gap)", "1.0 - sigmoid(gap)"),
    ("kto's baseline trains", "kto: kl.detach()", "kl"),
    ("kto without its baseline", "kto: logratio - kl.detach()", "logratio"),
    ("kto's baseline may be negative", "kl_baseline: mismatched_logratio.detach().mean().clamp(min=0.0)", "mismatched_logratio.detach().mean()"),
    ("a soft label of the other side", "expected_loss: label * loss(chosen, rejected) + (1.0 - label) * loss(rejected, chosen)", "(1.0 - label) * loss(chosen, rejected) + label * loss(rejected, chosen)"),
    ("a soft label forgets the other side", "expected_loss: label * loss(chosen, rejected) + (1.0 - label) * loss(rejected, chosen)", "label * loss(chosen, rejected)"),
    ("robust is conservative", "robust_loss: (1.0 - noise) * loss(chosen, rejected) - noise * loss(rejected, chosen)", "(1.0 - noise) * loss(chosen, rejected) + noise * loss(rejected, chosen)"),
    ("robust is not rescaled", "robust_loss: ((1.0 - noise) * loss(chosen, rejected) - noise * loss(rejected, chosen)) / (1.0 - 2.0 * noise)", "(1.0 - noise) * loss(chosen, rejected) - noise * loss(rejected, chosen)"),
    ("dpo with beta on one side", "dpo_loss: beta * (chosen - rejected)", "beta * chosen - rejected"),
    ("the prompt is scored too", "sequence_score: torch.where(response_mask, logprobs, 0.0)", "torch.nan_to_num(logprobs)"),
    ("an average over the whole row", "sequence_score: response_mask.sum(-1).clamp(min=1)", "response_mask.shape[-1]"),
    ("the tail counts fully", "sequence_score: tail_weight * values", "values"),
    ("one token more counts fully", "sequence_score: position <= full_weight[:, None]", "position <= full_weight[:, None] + 1"),
]  # fmt: skip

TRL, STAGE, ONLINE = (
    "train/dpo/test_against_trl_dpo.py",
    "train/dpo/test_stage.py",
    "train/dpo/test_online.py",
)
STEPS = [
    ("label smoothing is forgotten", "train/dpo/loss.py", "pair_loss: settings.label_smoothing", "0.0", TRL),
    ("the reference is left out", "train/dpo/loss.py", "example_losses: scores.logratios if settings.needs_reference else scores.policy", "scores.policy", TRL),
    ("the gradient is a sum, not a mean", "train/dpo/learner.py", "PreferenceLearner._losses: row_losses.sum() / len(examples)", "row_losses.sum()", TRL),
    ("the mean of a micro-batch", "train/dpo/learner.py", "PreferenceLearner._losses: row_losses.sum() / len(examples)", "row_losses.mean()", TRL),
    ("sides are interleaved", "train/dpo/learner.py", "PreferenceLearner._forward: scores.view(len(sides), -1).T", "scores.view(-1, len(sides))", TRL),
    ("prompt tokens are in the mask", "train/dpo/learner.py", "PreferenceLearner.collate: t >= row.prompt_length", "t > 0", TRL),
    ("the first response token is left out", "train/dpo/learner.py", "PreferenceLearner.collate: t >= row.prompt_length", "t > row.prompt_length", TRL),
    ("ld-dpo by the longer response", "train/dpo/learner.py", "PreferenceLearner._forward: min(e.first.length, e.second.length)", "max(e.first.length, e.second.length)", TRL),
    ("the reference is the policy", "train/dpo/stage.py", "DPOStage.reference: self.models.reference", "self.models.policy", STAGE),
    ("scores of other rows are used", "train/dpo/reference_scores.py", "_read: kept != fingerprint", "False", STAGE),
    ("damaged scores are used", "train/dpo/reference_scores.py", "_read: scores.dtype != torch.float32 or sha256 != _sha256(scores)", "False", STAGE),
    ("averages are not in the fingerprint", "train/dpo/stage.py", "DPOStage.reference: str(self.settings.averages)", "''", STAGE),
    ("held-out rows take the first rows' reference", "train/dpo/stage.py", "DPOStage._evaluate_rows: self.reference[len(self.examples):]", "self.reference[:len(self.held_out)]", STAGE),
    ("the length before training is not saved", "train/dpo/sampled.py", "SampledResponses.state: self.tokens_at_start", "None", STAGE),
    ("gradients stay after a fault", "train/dpo/stage.py", "DPOStage.step: self.learner.optimiser.zero_grad()", "pass", STAGE),
    ("accuracy of the first side", "train/dpo/metrics.py", "_by_label: (label < 0.5)[:, None]", "(label < -1)[:, None]", STAGE),
    ("a low label keeps its side", "train/dpo/examples.py", "rated_from_pairs: (pair.label > 0.5, pair.label < 0.5)", "(True, False)", STAGE),
    ("ties are rated", "train/dpo/examples.py", "rated_from_pairs: pair.label == 0.5", "False", STAGE),
    ("the baseline takes the own response", "train/dpo/examples.py", "_mismatched: other.tokens[:other.prompt_length] != prompt", "True", STAGE),
    ("selection by loss alone", "train/dpo/stage.py", "DPOStage.selection_metric: self.settings.selection == 'accuracy'", "False", STAGE),
    ("worst against best", "train/dpo/ranking.py", "best_against_worst: PreferenceExample(name, _tokens(best.rollout), _tokens(worst.rollout))", "PreferenceExample(name, _tokens(worst.rollout), _tokens(best.rollout))", ONLINE),
    ("ties are paired", "train/dpo/ranking.py", "best_against_worst: best.reward == worst.reward or best.rollout.response_tokens == worst.rollout.response_tokens", "False", ONLINE),
    ("equal responses are paired", "train/dpo/ranking.py", "best_against_worst: best.reward == worst.reward or best.rollout.response_tokens == worst.rollout.response_tokens", "best.reward == worst.reward", ONLINE),
    ("two draws of a prompt are one group", "train/dpo/ranking.py", "best_against_worst: row.rollout.sample == 0", "False", ONLINE),
    ("the baseline of held-out prompts is not saved", "train/dpo/online.py", "OnlineDPOStage.load: self.heldout.load(state['heldout'])", "pass", ONLINE),
    ("repeated draws share a list", "train/sampler.py", "split_repeats: seen[row] += 1", "pass", ONLINE),
]  # fmt: skip

HEALTH_RULES = [
    ("a fall of chosen responses is a rise", "_chosen_falls: change >= limits.chosen_warning", "change >= -limits.chosen_warning"),
    ("held-out falls are not looked at", "_chosen_falls: history.median('eval/logps/chosen_change', 1)", "None"),
    ("the margin of the last evaluation alone", "_margin_alone: min(margins[-2:])", "margins[-1]"),
    ("a better accuracy is no excuse", "_margin_alone: highest >= limits.margin_accuracy or highest > accuracies[best]", "highest >= limits.margin_accuracy"),
    ("only longer responses drift", "_length_drifts: max(change, 1.0 / change)", "change"),
    ("sampled KL is not looked at", "_far: history.median('eval/kl/mean', 1)", "None"),
]  # fmt: skip

DPO = [
    *(
        Mutant(name, "maths/preference_optimisation.py", old, new, "maths/test_preference_optimisation.py")
        for name, old, new in LOSSES
    ),
    *(Mutant(name, file, old, new, tests) for name, file, old, new, tests in STEPS),
    *(
        Mutant(name, "health/preference_rules.py", old, new, "health/test_findings.py")
        for name, old, new in HEALTH_RULES
    ),
]
