// Numbers of an example: what ranges, orders and axes of the plot choose from.

import type { Corpus, Example, Response } from "./rows";
import { areAllEqual, countWords, responseOf } from "./rows";

export interface Measure {
  /** Unique; part of addresses. `family@policy`, `family@left>right`, or the family alone. */
  key: string;
  family: string;
  title: string;
  /** Place of the policy in the corpus; null for a number of the whole example. */
  policy: number | null;
  /** One number per example; NaN where there is none. */
  values: Float64Array;
}

/** Key of the measure of the first order. It has no unit: no limits and no plot. */
export const INTEREST = "interest";

/** The number of a missing value. */
const none = Number.NaN;
const orNone = (value: number | null | undefined): number => (value === null || value === undefined ? none : value);

/** Return every measure that has a value in at least one example. */
export function measuresOf(corpus: Corpus): Measure[] {
  const { examples, policies, pairs, judges } = corpus;
  const measures: Measure[] = [];
  const add = (
    family: string,
    place: string,
    title: string,
    policy: number | null,
    value: (example: Example, row: number) => number,
  ) => {
    const values = Float64Array.from(examples, value);
    if (values.some((v) => !Number.isNaN(v))) {
      measures.push({ key: place ? `${family}@${place}` : family, family, title, policy, values });
    }
  };
  const each = (family: string, title: string, value: (response: Response) => number) =>
    policies.forEach((policy, i) =>
      add(family, policy, `${title}, ${policy}`, i, (example) => {
        const response = responseOf(example, policy);
        return response ? value(response) : none;
      }),
    );

  const scorers: [string, string, (response: Response) => number][] = [
    ["reward", corpus.reward, (response) => orNone(response.reward)],
    ...judges.map((judge): [string, string, (response: Response) => number] => [
      `score.${judge}`,
      judge,
      (response) => orNone(response.scores[judge]),
    ]),
  ];
  for (const [family, title, value] of scorers) each(family, title, value);
  for (const [family, title, value] of scorers) {
    for (const { left, right } of pairs) {
      const name = family === "reward" ? "margin" : `margin.${family.slice("score.".length)}`;
      add(name, `${left}>${right}`, `${title}: ${right} − ${left}`, null, (example) => {
        const [first, second] = [responseOf(example, left), responseOf(example, right)];
        return first && second ? value(second) - value(first) : none;
      });
    }
  }
  const inTokens = examples.some((example) => example.responses.some((response) => response.tokens !== null));
  each("length", inTokens ? "length in tokens" : "length in words", (response) =>
    inTokens ? orNone(response.tokens) : countWords(response.text),
  );
  each("kl", "KL in nats", (response) => orNone(response.kl));
  each("repeated", "repeated 4-grams", (response) => orNone(response.repeated_4grams));
  add("disagreement", "", "disagreement of scorers (SD)", null, (example) => orNone(example.disagreement));
  if (policies.length > 1) add("spread", "", `${corpus.reward}: highest − lowest`, null, spread);
  const names = Object.keys(corpus.queues);
  add("queue", "", "place of its first audit queue", null, (example) => {
    const places = example.queues.map((name) => names.indexOf(name)).filter((place) => place >= 0);
    return places.length ? Math.min(...places) + 1 : none;
  });
  measures.push(interestOf(corpus));
  for (const column of numericColumns(examples)) {
    add(`extra.${column}`, "", column.replaceAll("_", " "), null, (example) => {
      const value = example.extra[column];
      return typeof value === "number" && Number.isFinite(value) ? value : none;
    });
  }
  return measures;
}

function spread(example: Example): number {
  const rewards = example.responses.map((response) => response.reward).filter((reward) => reward !== null);
  return rewards.length > 1 ? Math.max(...rewards) - Math.min(...rewards) : none;
}

/**
 * Return the measure that the page is first ordered by: examples whose responses differ before those with equal ones,
 * then by disagreement of scorers, difference of rewards and number of flags. Its numbers are ranks; the highest is first.
 */
function interestOf(corpus: Corpus): Measure {
  const { examples } = corpus;
  const keys = examples.map((example) => {
    const gap = spread(example);
    return [
      Number(!areAllEqual(example)),
      example.disagreement ?? 0,
      Number.isNaN(gap) ? 0 : gap,
      example.responses.reduce((sum, response) => sum + response.flags.length, 0),
    ];
  });
  const order = examples.map((_, row) => row);
  order.sort((a, b) => {
    const at = keys[a]?.findIndex((value, i) => value !== keys[b]?.[i]) ?? -1;
    return at < 0 ? a - b : (keys[b]?.[at] ?? 0) - (keys[a]?.[at] ?? 0);
  });
  const values = new Float64Array(examples.length);
  order.forEach((row, place) => {
    values[row] = examples.length - place;
  });
  return { key: INTEREST, family: INTEREST, title: interestTitle(corpus), policy: null, values };
}

/** Name the first order by the first number that sets examples apart. */
function interestTitle({ examples, reward }: Corpus): string {
  if (examples.some(({ disagreement }) => disagreement)) return "largest disagreement of scorers";
  if (examples.some((example) => spread(example) > 0)) return `largest difference of ${reward}`;
  if (examples.some(({ responses }) => responses.some(({ flags }) => flags.length))) return "most flags";
  return examples.some(areAllEqual) ? "equal responses last" : "first order";
}

/** Return the extra columns that hold numbers only. */
function numericColumns(examples: readonly Example[]): string[] {
  const kinds = new Map<string, boolean>();
  for (const { extra } of examples) {
    for (const [column, value] of Object.entries(extra)) {
      if (value === null) continue;
      kinds.set(column, (kinds.get(column) ?? true) && typeof value === "number");
    }
  }
  return [...kinds].filter(([, numeric]) => numeric).map(([column]) => column);
}

/** Return the lowest and the highest value, or null without any. */
export function extent(values: Iterable<number>): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
