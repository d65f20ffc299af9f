"""Mistakes in handling non-finite numbers: what a skipped step changes, its dump, and how skipped steps are counted."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

NONFINITE_PY, LOOP, LEARN, PPO, KL, OPTIMISER, TRACKING = (
    "train/nonfinite.py",
    "train/loop.py",
    "train/ppo/learner.py",
    "train/ppo/stage.py",
    "train/ppo/kl_control.py",
    "train/optim/optimiser.py",
    "run/tracking.py",
)
SFT, REWARD = "train/sft.py", "train/head_stage.py"

# Mistake, file, what stands there, what is planted.
TABLE = [
    ("the earlier optimiser steps stay", 'train/ppo/snapshot.py', 'Snapshot.restore: self.learner.load(self.tensors)', 'pass'),
    ("the copy is what it is a copy of", 'train/ppo/snapshot.py', "Snapshot.take: t.detach().to('cpu', copy=True)", "t.detach().to('cpu')"),
    ("the copy is kept for ever", 'train/ppo/snapshot.py', 'Snapshot.drop: self.tensors = {}', 'pass'),
    ("a copy where none is needed", 'train/ppo/snapshot.py', 'Snapshot.__init__: 1', '0'),
    ("no copy for several steps", 'train/ppo/snapshot.py', 'Snapshot.__init__: 1', '99'),
    ("the scheduled coefficient stays", PPO, 'PPOStage._rollback_on_nonfinite: self.kl.coefficient.value, self.warming_up = (kl_coef, warming_up)', 'self.warming_up = warming_up'),
    ("gradients stay after a fault", LEARN, 'Learner.discard_gradients: for optimiser in self.optimisers.values():\n    optimiser.zero_grad()', 'pass'),
    ("the kept forward stays after a fault", PPO, 'PPOStage._rollback_on_nonfinite: self.learner.discard_gradients()', 'for optimiser in self.learner.optimisers.values():\n    optimiser.zero_grad()'),
    ("the warm-up is over though the update never was", PPO, 'PPOStage._rollback_on_nonfinite: self.kl.coefficient.value, self.warming_up = (kl_coef, warming_up)', 'self.kl.coefficient.value = kl_coef'),
    ("the policy moves before the critic is looked at", LEARN, 'Learner._optimiser_step: norms = {name: optimiser.clip() for name, optimiser in self.optimisers.items()}\nfor optimiser in self.optimisers.values():\n    optimiser.step(lr_scale)', 'norms = {name: optimiser.clip_and_step(lr_scale) for name, optimiser in self.optimisers.items()}'),
    ("values are not looked at", LEARN, "Learner._backward: values is not None", "False"),
    ("log-probabilities of learning are not looked at", LEARN, "Learner._backward: if outputs is not None:\n    checked.append(('logprob', outputs.logprobs.detach(), targets.policy_mask))", 'pass'),
    ("the micro-batch is not shown", 'train/ppo/minibatch.py', "Minibatch.tensors: {**vars(self.batch), **vars(self.targets), 'reference_logprobs': self.ref_logprobs, 'rows': torch.tensor(self.rows)}", "{**vars(self.batch), 'reference_logprobs': self.ref_logprobs, 'rows': torch.tensor(self.rows)}"),
    ("the whole batch is taken for the micro-batch", 'train/ppo/minibatch.py', 'Minibatch.micro_batch: self.ref_logprobs[at, :width]', 'self.ref_logprobs[:, :width]'),
    ("the supervised mix is not looked at", LEARN, "Learner._ptx_backward: check_finite_loss(total, [checked], 'PPO-ptx', partial(vars, batch), names)", 'pass'),
    ("rewards are not looked at", PPO, "PPOStage._check_finite: [('reward', reward, None)]", '[]'),
    ("old values are not looked at", PPO, "PPOStage._check_finite: {'reference_logprob': (ref_logprobs, batch.response_mask), 'logprob': (old.logprobs, batch.response_mask), 'value': (old.values, batch.response_mask), 'kl': (targets.kl_estimate, batch.response_mask), 'advantage': (targets.advantages, targets.policy_mask), 'return': (targets.returns, targets.value_mask)}", "{'reference_logprob': (ref_logprobs, batch.response_mask), 'logprob': (old.logprobs, batch.response_mask), 'kl': (targets.kl_estimate, batch.response_mask), 'advantage': (targets.advantages, targets.policy_mask), 'return': (targets.returns, targets.value_mask)}"),
    ("the reference is not looked at", PPO, "PPOStage._check_finite: {'reference_logprob': (ref_logprobs, batch.response_mask), 'logprob': (old.logprobs, batch.response_mask), 'value': (old.values, batch.response_mask), 'kl': (targets.kl_estimate, batch.response_mask), 'advantage': (targets.advantages, targets.policy_mask), 'return': (targets.returns, targets.value_mask)}", "{'logprob': (old.logprobs, batch.response_mask), 'value': (old.values, batch.response_mask), 'kl': (targets.kl_estimate, batch.response_mask), 'advantage': (targets.advantages, targets.policy_mask), 'return': (targets.returns, targets.value_mask)}"),
    ("dropout stays on", SFT, "SupervisedStage.step: self.backbone.set_adapter_dropout(False)", "pass"),
    ("the gradient's rows are not shown", SFT, 'SupervisedStage._step: with attach_tensors(lambda: vars(self._collate(rows))):\n    ...', "if True:\n    ..."),
    ("SFT: gradients stay", SFT, 'SupervisedStage.step: self.optimiser.zero_grad()', 'pass'),
    ("an infinite reward of a pair passes", REWARD, "HeadStage._backward: check_finite([('reward', detached.reshape(-1), None)], 'training', tensors, names)", "pass"),
    ("the sides of a pair are mixed up", REWARD, "HeadStage._backward: detached.T", "detached.reshape(-1, 2)"),
    ("reward model: gradients stay", REWARD, 'HeadStage.step: self.optimiser.zero_grad()', 'pass'),
    ("an infinite gradient is clipped to zero", OPTIMISER, "Optimiser.clip: not torch.isfinite(norm)", "torch.isnan(norm)"),
    ("the parameter is sought after clipping", OPTIMISER, "Optimiser.clip: (name for name, gradient in gradients.items() if not torch.isfinite(gradient).all())", "iter(gradients)"),
    ("padding is looked at", NONFINITE_PY, 'check_finite: ~torch.isfinite(values) & counts', "~torch.isfinite(values)"),
    ("the last is named, not the first", NONFINITE_PY, 'check_finite: found.index(True)', "len(found) - 1"),
    ("a good step does not end a streak", NONFINITE_PY, 'NonFiniteHandler._count: self.skipped_in_a_row + 1 if skipped else 0', 'self.skipped_in_a_row + skipped'),
    ("one more may be skipped", NONFINITE_PY, 'NonFiniteHandler.raise_if_too_many: self.max_skipped', 'self.max_skipped + 1'),
    ("a run of nothing but skipped steps is finished", NONFINITE_PY, 'NonFiniteHandler.raise_if_too_many: self.skipped_in_a_row <= self.max_skipped and self.skipped_in_a_row < self.total', 'self.skipped_in_a_row <= self.max_skipped'),
    ("skipped steps are not counted", NONFINITE_PY, 'NonFiniteHandler._count: self.skipped += skipped', "pass"),
    ("a resumed run counts anew", LOOP, '_Loop._resume: self.nonfinite.count_logged(logged_lines(self.run.metrics, self.done))', "pass"),
    ("what was skipped after the checkpoint counts", TRACKING, "logged_lines: _step_of(line) <= step", "_step_of(line) < math.inf"),
    ("a skipped step is evaluated", LOOP, '_Loop.train: eval_due and skipped is None', 'eval_due'),
    ("the reason is not logged", TRACKING, "Tracker.log: line['skipped'] = skipped", "pass"),
    ("skipped steps count as done", LOOP, '_Loop.write_status: steps - skipped', "steps"),
    ("a streak pushes good checkpoints out", LOOP, '_Loop.train: (checkpoint_due or self._is_checkpoint_overdue()) and skipped is None', 'checkpoint_due'),
    ("a checkpoint due in a streak is forgotten", LOOP, '_Loop.train: checkpoint_due or self.done % self.checkpoints.every == 0', "self.done % self.checkpoints.every == 0"),
    ("the dump holds the moments", NONFINITE_PY, 'NonFiniteHandler._write_dump: {name.removeprefix(PARAMETER_PREFIX): tensor for name, tensor in stage.tensors().items() if name.startswith(PARAMETER_PREFIX)}', "{name.removeprefix(PARAMETER_PREFIX): tensor for name, tensor in stage.tensors().items()}"),
    ("every dump is kept", NONFINITE_PY, 'NonFiniteHandler._write_dump: -MAX_DUMPS', "0"),
    ("the oldest dumps are kept", NONFINITE_PY, "NonFiniteHandler._write_dump: sorted((path.name for path in folder.glob('step-*')))[:-MAX_DUMPS]", "sorted((path.name for path in folder.glob('step-*')))[MAX_DUMPS:]"),
    ("a full disk ends the run", NONFINITE_PY, 'NonFiniteHandler._write_dump: if not atomic.disk_is_full(failure):\n    raise', "raise"),
    ("every error of the disk is a full one", NONFINITE_PY, 'NonFiniteHandler._write_dump: if not atomic.disk_is_full(failure):\n    raise', "pass"),
    ("half a dump stays", NONFINITE_PY, 'NonFiniteHandler._write_dump: shutil.rmtree(unfinished, ignore_errors=True)', "pass"),
    ("what a kill left stays", NONFINITE_PY, "NonFiniteHandler._write_dump: for left in folder.glob(f'{_UNFINISHED}*'):\n    shutil.rmtree(left)\nunfinished.mkdir()", "for left in folder.glob(f'{_UNFINISHED}*'):\n    pass\nunfinished.mkdir(exist_ok=True)"),
]  # fmt: skip

STEPS, RUNS = "train/test_nonfinite.py", "train/test_nonfinite_handler.py"
NEVER = f"{STEPS}::test_an_update_with_a_non_finite_number_is_undone"
CAUGHT_BY = dict.fromkeys((LOOP, TRACKING, NONFINITE_PY), RUNS) | {
    OPTIMISER: "train/optim/test_optimiser.py",
    KL: NEVER,
}
SOONER = {
    "the copy is kept for ever": f"{STEPS}::test_the_copy_lives_as_long_as_an_update_of_several_steps",
    "a copy where none is needed": f"{STEPS}::test_the_copy_lives_as_long_as_an_update_of_several_steps",
    "the scheduled coefficient stays": f"{STEPS}::test_a_schedule_and_a_warm_up_are_taken_back",
    "the warm-up is over though the update never was": f"{STEPS}::test_a_schedule_and_a_warm_up_are_taken_back",
    "the policy moves before the critic is looked at": f"{STEPS}::test_a_single_optimiser_step_needs_no_copy",
    "the supervised mix is not looked at": f"{STEPS}::test_the_supervised_mix_is_checked",
    "rewards are not looked at": f"{STEPS}::test_a_reward_too_large_for_the_device_is_non_finite",
    "the micro-batch is not shown": f"{RUNS}::test_a_dump_of_ppo_holds_what_its_loss_takes",
    "the whole batch is taken for the micro-batch": f"{RUNS}::test_a_dump_of_ppo_holds_what_its_loss_takes",
    "the sides of a pair are mixed up": "train/test_reward_model.py::test_the_metrics_of_a_step_are_those_of_its_pairs",
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
NONFINITE = [
    Mutant(name, file, old, new, SOONER.get(name, CAUGHT_BY.get(file, STEPS)))
    for name, file, old, new in TABLE
]
