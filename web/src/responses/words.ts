// A state in words: what the page announces and what exports name as their origin.

import { counted } from "../page/numbers";
import type { State } from "./address";
import type { Filter, Index, Limits } from "./filter";
import type { Order } from "./order";
import type { Search } from "./search";
import { NO_SEARCH, scopesOf } from "./search";

/** Write a number with about four significant digits and a minus sign. */
export function plainNumber(value: number): string {
  const size = Math.abs(value);
  const text =
    size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace(/-/g, "−");
}

/** One condition in words, and the state without it. */
export interface Condition {
  text: string;
  without: State;
}

/** Return the conditions of a state; empty without any. */
export function conditions(index: Index, state: State): Condition[] {
  const { filter, search } = state;
  const found: Condition[] = [];
  const add = (text: string, less: Partial<Filter>) =>
    found.push({ text, without: { ...state, filter: { ...filter, ...less } } });
  for (const [key, values] of Object.entries(filter.facets)) {
    const facet = index.facets.find((one) => one.key === key);
    if (!facet || !values.length) continue;
    const labels = values.map((value) => facet.values.find((one) => one.value === value)?.label ?? value);
    const all = facet.multiple && filter.all.includes(key);
    add(`${facet.title}: ${labels.join(all ? " and " : " or ")}`, { facets: without(filter.facets, key) });
  }
  for (const [key, limits] of Object.entries(filter.ranges)) {
    add(`${titleOf(index, key)} ${limitWords(limits)}`, { ranges: without(filter.ranges, key) });
  }
  if (filter.lasso) {
    const { x, y } = filter.lasso;
    add(`inside a region drawn on ${titleOf(index, x)} and ${titleOf(index, y)}`, { lasso: null });
  }
  if (filter.ids) add(`one of ${counted(filter.ids.length, "given id")}`, { ids: null });
  if (search.text) {
    const text = searchWords(search, index.corpus.policies);
    found.push({ text, without: { ...state, search: NO_SEARCH } });
  }
  if (filter.sample) {
    add(`random sample of ${filter.sample.size}, seed ${filter.sample.seed}`, { sample: null });
  }
  return found;
}

/** Return the conditions as one sentence part. */
export const filterWords = (index: Index, state: State): string =>
  conditions(index, state)
    .map(({ text }) => text)
    .join("; ") || "no filter";

function without<T>(record: Record<string, T>, key: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([name]) => name !== key));
}

function searchWords(search: Search, policies: readonly string[]): string {
  const quote = (text: string) => `“${text}”`;
  const where = scopesOf(policies).find(([scope]) => scope === search.scope)?.[1] ?? search.scope;
  const what = search.isRegex ? `the expression ${quote(search.text)} matches` : `${quote(search.text)} occurs`;
  return `${what} in ${where}`;
}

function limitWords([low, high]: Limits): string {
  if (low === null) return `at most ${plainNumber(high ?? 0)}`;
  if (high === null) return `at least ${plainNumber(low)}`;
  return `from ${plainNumber(low)} to ${plainNumber(high)}`;
}

/** Return the title of a measure, or of a family of measures. */
export function titleOf(index: Index, key: string): string {
  const exact = index.measures.find((measure) => measure.key === key);
  if (exact) return exact.title;
  const member = index.measures.find((measure) => measure.family === key);
  return member ? member.title.replace(/, [^,]*$/, "") : key;
}

/** Return an order in words. */
export function orderWords(index: Index, order: Order): string {
  if (order.by === "index") return order.descending ? "last evaluated first" : "as evaluated";
  return `${titleOf(index, order.by)}, ${order.descending ? "highest" : "lowest"} first`;
}
