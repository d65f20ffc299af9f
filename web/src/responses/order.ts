// Orders of the examples.

import { INTEREST, type Measure } from "./measures";

export interface Order {
  /** A measure's key, or `index`: as evaluated. */
  by: string;
  descending: boolean;
}

export const AS_EVALUATED: Order = { by: "index", descending: false };

/** Return rows in an order. Examples without the number come last; ties keep the order of the evaluation. */
export function ordered(rows: readonly number[], measures: readonly Measure[], order: Order): number[] {
  const values = measures.find((measure) => measure.key === order.by)?.values;
  const sorted = [...rows];
  const sign = order.descending ? -1 : 1;
  if (!values) return sorted.sort((a, b) => sign * (a - b));
  return sorted.sort((a, b) => {
    const [x, y] = [values[a] ?? Number.NaN, values[b] ?? Number.NaN];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
    return sign * (x - y) || a - b;
  });
}

/** The order of a page that was just opened: the most interesting examples first. */
export const FIRST_ORDER: Order = { by: INTEREST, descending: true };
