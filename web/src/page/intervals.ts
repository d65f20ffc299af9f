// The geometry of interval drawings.

export interface IntervalLike {
  value: number;
  low: number | null;
  high: number | null;
}

export const PLOT = { width: 116, height: 22, pad: 6 };

export interface Scale {
  anchor: number;
  at: (value: number) => number;
}

/** A scale over all intervals of a column; it always contains `anchor`. */
export function scaleOf(intervals: readonly (IntervalLike | null | undefined)[], anchor: number): Scale {
  const ends = intervals.flatMap((one) => (one ? [one.low ?? one.value, one.high ?? one.value] : []));
  const low = Math.min(anchor, ...ends);
  const span = Math.max(anchor, ...ends) - low || 1;
  return { anchor, at: (value) => PLOT.pad + ((value - low) / span) * (PLOT.width - 2 * PLOT.pad) };
}

/** The class of a difference: filled when its interval excludes zero, hollow otherwise. */
export function effect(interval: IntervalLike | null | undefined): string {
  const clear = interval && interval.low !== null && (interval.low > 0 || (interval.high ?? 0) < 0);
  return clear ? "effect" : "effect none";
}

export function rangeText({ low, high }: { low?: number | null; high?: number | null }, show: (value: number) => string): string {
  return low === null || low === undefined || high === null || high === undefined
    ? "no interval"
    : `${show(low)} to ${show(high)}`;
}
