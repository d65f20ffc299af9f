"""Mistakes in the Python interface."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

TEST = "api/test_api.py"
API = [
    Mutant(name, file, old, new, TEST + test)
    for name, file, old, new, test in [
        ("given rewards go without the penalties", "api/ppo.py", "PPO._score: (Score(GIVEN_REWARD, float(value), 1.0), *others.scores)", "(Score(GIVEN_REWARD, float(value), 1.0),)", "::test_a_loop_of_steps_is_the_run"),
        ("every step is update 0", "api/ppo.py", "PPO.step: stage.step(self.updates, scored)", "stage.step(0, scored)", "::test_a_loop_of_steps_is_the_run"),
        ("every generation is that of update 0", "api/ppo.py", "PPO.generate: self.updates", "0", "::test_a_loop_of_steps_is_the_run"),
        ("groups that are not whole are trained", "api/ppo.py", "PPO.step: not rollouts or len(rollouts) % size", "not rollouts", "::test_the_own_loop_refuses_what_does_not_fit"),
        ("other rows overwrite those of the run", "api/rows.py", "write_given_rows: path.stat().st_size != len(encoded) or bounded_read.read_bytes(path, len(encoded)) != encoded", "False", "::test_rows_that_a_run_began_with_are_kept"),
        ("a prompt of Python has another id", "api/rows.py", "_to_prompt: content_hash(messages)", "row", "::test_prompts_of_python_are_those_of_a_file"),
        ("a repeated prompt gets the same response", "api/loaded.py", "LoadedPolicy.rollouts: f'api/{number}'", "'api'", "::test_a_policy_generates_and_a_reward_model_scores"),
        ("scores of samples are flat", "api/loaded.py", "LoadedRewardModel.score: scores.reshape(len(nested), -1)", "scores", "::test_a_policy_generates_and_a_reward_model_scores"),
        ("further rewards are lost", "api/configs.py", "reward_settings: found.settings['rewards'] = parts", "pass", "::test_rewards_become_parts"),
        ("the config object is not read", "api/configs.py", "run_config: {kind: dumped} if kind in TRAINING[kind].model_fields else dumped", "{}", "::test_a_run_is_the_command_lines_run"),
        ("a provided function loses its weight", "reward/provided_function.py", "ProvidedReward.__init__: weight", "1.0", "::test_a_provided_function_is_scored_like_one_of_a_file"),
    ]
]  # fmt: skip
