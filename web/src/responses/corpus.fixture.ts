// A small corpus for tests: four prompts, three policies. Synthetic.

import type { Corpus, Example } from "./rows";

function example(id: string, domain: string, rewards: [number, number, number], more: Partial<Example> = {}): Example {
  const policies = ["Base", "SFT", "PPO"];
  return {
    id,
    domain,
    language: "en",
    messages: [{ role: "user", content: `Question ${id}` }],
    winner: rewards[2] > rewards[1] ? "PPO" : null,
    queues: [],
    disagreement: null,
    same: [],
    extra: {},
    responses: policies.map((policy, i) => ({
      policy,
      text: `${policy} replies to ${id}`,
      tokens: 10 * (i + 1),
      stop: policy === "PPO" && rewards[2] > 2 ? "length" : "end_of_turn",
      reward: rewards[i] as number,
      scores: { gold: id === "c" ? null : -(rewards[i] as number) },
      repeated_4grams: policy === "PPO" && rewards[2] > 2 ? 0.6 : 0,
      loop: null,
      flags: policy === "PPO" && id === "a" ? ["refusal"] : [],
    })),
    ...more,
  };
}

export const corpus: Corpus = {
  title: "Synthetic report",
  policies: ["Base", "SFT", "PPO"],
  pairs: [
    { left: "Base", right: "SFT" },
    { left: "Base", right: "PPO" },
    { left: "SFT", right: "PPO" },
  ],
  judges: ["gold"],
  flags: { refusal: "the opening has a phrase of refusal", cap_hit: "truncated at the token limit" },
  queues: { strong_loss: "far below the baseline's response", manual_review: "drawn at random" },
  reward: "reward",
  tieEpsilon: 0.1,
  repetitiveAbove: 0.3,
  examples: [
    example("a", "chat", [0, 1, 3], { queues: ["manual_review"], disagreement: 0.5, extra: { split: "x", level: 1 } }),
    example("b", "code", [0, 1, 1.05], { disagreement: 2.5, extra: { split: "y", level: 2.5 } }),
    example("c", "chat", [1, 0, 2.5], { queues: ["strong_loss", "manual_review"], extra: { split: "x", level: 3 } }),
    example("d", "", [2, 1, 0], { disagreement: 1.5, extra: { split: "x", level: 7 } }),
  ],
};
