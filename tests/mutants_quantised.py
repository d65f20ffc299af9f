"""Mistakes about bases in few bits."""

from mutant import Mutant

TESTS = "models/test_quantised.py"
FROZEN = "end_to_end/test_frozen_weights.py"
QUANTISED = [
    Mutant(
        "nothing is quantised",
        "models/weights.py",
        "read_model: how = {'quantization_config': weight_dtype.settings(), "
        "'device_map': {'': device or torch.device('cpu')}}",
        "how = {}",
        TESTS,
    ),
    Mutant(
        "merged into what is left of the weights",
        "models/backbone.py",
        "Backbone.merge: self.quantised",
        "False",
        TESTS,
    ),
    Mutant(
        "bytes counted as weights",
        "models/quantised.py",
        "weight_count: state.shape if state is not None else parameter.shape",
        "parameter.shape",
        TESTS,
    ),
    Mutant(
        "a type of bytes taken for the model's",
        "models/adapted_model.py",
        "AdaptedModel.dtype: next((p.dtype for p in self.model.parameters() if not is_quantised(p)))",
        "list(self.model.parameters())[1].dtype",
        TESTS,
    ),
    Mutant(
        "adapters under a quantised base are forgotten",
        "models/weights.py",
        "read_merged: not adapters",
        "not adapters or isinstance(weight_dtype, Quantised)",
        TESTS,
    ),
    Mutant(
        "a plan takes every weight to be quantised",
        "plan/shape.py",
        "ModelShape.weight_bytes: each * self.linear_parameters + number * (self.parameters - self.linear_parameters)",
        "each * self.parameters",
        TESTS,
    ),
    Mutant(
        "a token a row past the adapter's own types",
        "models/backbone.py",
        "Backbone.decoding: self._compute is None and (not self.quantised) and self._has_decode_step",
        "self._compute is None and self._has_decode_step",
        TESTS,
    ),
    Mutant(
        "the library's own products, which repack 4 bits in place",
        "models/quantised_linear.py",
        "install: layer: Any = module",
        "layer: Any = module\ncontinue",
        TESTS,
    ),
    Mutant(
        "8-bit activations rounded with those of other rows",
        "models/quantised_linear.py",
        "install: weight.device.type == 'cpu' or not hasattr(weight, 'quant_state')",
        "hasattr(weight, 'quant_state')",
        TESTS,
    ),
    Mutant(
        "8-bit weights of 128 steps",
        "models/quantised_linear.py",
        "dequantise: 127",
        "128",
        TESTS,
    ),
    Mutant(
        "a fingerprint without scales",
        "models/quantised.py",
        "stored_tensors: [*parts, int8_scales(parameter)]",
        "parts",
        TESTS,
    ),
    Mutant(
        "frozen: the alarm comes before the model is saved",
        "train/ppo/stage.py",
        "PPOStage.save: if self.policy.adapter is not None: ...",
        "if self.check_frozen() or self.policy.adapter is not None: ...",
        FROZEN,
    ),
    Mutant(
        "frozen: an alarm that nobody hears",
        "train/loop.py",
        "run_stage: if loop.changed_components:\n    ...",
        "if False:\n    ...",
        FROZEN,
    ),
    Mutant(
        "frozen: an alarm is forgotten on resume",
        "run/manifest.py",
        "write_manifest: before.get(FROZEN_CHANGED)",
        "False",
        FROZEN,
    ),
    Mutant(
        "frozen: a resumed run is not compared with its first start",
        "train/launch.py",
        "_check_frozen: name in before and before[name] != found",
        "False",
        FROZEN,
    ),
    Mutant(
        "a bar of another library's while merging",
        "models/weights.py",
        "merge_adapter: False",
        "True",
        TESTS,
    ),
    Mutant(
        "a policy without SFT goes unmentioned",
        "train/launch.py",
        "_ppo: not has_sft(source)",
        "False",
        FROZEN,
    ),
    Mutant(
        "decode attention rounds its scores before the scale",
        "rollout/attention.py",
        "decode_attention: torch.baddbmm(mask.to(key.dtype), grouped, keys.transpose(1, 2), alpha=scale).float()",
        "(grouped @ keys.transpose(1, 2)).float().mul_(scale).add_(mask)",
        f"{TESTS}::test_decoding_is_the_training_forward",
    ),
]
