// The interval of a share.

/** Quantile of the standard normal distribution for 95 %. */
const Z = 1.959963984540054;

/** A share of n with its interval. */
export interface Share {
  count: number;
  n: number;
  value: number;
  low: number;
  high: number;
}

/** Return the share count / n with its 95 % interval by Wilson (1927). With n = 0 the interval is 0 to 1. */
export function wilson(count: number, n: number, z = Z): Share {
  if (n <= 0) return { count, n, value: 0, low: 0, high: 1 };
  const p = count / n;
  const spread = (z * z) / n;
  const centre = (p + spread / 2) / (1 + spread);
  const half = (z / (1 + spread)) * Math.sqrt((p * (1 - p)) / n + spread / (4 * n));
  return {
    count,
    n,
    value: p,
    low: count === 0 ? 0 : Math.max(0, centre - half),
    high: count === n ? 1 : Math.min(1, centre + half),
  };
}
