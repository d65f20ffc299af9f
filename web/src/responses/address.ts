// The state of the explorer within the state of the page, which the address behind # holds.

import type { PageState } from "../page/state";
import type { Filter, Limits } from "./filter";
import { NO_FILTER } from "./filter";
import type { Point } from "./lasso";
import type { Order } from "./order";
import type { Search } from "./search";
import { NO_SEARCH } from "./search";

export type DiffUnit = "word" | "line";

/** Two policies whose responses are compared. */
export interface Diff {
  left: string;
  right: string;
  unit: DiffUnit;
}

export interface Modes {
  diff: Diff | null;
  blind: boolean;
  markdown: boolean;
}

/** The response and series of the token view. */
export interface TokenPlace {
  stage: string;
  step: number;
  rollout: number;
  series: string;
}

export interface State {
  filter: Filter;
  search: Search;
  /** Null for the page's first order. */
  order: Order | null;
  /** Id of the example shown; null for the first. */
  selected: string | null;
  modes: Modes;
  /** Axes of the plot; null for the first. */
  plot: readonly [string, string] | null;
  tokens: TokenPlace | null;
}

export const NO_MODES: Modes = { diff: null, blind: false, markdown: false };
export const START: State = {
  filter: NO_FILTER,
  search: NO_SEARCH,
  order: null,
  selected: null,
  modes: NO_MODES,
  plot: null,
  tokens: null,
};

/** Join texts with commas; a comma or a backslash inside a text is escaped. */
const joined = (values: readonly (string | number)[]): string =>
  values.map((value) => String(value).replace(/[\\,]/g, "\\$&")).join(",");

/** Take apart what `joined` wrote. */
function parts(text: string): string[] {
  const found = [""];
  for (let i = 0; i < text.length; i++) {
    const character = text[i] ?? "";
    if (character === ",") found.push("");
    else found[found.length - 1] += character === "\\" ? (text[++i] ?? "") : character;
  }
  return found;
}

/** Names of the values of the page that belong to the explorer; limits are named `r.` and their measure. */
const NAMES = [
  "example",
  "search",
  "in",
  "regex",
  "all",
  "region",
  "ids",
  "sample",
  "order",
  "diff",
  "blind",
  "markdown",
  "plot",
  "tokens",
];
const LIMITS = "r.";
const isOwn = (name: string): boolean => NAMES.includes(name) || name.startsWith(LIMITS);

/** Write a state into the page's; parts at their start values are left out, values of other sections stay. */
export function toPage(state: State, page: PageState): PageState {
  const { filter, search, order, modes, plot, tokens } = state;
  const values = Object.fromEntries(Object.entries(page.values).filter(([name]) => !isOwn(name)));
  if (state.selected !== null) values.example = state.selected;
  if (search.text) values.search = search.text;
  if (search.scope !== NO_SEARCH.scope) values.in = search.scope;
  if (search.isRegex) values.regex = "1";
  if (filter.all.length) values.all = joined(filter.all);
  for (const [key, [low, high]] of Object.entries(filter.ranges)) {
    values[LIMITS + key] = joined([low ?? "", high ?? ""]);
  }
  const { lasso } = filter;
  if (lasso) values.region = joined([lasso.x, lasso.y, ...lasso.points.flat()]);
  if (filter.ids) values.ids = joined(filter.ids);
  if (filter.sample) values.sample = joined([filter.sample.seed, filter.sample.size]);
  if (order) values.order = joined([order.by, order.descending ? "down" : "up"]);
  if (modes.diff) values.diff = joined([modes.diff.left, modes.diff.right, modes.diff.unit]);
  if (modes.blind) values.blind = "1";
  if (modes.markdown) values.markdown = "1";
  if (plot) values.plot = joined(plot);
  if (tokens) values.tokens = joined([tokens.stage, tokens.step, tokens.rollout, tokens.series]);
  return { filter: filter.facets, values };
}

export interface Parsed {
  state: State;
  /** Parts that could not be read, in words. */
  ignored: string[];
}

/** Read the explorer's part of the page's state. */
export function fromPage(page: PageState): Parsed {
  const ignored: string[] = [];
  const state: State = {
    ...START,
    filter: { ...NO_FILTER, facets: page.filter, ranges: {} },
    search: { ...NO_SEARCH },
    modes: { ...NO_MODES },
  };
  for (const [name, text] of Object.entries(page.values)) {
    if (isOwn(name) && !readPart(state, name, text)) ignored.push(shortened(`${name}=${text}`));
  }
  return { state, ignored };
}

const shortened = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

/** Write one part into the state. Returns false for one that says nothing. */
function readPart(state: State, name: string, text: string): boolean {
  const values = parts(text);
  const [first = "", second = "", third = "", fourth = ""] = values;
  const { filter, search, modes } = state;
  if (name.startsWith(LIMITS)) {
    const limits = values.length === 2 ? readLimits(first, second) : null;
    if (limits) filter.ranges[name.slice(LIMITS.length)] = limits;
    return limits !== null;
  }
  switch (name) {
    case "example":
      state.selected = text;
      return true;
    case "search":
      search.text = text;
      return true;
    case "in":
      search.scope = text;
      return true;
    case "regex":
      search.isRegex = text === "1";
      return search.isRegex;
    case "all":
      filter.all = values;
      return true;
    case "region": {
      const points = readPoints(values.slice(2));
      if (!points) return false;
      filter.lasso = { x: first, y: second, points };
      return true;
    }
    case "ids":
      filter.ids = values;
      return true;
    case "sample": {
      const [seed, size] = [whole(first), whole(second)];
      if (seed === null || size === null || size < 1) return false;
      filter.sample = { seed, size };
      return true;
    }
    case "order":
      if (!first || !["up", "down"].includes(second)) return false;
      state.order = { by: first, descending: second === "down" };
      return true;
    case "diff":
      if (!first || !second || !["word", "line"].includes(third)) return false;
      modes.diff = { left: first, right: second, unit: third as DiffUnit };
      return true;
    case "blind":
    case "markdown":
      modes[name] = text === "1";
      return modes[name];
    case "plot":
      if (!first || !second) return false;
      state.plot = [first, second];
      return true;
    case "tokens": {
      const [step, rollout] = [whole(second), whole(third)];
      if (step === null || rollout === null) return false;
      state.tokens = { stage: first, step, rollout, series: fourth };
      return true;
    }
    default:
      return false;
  }
}

function finite(text: string): number | null {
  const value = Number(text);
  return text.trim() !== "" && Number.isFinite(value) ? value : null;
}

function whole(text: string): number | null {
  const value = finite(text);
  return value !== null && Number.isInteger(value) && value >= 0 && value <= 0xffffffff ? value : null;
}

function readLimits(low: string, high: string): Limits | null {
  const limits: Limits = [low === "" ? null : finite(low), high === "" ? null : finite(high)];
  const damaged = (low !== "" && limits[0] === null) || (high !== "" && limits[1] === null);
  return damaged || (low === "" && high === "") ? null : limits;
}

function readPoints(texts: string[]): Point[] | null {
  const numbers = texts.map(finite);
  if (numbers.length < 6 || numbers.length % 2 || numbers.some((value) => value === null)) return null;
  const points: Point[] = [];
  for (let i = 0; i < numbers.length; i += 2) points.push([numbers[i] as number, numbers[i + 1] as number]);
  return points;
}
