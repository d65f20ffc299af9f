// A region drawn by hand on the plot of two measures.

import type { Corpus } from "./rows";
import type { Measure } from "./measures";

export type Point = readonly [number, number];

/** A region in the units of its axes. An axis is a measure's key, or a family: then every policy's response counts. */
export interface Lasso {
  x: string;
  y: string;
  points: Point[];
}

/** The address holds at most this many corners. */
const MOST_CORNERS = 48;

/** Return whether a point lies inside a polygon, by the parity of crossings to its right. */
export function isInside(polygon: readonly Point[], [x, y]: Point): boolean {
  let inside = false;
  let [px, py] = polygon[polygon.length - 1] ?? [0, 0];
  for (const [qx, qy] of polygon) {
    if (qy > y !== py > y && x < ((px - qx) * (y - qy)) / (py - qy) + qx) inside = !inside;
    [px, py] = [qx, qy];
  }
  return inside;
}

/** Return at most `most` corners of a drawn line, evenly chosen, each with five significant digits. */
export function simplify(points: readonly Point[], most = MOST_CORNERS): Point[] {
  const step = Math.max(1, points.length / most);
  const kept: Point[] = [];
  for (let at = 0; at < points.length && kept.length < most; at += step) {
    const point = points[Math.floor(at)];
    if (point) kept.push([round(point[0]), round(point[1])]);
  }
  return kept;
}

const round = (value: number): number => Number(value.toPrecision(5));

/** Return the rectangle with these limits; a limit left open lies beyond every finite value. */
export function rectangle(x: [number, number], y: [number, number]): Point[] {
  const open = (value: number) => (Number.isFinite(value) ? value : Math.sign(value) * 1e12);
  const [left, right, bottom, top] = [open(x[0]), open(x[1]), open(y[0]), open(y[1])];
  return [
    [left, bottom],
    [right, bottom],
    [right, top],
    [left, top],
  ];
}

/** One point of the plot: an example, and the response's policy where the axes are families. */
export interface PlotPoint {
  row: number;
  policy: number | null;
  x: number;
  y: number;
}

/** Return the points of a plot. Examples without one of the two numbers have no point. */
export function plotPoints(measures: readonly Measure[], corpus: Corpus, x: string, y: string): PlotPoint[] {
  const byKey = new Map(measures.map((measure) => [measure.key, measure]));
  const points: PlotPoint[] = [];
  const collect = (a: Measure | undefined, b: Measure | undefined, policy: number | null) => {
    if (!a || !b) return;
    a.values.forEach((value, row) => {
      const other = b.values[row] ?? Number.NaN;
      if (!Number.isNaN(value) && !Number.isNaN(other)) points.push({ row, policy, x: value, y: other });
    });
  };
  const [a, b] = [byKey.get(x), byKey.get(y)];
  if (a && b) collect(a, b, null);
  else {
    corpus.policies.forEach((policy, i) =>
      collect(a ?? byKey.get(`${x}@${policy}`), b ?? byKey.get(`${y}@${policy}`), i),
    );
  }
  return points;
}

/** Return 1 for each example with a point inside the region. */
export function rowsInside(measures: readonly Measure[], corpus: Corpus, lasso: Lasso): Uint8Array {
  const found = new Uint8Array(corpus.examples.length);
  for (const point of plotPoints(measures, corpus, lasso.x, lasso.y)) {
    if (!found[point.row] && isInside(lasso.points, [point.x, point.y])) found[point.row] = 1;
  }
  return found;
}
