// The part of the page's data that the explorer reads: examples, their responses, and the policies.

export interface Message {
  role: string;
  content: string;
}

export interface Response {
  policy: string;
  text: string;
  tokens: number | null;
  stop: string | null;
  reward: number | null;
  scores: Record<string, number | null>;
  repeated_4grams: number | null;
  loop: number | null;
  flags: string[];
  source?: string | null;
  kl?: number | null;
}

export interface Example {
  id: string;
  domain: string;
  language: string;
  messages: Message[];
  winner: string | null;
  responses: Response[];
  queues: string[];
  disagreement: number | null;
  /** Pairs of places in `responses` with equal text. */
  same: number[][];
  extra: Record<string, unknown>;
}

export interface Pair {
  left: string;
  right: string;
}

/** What the explorer needs to know. */
export interface Corpus {
  title: string;
  policies: string[];
  pairs: Pair[];
  judges: string[];
  /** Meaning of each flag, by name. */
  flags: Record<string, string>;
  /** Meaning of each audit queue, by name, in the order of reading. */
  queues: Record<string, string>;
  /** What to call the number under `reward`. */
  reward: string;
  tieEpsilon: number;
  repetitiveAbove: number;
  examples: Example[];
}

interface PageData {
  title: string;
  summary: { pairs: Pair[]; tie_epsilon: number; repetitive_above: number } | null;
  policies: string[];
  judges: string[];
  reward: string | null;
  flags: Record<string, string>;
  queues: Record<string, string>;
  examples: Example[];
}

/** Pairs of policies beyond this number are left out of a page without a comparison. */
const MOST_PAIRS = 10;

/** Return the corpus of a page. */
export function corpusOf(data: PageData): Corpus {
  const { summary, policies } = data;
  const pairs =
    summary?.pairs.map(({ left, right }) => ({ left, right })) ??
    policies
      .flatMap((left, i) => policies.slice(i + 1).map((right) => ({ left, right })))
      .slice(0, MOST_PAIRS);
  return {
    title: data.title,
    policies,
    pairs,
    judges: data.judges,
    flags: data.flags,
    queues: data.queues,
    reward: data.reward ?? "reward",
    tieEpsilon: summary?.tie_epsilon ?? 0,
    repetitiveAbove: summary?.repetitive_above ?? 0.3,
    examples: data.examples,
  };
}

/** Return the response of a policy to an example; policies of a responses file may lack some. */
export const responseOf = (example: Example, policy: string): Response | undefined =>
  example.responses.find((response) => response.policy === policy);

/** Return the last message of the user, which the list shows. */
export function asked(example: Example): string {
  const turns = example.messages.filter((message) => message.role === "user");
  return turns[turns.length - 1]?.content ?? example.messages[example.messages.length - 1]?.content ?? "";
}

/** Return the name of a flag or queue as the page writes it. */
export const flagName = (flag: string): string => (flag === "cap_hit" ? "truncated" : flag.replaceAll("_", " "));

/** Return whether all responses to an example are the same text. */
export function areAllEqual({ responses, same }: Example): boolean {
  return responses.length > 1 && same.length === (responses.length * (responses.length - 1)) / 2;
}

/** Count the words of a text: runs of characters other than white space. */
export function countWords(text: string): number {
  let count = 0;
  let inside = false;
  for (let i = 0; i < text.length; i++) {
    const space = text.charCodeAt(i) <= 32;
    if (!space && !inside) count++;
    inside = !space;
  }
  return count;
}
