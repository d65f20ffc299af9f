// Categories of an example: domain, language, best response, flags, audit queues, further columns.

import type { Corpus, Example, Response } from "./rows";
import { areAllEqual, flagName, responseOf } from "./rows";

export interface FacetValue {
  value: string;
  label: string;
  /** Place of the policy that the value is about; null for none. */
  policy: number | null;
  /** Longer explanation, empty for none. */
  meaning: string;
}

export interface Facet {
  /** Unique; part of addresses. */
  key: string;
  title: string;
  /** Whether an example may have several values. */
  multiple: boolean;
  values: FacetValue[];
  /** Places in `values`, one list per example. */
  members: number[][];
}

/** A column with more distinct texts than this is no facet. */
const MOST_VALUES = 60;
/** Flags that stand first, and that exist without an audit. */
const MEASURED = ["cap_hit", "repetition", "refusal"];
const BANDS = ["2 SD or more", "1 to 2 SD", "less than 1 SD", "not compared"];

/** Return every facet with at least two values, or one value that only some examples have. */
export function facetsOf(corpus: Corpus): Facet[] {
  const { examples, policies, queues } = corpus;
  const winners: [string, string][] = policies.map((policy) => [`=${policy}`, policy]);
  const facets = [
    single(corpus, "domain", "Domain", (example) => example.domain, (value) => value || "(none)"),
    single(corpus, "language", "Language", (example) => example.language, (value) => value || "(none)"),
    policies.length > 1
      ? listed(corpus, "winner", "Best reward", [...winners, ["none", "no single best"]], (example) => [
          example.winner === null ? "none" : `=${example.winner}`,
        ])
      : null,
    ...corpus.pairs.map((pair) => outcomes(corpus, pair.left, pair.right)),
    flagFacet(corpus),
    listed(
      corpus,
      "queue",
      "Audit queue",
      Object.keys(queues).map((name) => [name, flagName(name)]),
      (example) => example.queues,
      true,
    ),
    listed(
      corpus,
      "agreement",
      "Disagreement of scorers",
      BANDS.map((band) => [band, band]),
      (example) => [bandOf(example.disagreement)],
    ),
    listed(
      corpus,
      "same",
      "Equal responses",
      [
        ["all", "all equal"],
        ["some", "some equal"],
        ["none", "all different"],
      ],
      (example) => [sameness(example)],
    ),
    ...textColumns(examples).map((column) =>
      single(corpus, `extra.${column}`, column.replaceAll("_", " "), (example) => shown(example.extra[column])),
    ),
  ];
  return facets.filter((facet): facet is Facet => facet !== null && isUseful(facet));
}

function isUseful(facet: Facet): boolean {
  const used = new Set(facet.members.flat());
  return used.size > 1 || (used.size === 1 && facet.members.some((member) => member.length === 0));
}

/** Make a facet from a list of values; values that no example has are left out. */
function listed(
  corpus: Corpus,
  key: string,
  title: string,
  values: [string, string][],
  valuesOf: (example: Example) => string[],
  multiple = false,
): Facet {
  const found = corpus.examples.map(valuesOf);
  const used = new Set(found.flat());
  const kept = values.filter(([value]) => used.has(value));
  const place = new Map(kept.map(([value], i) => [value, i]));
  return {
    key,
    title,
    multiple,
    values: kept.map(([value, label]) => ({
      value,
      label,
      policy: key === "winner" && value !== "none" ? corpus.policies.indexOf(value.slice(1)) : null,
      meaning: key === "queue" ? (corpus.queues[value] ?? "") : "",
    })),
    members: found.map((list) => list.map((value) => place.get(value)).filter((i) => i !== undefined)),
  };
}

/** Make a facet whose values are those that occur, the most frequent first. */
function single(
  corpus: Corpus,
  key: string,
  title: string,
  valueOf: (example: Example) => string,
  label: (value: string) => string = (value) => value || "(none)",
): Facet {
  const counts = new Map<string, number>();
  for (const example of corpus.examples) {
    const value = valueOf(example);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const order = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return listed(
    corpus,
    key,
    title,
    order.map(([value]) => [value, label(value)]),
    (example) => [valueOf(example)],
  );
}

function outcomes(corpus: Corpus, left: string, right: string): Facet {
  const [a, b] = [corpus.policies.indexOf(left), corpus.policies.indexOf(right)];
  const facet = listed(
    corpus,
    `pair@${left}>${right}`,
    `${right} against ${left}, by reward`,
    [
      ["win", `${right} wins`],
      ["tie", "tie"],
      ["loss", `${left} wins`],
    ],
    (example) => {
      const [x, y] = [responseOf(example, left)?.reward ?? null, responseOf(example, right)?.reward ?? null];
      if (x === null || y === null) return [];
      return [Math.abs(y - x) <= corpus.tieEpsilon ? "tie" : y > x ? "win" : "loss"];
    },
  );
  for (const value of facet.values) value.policy = value.value === "win" ? b : value.value === "loss" ? a : null;
  return facet;
}

/** Return the flags of a response, with those that need no audit. */
export function flagsOf(response: Response, repetitiveAbove: number): string[] {
  const flags = new Set(response.flags);
  if (response.stop === "length") flags.add("cap_hit");
  if ((response.repeated_4grams ?? 0) > repetitiveAbove) flags.add("repetition");
  return [...flags];
}

/** Make the facet of flags. Its values are `flag` (in any response) and `flag@policy`. */
function flagFacet(corpus: Corpus): Facet {
  const { examples, policies, flags, repetitiveAbove } = corpus;
  const found = examples.map((example) =>
    policies.map((policy) => {
      const response = responseOf(example, policy);
      return response ? flagsOf(response, repetitiveAbove) : [];
    }),
  );
  const used = new Set(found.flat(2));
  const names = [...new Set([...MEASURED, ...Object.keys(flags), ...used])].filter((name) => used.has(name));
  const values: FacetValue[] = names.flatMap((name) => [
    { value: name, label: flagName(name), policy: null, meaning: flags[name] ?? "" },
    ...policies.map((policy, i) => ({
      value: `${name}@${policy}`,
      label: `${flagName(name)}, ${policy}`,
      policy: i,
      meaning: flags[name] ?? "",
    })),
  ]);
  const wide = policies.length + 1;
  const start = new Map(names.map((name, i) => [name, i * wide]));
  const members = found.map((responses) => {
    const places = new Set<number>();
    responses.forEach((list, policy) => {
      for (const name of list) {
        const at = start.get(name) ?? 0;
        places.add(at);
        places.add(at + 1 + policy);
      }
    });
    return [...places];
  });
  return { key: "flag", title: "Flags", multiple: true, values, members };
}

function bandOf(disagreement: number | null): string {
  const [large = "", middle = "", small = "", unknown = ""] = BANDS;
  if (disagreement === null) return unknown;
  return disagreement >= 2 ? large : disagreement >= 1 ? middle : small;
}

function sameness(example: Example): string {
  return areAllEqual(example) ? "all" : example.same.length ? "some" : "none";
}

const shown = (value: unknown): string =>
  value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);

/** Return the extra columns with few enough distinct values; numbers are ranges unless they are few. */
function textColumns(examples: readonly Example[]): string[] {
  const values = new Map<string, Set<string>>();
  const numeric = new Map<string, boolean>();
  for (const { extra } of examples) {
    for (const [column, value] of Object.entries(extra)) {
      const seen = values.get(column) ?? new Set<string>();
      if (seen.size <= MOST_VALUES) seen.add(shown(value));
      values.set(column, seen);
      if (value !== null) numeric.set(column, (numeric.get(column) ?? true) && typeof value === "number");
    }
  }
  return [...values]
    .filter(([column, seen]) => seen.size <= (numeric.get(column) ? 12 : MOST_VALUES))
    .map(([column]) => column);
}
