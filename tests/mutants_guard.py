"""Mistakes about numbers that are not finite: what a skipped step leaves behind, what is written of it, who counts."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

GUARDS, LOOP, LEARN, PPO, KL, OPTIMISER, TRACKING = (
    "train/guard.py",
    "train/loop.py",
    "train/ppo_learn.py",
    "train/ppo.py",
    "train/kl_control.py",
    "train/optimiser.py",
    "run/tracking.py",
)
SFT, REWARD = "train/sft.py", "train/reward_model.py"

# Mistake, file, what stands there, what is planted.
TABLE = [
    ("the earlier optimiser steps stay", KL, "            self.learner.load(self._before)\n        self._before = {}\n        self.coefficient", "            pass\n        self._before = {}\n        self.coefficient"),
    ("the copy is what it is a copy of", KL, 't.detach().to("cpu", copy=True)', 't.detach().to("cpu")'),
    ("the copy is kept for ever", KL, "        self._before = {}\n        self._coefficient_before = self.coefficient\n        return metrics", "        self._coefficient_before = self.coefficient\n        return metrics"),
    ("a copy where none is needed", KL, "s.epochs * s.minibatches > 1", "s.epochs * s.minibatches > 0"),
    ("no copy for several steps", KL, "s.epochs * s.minibatches > 1", "s.epochs * s.minibatches > 99"),
    ("the scheduled coefficient stays", KL, "        self._before = {}\n        self.coefficient = self._coefficient_before\n", "        self._before = {}\n"),
    ("gradients stay after a fault", LEARN, "        self._ready = None\n        for optimiser in self.optimisers.values():\n            optimiser.clear()", "        self._ready = None"),
    ("the kept forward stays after a fault", PPO, "            self.learner.give_up()\n", "            for optimiser in self.learner.optimisers.values():\n                optimiser.clear()\n"),
    ("the warm-up is over though the update never was", PPO, "            self.warming = warming\n            raise", "            raise"),
    ("the policy moves before the critic is looked at", LEARN, "norms = {name: optimiser.clip() for name, optimiser in self.optimisers.items()}\n        for optimiser in self.optimisers.values():  # no one moves before all gradients are known to be finite\n            optimiser.move(factor)", "norms = {name: optimiser.step(factor) for name, optimiser in self.optimisers.items()}"),
    ("values are not looked at", LEARN, 'if values is not None else []', "if False else []"),
    ("log-probabilities of learning are not looked at", LEARN, "looked = [(\"logprob\", now.logprobs.detach(), learnable)] if now else []", "looked = []"),
    ("the micro-batch is not shown", LEARN, '**vars(assigned.credit.rows(at, width)), ', ""),
    ("the whole batch is taken for the micro-batch", LEARN, "cut = {name: table[at, :width]", "cut = {name: table[:, :width]"),
    ("the supervised mix is not looked at", LEARN, '            require_finite_loss(total, [looked], "the supervised mix", partial(vars, batch), names)\n', ""),
    ("rewards are not looked at", PPO, '[("reward", rewards, None)]', "[]"),
    ("old values are not looked at", PPO, '            "value": (old.values, batch.action),\n', ""),
    ("the reference is not looked at", PPO, '            "reference_logprob": (reference, batch.action),\n', ""),
    ("dropout stays on", SFT, "        finally:\n            self.backbone.training(False)", "        finally:\n            pass"),
    ("the gradient's rows are not shown", SFT, "with shown_by(lambda: vars(self._collated(rows))):", "if True:"),
    ("SFT: gradients stay", SFT, "        except NonFinite:\n            self.optimiser.clear()\n", "        except NonFinite:\n"),
    ("an infinite reward of a pair passes", REWARD, '            require_finite([("reward", sides, None)], "training", shown, names)\n', ""),
    ("the sides of a pair are mixed up", REWARD, "sides.view(2, -1).T.numpy()", "sides.view(-1, 2).numpy()"),
    ("reward model: gradients stay", REWARD, "        except NonFinite:\n            self.optimiser.clear()\n", "        except NonFinite:\n"),
    ("an infinite gradient is clipped to zero", OPTIMISER, "if not torch.isfinite(norm):", "if torch.isnan(norm):"),
    ("the parameter is sought after clipping", OPTIMISER, "broken = (name for name, gradient in gradients.items() if not torch.isfinite(gradient).all())", "broken = iter(gradients)"),
    ("padding is looked at", GUARDS, "~torch.isfinite(values) & counts", "~torch.isfinite(values)"),
    ("the last is named, not the first", GUARDS, "first = found.index(True)", "first = len(found) - 1"),
    ("a good step does not end a streak", GUARDS, "self.in_a_row + 1 if skipped else 0", "self.in_a_row + skipped"),
    ("one more may be skipped", GUARDS, "self.in_a_row <= self.most and", "self.in_a_row <= self.most + 1 and"),
    ("a run of nothing but skipped steps is finished", GUARDS, " and self.in_a_row < self.total)", ")"),
    ("skipped steps are not counted", GUARDS, "        self.skipped += skipped\n", ""),
    ("a resumed run counts anew", LOOP, "            guard.replay(logged(run.metrics, self.done))\n", ""),
    ("what was skipped after the checkpoint counts", TRACKING, "if _step_of(line) <= step]", "if _step_of(line) < math.inf]"),
    ("a skipped step is evaluated", LOOP, "if due and skipped is None:", "if due:"),
    ("the reason is not logged", TRACKING, '            line["skipped"] = skipped\n', "            pass\n"),
    ("skipped steps count as done", LOOP, "completed=steps - skipped", "completed=steps"),
    ("a streak pushes good checkpoints out", LOOP, "if last or ((owed or self._long_ago()) and skipped is None):", "if last or owed:"),
    ("a checkpoint due in a streak is forgotten", LOOP, "owed = owed or self.done % self.checkpoints.every == 0", "owed = self.done % self.checkpoints.every == 0"),
    ("the bundle holds the moments", GUARDS, "            if name.startswith(WEIGHTS)\n", ""),
    ("every bundle is kept", GUARDS, "[:-KEPT]:", "[:0]:"),
    ("the oldest bundles are kept", GUARDS, "for old in sorted(path.name for path in folder.glob(\"step-*\"))[:-KEPT]:", "for old in sorted(path.name for path in folder.glob(\"step-*\"))[KEPT:]:"),
    ("a full disk ends the run", GUARDS, "            if not atomic.disk_is_full(error):\n                raise\n", "            raise\n"),
    ("every error of the disk is a full one", GUARDS, "            if not atomic.disk_is_full(error):\n                raise\n", ""),
    ("half a bundle stays", GUARDS, "            shutil.rmtree(unfinished, ignore_errors=True)\n", ""),
    ("what a kill left stays", GUARDS, "                shutil.rmtree(left)\n            unfinished.mkdir()", "                pass\n            unfinished.mkdir(exist_ok=True)"),
]  # fmt: skip

STEPS, RUNS = "train/test_nonfinite.py", "train/test_guard.py"
NEVER = f"{STEPS}::test_an_update_that_meets_a_number_that_is_not_finite_never_was"
CAUGHT_BY = dict.fromkeys((LOOP, TRACKING, GUARDS), RUNS) | {OPTIMISER: "train/test_optimiser.py", KL: NEVER}
SOONER = {
    "the copy is kept for ever": f"{STEPS}::test_the_copy_lives_as_long_as_an_update_of_several_steps",
    "a copy where none is needed": f"{STEPS}::test_the_copy_lives_as_long_as_an_update_of_several_steps",
    "the scheduled coefficient stays": f"{STEPS}::test_a_schedule_and_a_warm_up_are_taken_back",
    "the warm-up is over though the update never was": f"{STEPS}::test_a_schedule_and_a_warm_up_are_taken_back",
    "the policy moves before the critic is looked at": f"{STEPS}::test_a_single_optimiser_step_needs_no_copy",
    "the supervised mix is not looked at": f"{STEPS}::test_the_supervised_mix_is_looked_at",
    "rewards are not looked at": f"{STEPS}::test_a_reward_too_large_for_the_device_is_a_fault",
    "the micro-batch is not shown": f"{RUNS}::test_a_bundle_of_ppo_holds_what_its_loss_takes",
    "the whole batch is taken for the micro-batch": f"{RUNS}::test_a_bundle_of_ppo_holds_what_its_loss_takes",
    "gradients stay after a fault": NEVER,
    "the kept forward stays after a fault": NEVER,
    "values are not looked at": NEVER,
    "log-probabilities of learning are not looked at": NEVER,
    "old values are not looked at": NEVER,
    "the reference is not looked at": NEVER,
    "padding is looked at": f"{RUNS}::test_the_first_in_order_is_named_and_what_does_not_count_is_not_read",
    "the last is named, not the first": f"{RUNS}::test_the_first_in_order_is_named_and_what_does_not_count_is_not_read",
}
"""Single tests, where a whole file would take long."""
GUARD = [
    Mutant(name, file, old, new, SOONER.get(name, CAUGHT_BY.get(file, STEPS)))
    for name, file, old, new in TABLE
]
