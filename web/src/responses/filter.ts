// Which examples pass a filter, and how many would pass with each other value of a facet.

import type { Facet } from "./facets";
import type { Lasso } from "./lasso";
import { rowsInside } from "./lasso";
import type { Measure } from "./measures";
import type { Corpus } from "./rows";
import type { Sample } from "./sample";
import { drawSample } from "./sample";

/** Limits of a measure; null leaves a side open. */
export type Limits = readonly [number | null, number | null];

export interface Filter {
  /** Chosen values by facet: an example passes with one of them. */
  facets: Record<string, string[]>;
  /** Facets of which an example needs every chosen value. */
  all: string[];
  /** Limits by measure. Examples without the number do not pass. */
  ranges: Record<string, Limits>;
  lasso: Lasso | null;
  /** Ids to keep; null for no such limit. */
  ids: string[] | null;
  /** Drawn from the examples that pass everything else. */
  sample: Sample | null;
}

export const NO_FILTER: Filter = { facets: {}, all: [], ranges: {}, lasso: null, ids: null, sample: null };

/** Return whether a filter keeps every example. */
export const isEmpty = (filter: Filter): boolean =>
  Object.values(filter.facets).every((values) => values.length === 0) &&
  Object.keys(filter.ranges).length === 0 &&
  !filter.lasso &&
  !filter.ids &&
  !filter.sample;

/** What a filter tests: the data of a corpus, prepared once. */
export interface Index {
  corpus: Corpus;
  facets: Facet[];
  measures: Measure[];
}

export interface Found {
  /** Places of the examples that pass, in the order of the corpus. */
  rows: number[];
  /** By facet: examples with each value among those that pass every other condition. */
  counts: Record<string, Uint32Array>;
  /** By facet: the number of examples that pass every other condition. */
  totals: Record<string, number>;
}

interface Test {
  passes: (row: number) => boolean;
  /** Place of the facet; -1 for another condition. */
  facet: number;
}

/** Apply a filter. `hits` marks the examples that the search found, or is null without a search. */
export function applyFilter(index: Index, filter: Filter, hits: Uint8Array | null): Found {
  const { corpus, facets } = index;
  const tests = testsOf(index, filter, hits);
  const counts = facets.map((facet) => new Uint32Array(facet.values.length));
  const totals = new Array<number>(facets.length).fill(0);
  const rows: number[] = [];
  const count = (facet: number, row: number) => {
    totals[facet] = (totals[facet] ?? 0) + 1;
    const into = counts[facet];
    for (const value of facets[facet]?.members[row] ?? []) if (into) into[value] = (into[value] ?? 0) + 1;
  };
  for (let row = 0; row < corpus.examples.length; row++) {
    let failed: Test | null = null;
    let fails = 0;
    for (const test of tests) {
      if (test.passes(row)) continue;
      failed = test;
      if (++fails > 1 || test.facet < 0) {
        fails = 2;
        break;
      }
    }
    if (fails === 0) {
      rows.push(row);
      for (let facet = 0; facet < facets.length; facet++) count(facet, row);
    } else if (fails === 1 && failed) count(failed.facet, row);
  }
  const ids = () => corpus.examples.map((example) => example.id);
  return {
    rows: filter.sample ? drawSample(rows, ids(), filter.sample) : rows,
    counts: Object.fromEntries(facets.map((facet, i) => [facet.key, counts[i] ?? new Uint32Array(0)])),
    totals: Object.fromEntries(facets.map((facet, i) => [facet.key, totals[i] ?? 0])),
  };
}

function testsOf(index: Index, filter: Filter, hits: Uint8Array | null): Test[] {
  const { corpus, facets, measures } = index;
  const tests: Test[] = [];
  if (hits) tests.push({ facet: -1, passes: (row) => hits[row] === 1 });
  if (filter.ids) {
    const ids = new Set(filter.ids);
    tests.push({ facet: -1, passes: (row) => ids.has(corpus.examples[row]?.id ?? "") });
  }
  for (const [key, [low, high]] of Object.entries(filter.ranges)) {
    const values = measures.find((measure) => measure.key === key)?.values;
    if (!values) continue;
    tests.push({
      facet: -1,
      passes: (row) => {
        const value = values[row] ?? Number.NaN;
        return !Number.isNaN(value) && (low === null || value >= low) && (high === null || value <= high);
      },
    });
  }
  if (filter.lasso) {
    const inside = rowsInside(measures, corpus, filter.lasso);
    tests.push({ facet: -1, passes: (row) => inside[row] === 1 });
  }
  facets.forEach((facet, at) => {
    const chosen = filter.facets[facet.key] ?? [];
    const places = new Set(facet.values.flatMap(({ value }, i) => (chosen.includes(value) ? [i] : [])));
    if (!places.size) return;
    const every = facet.multiple && filter.all.includes(facet.key);
    tests.push({
      facet: at,
      passes: (row) => {
        const member = facet.members[row] ?? [];
        if (!every) return member.some((value) => places.has(value));
        return [...places].every((value) => member.includes(value));
      },
    });
  });
  return tests;
}

/** Return the filter without the parts that this page does not have, and the names of those parts. */
export function known(index: Index, filter: Filter): { filter: Filter; unknown: string[] } {
  const unknown: string[] = [];
  const facets: Record<string, string[]> = {};
  for (const [key, values] of Object.entries(filter.facets)) {
    const facet = index.facets.find((one) => one.key === key);
    const kept = values.filter((value) => facet?.values.some((one) => one.value === value));
    if (kept.length < values.length) unknown.push(`filter ${key}`);
    if (kept.length) facets[key] = kept;
  }
  const measures = new Set(index.measures.map((measure) => measure.key));
  const families = new Set(index.measures.map((measure) => measure.family));
  const ranges = Object.fromEntries(Object.entries(filter.ranges).filter(([key]) => measures.has(key)));
  for (const key of Object.keys(filter.ranges)) if (!measures.has(key)) unknown.push(`limits of ${key}`);
  const isAxis = (key: string) => measures.has(key) || families.has(key);
  const lasso = filter.lasso && isAxis(filter.lasso.x) && isAxis(filter.lasso.y) ? filter.lasso : null;
  if (filter.lasso && !lasso) unknown.push("region of the plot");
  const all = filter.all.filter((key) => index.facets.some((one) => one.key === key && one.multiple));
  return { filter: { ...filter, facets, ranges, lasso, all }, unknown };
}
