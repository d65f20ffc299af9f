"""Mistakes about bases in few bits."""

from mutants_record import Mutant

TESTS = "models/test_quantised.py"
FROZEN = "end_to_end/test_frozen_weights.py"
QUANTISED = [
    Mutant(
        "nothing is quantised",
        "models/weights.py",
        "    if isinstance(held, Quantised):\n        how =",
        "    if False:\n        how =",
        TESTS,
    ),
    Mutant(
        "merged into what is left of the weights",
        "models/backbone.py",
        "        if self.quantised:  # the weights themselves, not what is left of them in a few bits\n",
        "        if False:\n",
        TESTS,
    ),
    Mutant(
        "bytes counted as weights",
        "models/quantised.py",
        "shape = state.shape if state is not None else parameter.shape",
        "shape = parameter.shape",
        TESTS,
    ),
    Mutant(
        "a type of bytes taken for the model's",
        "models/backbone.py",
        "next(p.dtype for p in self.model.parameters() if not is_quantised(p))",
        "list(self.model.parameters())[1].dtype",
        TESTS,
    ),
    Mutant(
        "adapters under a quantised base are forgotten",
        "models/weights.py",
        "    if not adapters:\n        model = read_model(base.folder, held, device)",
        "    if not adapters or isinstance(held, Quantised):\n        model = read_model(base.folder, held, device)",
        TESTS,
    ),
    Mutant(
        "a plan takes every weight to be quantised",
        "plan/shape.py",
        "return each * self.linear + number * (self.parameters - self.linear)",
        "return each * self.parameters",
        TESTS,
    ),
    Mutant(
        "a token a row past the adapter's own types",
        "models/backbone.py",
        "plain = self._compute is None and not self.quantised and self._serves_one_token",
        "plain = self._compute is None and self._serves_one_token",
        TESTS,
    ),
    Mutant(
        "the library's own products, which repack 4 bits in place",
        "models/quantised_linear.py",
        '        if hasattr(layer, "support_avx512bf16_for_cpu"):\n',
        '        continue\n        if hasattr(layer, "support_avx512bf16_for_cpu"):\n',
        TESTS,
    ),
    Mutant(
        "8-bit activations rounded with those of other rows",
        "models/quantised_linear.py",
        'if weight.device.type == "cpu" or not hasattr(weight, "quant_state"):',
        'if hasattr(weight, "quant_state"):',
        TESTS,
    ),
    Mutant(
        "8-bit weights of 128 steps",
        "models/quantised_linear.py",
        "(1 / 127)",
        "(1 / 128)",
        TESTS,
    ),
    Mutant(
        "a fingerprint without scales",
        "models/quantised.py",
        "        return [*parts, scales_of(parameter)]",
        "        return parts",
        TESTS,
    ),
    Mutant(
        "frozen: the alarm comes before the model is saved",
        "train/ppo.py",
        "        if self.policy.adapter is not None:\n            self.policy.backbone.save_adapter",
        "        self.verify()\n"
        "        if self.policy.adapter is not None:\n            self.policy.backbone.save_adapter",
        FROZEN,
    ),
    Mutant(
        "frozen: an alarm that nobody hears",
        "train/loop.py",
        "    if loop.moved:\n",
        "    if False:\n",
        FROZEN,
    ),
    Mutant(
        "frozen: an alarm is forgotten on resume",
        "run/manifest.py",
        "    if before.get(MOVED):\n",
        "    if False:\n",
        FROZEN,
    ),
    Mutant(
        "frozen: a resumed run is not compared with its first start",
        "train/run.py",
        "if name in before and before[name] != found",
        "if False",
        FROZEN,
    ),
    Mutant(
        "a bar of another library's while merging",
        "models/backbone.py",
        "merge_and_unload(progressbar=False, adapter_names=[name])",
        "merge_and_unload([name])",
        TESTS,
    ),
    Mutant(
        "a policy without SFT goes unmentioned",
        "train/run.py",
        "    if not has_sft(source):\n",
        "    if False:\n",
        FROZEN,
    ),
]
