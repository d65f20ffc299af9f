// The lines of a chart over common steps, smoothed where asked.
import type { Chart } from "../contract";

export interface Line {
  /** What the line shows: training, held out, or the run where several are in one chart. */
  label: string;
  metric: string;
  /** Index of the colour, and of the dash pattern. */
  colour: number;
  dash: number;
  /** By step. */
  values: Map<number, number>;
}

export interface ChartLines {
  chart: Chart;
  lines: Line[];
  /** All steps, ascending. */
  steps: number[];
  /** The line of text that replaces a chart of constants; null for a chart. */
  constant: string | null;
}

const NONE: ReadonlySet<string> = new Set();

/**
 * The lines of a chart; those whose labels are in `hidden` are left out.
 * Where `runs` are overlaid, a run has its colour in every chart.
 */
export function chartLines(chart: Chart, runs: readonly string[] = [], hidden = NONE): ChartLines {
  const lines = chart.series
    .map((series, i): Line => ({
      label: series.label,
      metric: series.metric,
      colour: runs.length ? runs.indexOf(series.label) + 1 : i + 1,
      dash: runs.length ? runs.indexOf(series.label) : i,
      values: new Map(series.points.map(([step, value]) => [step, value])),
    }))
    .filter((line) => line.values.size && !hidden.has(line.label));
  const steps = [...new Set(lines.flatMap((line) => [...line.values.keys()]))].sort((a, b) => a - b);
  return { chart, lines, steps, constant: constantText(lines, steps) };
}

/** What a chart says that has nothing to draw: every line has one value all the time. */
function constantText(lines: readonly Line[], steps: readonly number[]): string | null {
  const values = lines.map((line) => new Set(line.values.values()));
  if (!steps.length || values.some((one) => one.size !== 1)) return null;
  return steps.length > 1 ? "at every point" : "one point";
}

/** The first and the only value of a line. */
export const firstValue = (line: Line): number => line.values.values().next().value!;

/** Smooth a line by an exponential moving average, corrected for its start; gaps stay gaps. `weight` is 0 … 1. */
export function smooth(values: readonly (number | null)[], weight: number): (number | null)[] {
  let [sum, total] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

/** Values of a line at the given steps; null where it has none. */
export function at(line: Line, steps: readonly number[]): (number | null)[] {
  return steps.map((step) => line.values.get(step) ?? null);
}

/** The index of the step nearest to x. */
export function nearest(steps: readonly number[], x: number): number {
  let [low, high] = [0, steps.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(steps[high] - x) < Math.abs(steps[low] - x) ? high : low;
}
