// The geometry of interval drawings.

export interface IntervalLike {
  value: number;
  low: number | null;
  high: number | null;
  /** Why there is no interval. */
  no_interval?: string;
}

type Maybe = IntervalLike | null | undefined;

export const PLOT = { width: 116, height: 22, pad: 6 };

export interface Scale {
  /** Where the reference line is. */
  anchor: number;
  low: number;
  high: number;
  at: (value: number) => number;
}

function scale(anchor: number, low: number, high: number): Scale {
  return { anchor, low, high, at: (value) => PLOT.pad + ((value - low) / (high - low)) * (PLOT.width - 2 * PLOT.pad) };
}

/** The axis of shares: 0 to 100 % in every column, so that bars beside each other can be compared. */
export const shareScale = (anchor = 0): Scale => scale(anchor, 0, 1);

/** An axis for all intervals that stand beside each other, with round ends; it always contains `anchor`. */
export function scaleOf(intervals: readonly Maybe[], anchor: number): Scale {
  const ends = intervals.flatMap((one) => (one ? [one.low ?? one.value, one.high ?? one.value] : []));
  const { low, high } = roundAxis(Math.min(anchor, ...ends), Math.max(anchor, ...ends), anchor);
  return scale(anchor, low, high);
}

/** Move the ends of an axis outwards to whole steps from `anchor`. */
export function roundAxis(low: number, high: number, anchor: number): { low: number; high: number; step: number } {
  const step = roundStep((high - low || 1) / 5);
  return {
    low: anchor - step * ceil((anchor - low) / step),
    high: anchor + step * (ceil((high - anchor) / step) + +(high === low)),
    step,
  };
}

/** The next of 1, 2, 5, 10, … at or above a size. */
function roundStep(size: number): number {
  const unit = 10 ** Math.floor(Math.log10(size));
  return unit * ([1, 2, 5].find((factor) => factor * unit >= size * (1 - 1e-9)) ?? 10);
}

const ceil = (value: number): number => Math.ceil(value - 1e-9);

/** The ends of an axis in words, without the zeros that fill up digits. */
export function endTexts({ low, high }: Scale, show: (value: number) => string): [string, string] {
  const short = (value: number) => show(value).replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");
  return [short(low), short(high)];
}

/** The class of a difference: filled when its interval excludes zero, hollow otherwise. */
export function effect(interval: Maybe): string {
  const clear = interval && interval.low !== null && (interval.low > 0 || (interval.high ?? 0) < 0);
  return clear ? "effect" : "effect none";
}

interface Range {
  low?: number | null;
  high?: number | null;
  no_interval?: string;
}

export function rangeText({ low, high, no_interval }: Range, show: (value: number) => string): string {
  return low === null || low === undefined || high === null || high === undefined
    ? (no_interval ?? "no interval")
    : `${show(low)} to ${show(high)}`;
}
