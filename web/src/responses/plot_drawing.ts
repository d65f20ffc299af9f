// Geometry and drawing of the plot.

import { colourOf } from "../page/theme";
import type { PlotPoint, Point } from "./lasso";
import { extent } from "./measures";

export const PLOT_HEIGHT = 340;
const PAD = { left: 56, right: 14, top: 12, bottom: 44 };
/** Colours and shapes repeat after so many policies. */
const KINDS = 6;

/** Where the data lie on the canvas. */
export interface Frame {
  width: number;
  x: [number, number];
  y: [number, number];
}

/** Return a frame that holds all points with a little room around them. */
export function frameOf(points: readonly PlotPoint[], width: number): Frame {
  const roomy = (values: number[]): [number, number] => {
    const [low, high] = extent(values) ?? [0, 1];
    const room = (high - low) * 0.04 || Math.abs(high) * 0.1 || 1;
    return [low - room, high + room];
  };
  return { width, x: roomy(points.map(({ x }) => x)), y: roomy(points.map(({ y }) => y)) };
}

export function toPixel({ width, x, y }: Frame, point: { x: number; y: number }): Point {
  const across = width - PAD.left - PAD.right;
  const up = PLOT_HEIGHT - PAD.top - PAD.bottom;
  return [
    PAD.left + ((point.x - x[0]) / (x[1] - x[0])) * across,
    PLOT_HEIGHT - PAD.bottom - ((point.y - y[0]) / (y[1] - y[0])) * up,
  ];
}

export function toData({ width, x, y }: Frame, [px, py]: Point): Point {
  const across = width - PAD.left - PAD.right;
  const up = PLOT_HEIGHT - PAD.top - PAD.bottom;
  return [
    x[0] + ((px - PAD.left) / across) * (x[1] - x[0]),
    y[0] + ((PLOT_HEIGHT - PAD.bottom - py) / up) * (y[1] - y[0]),
  ];
}

/** Return the place of the point nearest to a pixel, or null where none is within `reach` pixels. */
export function nearest(frame: Frame, points: readonly PlotPoint[], [px, py]: Point, reach: number): number | null {
  let best: [number, number | null] = [reach, null];
  points.forEach((point, i) => {
    const [x, y] = toPixel(frame, point);
    const distance = Math.hypot(x - px, y - py);
    if (distance < best[0]) best = [distance, i];
  });
  return best[1];
}

/** Return round numbers within a range, about `count` of them. */
export function ticks([low, high]: [number, number], count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

export interface Drawing {
  names: { x: string; y: string };
  /** Rows that pass the filter; the others are pale. */
  found: ReadonlySet<number>;
  current: number | null;
  focus: number | null;
  /** The line being drawn, in pixels. */
  outline: readonly Point[];
  /** The region in force, in the units of the axes. */
  region: readonly Point[];
  blind: boolean;
}

export function drawPlot(canvas: HTMLCanvasElement, frame: Frame, points: readonly PlotPoint[], drawing: Drawing): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = frame.width * ratio;
  canvas.height = PLOT_HEIGHT * ratio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, frame.width, PLOT_HEIGHT);
  const colours = {
    ink: colourOf("--ink", canvas.parentElement ?? undefined),
    muted: colourOf("--muted"),
    line: colourOf("--line"),
    accent: colourOf("--accent"),
    policies: Array.from({ length: KINDS }, (_, i) => colourOf(`--p${i}`)),
  };
  drawAxes(context, frame, drawing, colours);
  const order = points.map((_, i) => i).sort((a, b) => rank(points[a], drawing) - rank(points[b], drawing));
  for (const i of order) {
    const point = points[i];
    if (!point) continue;
    const isFound = drawing.found.has(point.row);
    const kind = point.policy === null || drawing.blind ? null : point.policy % KINDS;
    context.globalAlpha = isFound ? 0.75 : 0.14;
    context.fillStyle = kind === null ? colours.accent : (colours.policies[kind] ?? colours.accent);
    drawMark(context, kind ?? 0, toPixel(frame, point), 4);
  }
  context.globalAlpha = 1;
  points.forEach((point, i) => {
    if (point.row !== drawing.current && i !== drawing.focus) return;
    const [x, y] = toPixel(frame, point);
    context.strokeStyle = colours.ink;
    context.lineWidth = i === drawing.focus ? 2.5 : 1.5;
    context.beginPath();
    context.arc(x, y, i === drawing.focus ? 9 : 7, 0, 2 * Math.PI);
    context.stroke();
  });
  const region = drawing.region.map(([x, y]) => toPixel(frame, { x, y }));
  drawOutline(context, drawing.outline.length ? drawing.outline : region, colours.ink);
}

const rank = (point: PlotPoint | undefined, { found }: Drawing): number => (point && found.has(point.row) ? 1 : 0);

interface Colours {
  ink: string;
  muted: string;
  line: string;
}

function drawAxes(context: CanvasRenderingContext2D, frame: Frame, { names }: Drawing, colours: Colours): void {
  const bottom = PLOT_HEIGHT - PAD.bottom;
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1;
  const label = (value: number) => String(value).replace("-", "−");
  context.textAlign = "center";
  for (const value of ticks(frame.x, Math.max(3, frame.width / 110))) {
    const [x] = toPixel(frame, { x: value, y: 0 });
    context.strokeStyle = value === 0 ? colours.muted : colours.line;
    line(context, x, PAD.top, x, bottom);
    context.fillStyle = colours.muted;
    context.fillText(label(value), x, bottom + 15);
  }
  context.textAlign = "right";
  for (const value of ticks(frame.y, 6)) {
    const [, y] = toPixel(frame, { x: 0, y: value });
    context.strokeStyle = value === 0 ? colours.muted : colours.line;
    line(context, PAD.left, y, frame.width - PAD.right, y);
    context.fillStyle = colours.muted;
    context.fillText(label(value), PAD.left - 6, y + 4);
  }
  context.fillStyle = colours.ink;
  context.textAlign = "center";
  context.fillText(names.x, (PAD.left + frame.width - PAD.right) / 2, PLOT_HEIGHT - 8, frame.width - PAD.left);
  context.save();
  context.translate(12, (PAD.top + bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(names.y, 0, 0, bottom - PAD.top);
  context.restore();
}

function line(context: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number): void {
  context.beginPath();
  context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
  context.stroke();
}

/** Draw a policy's shape: the same as beside its name. */
function drawMark(context: CanvasRenderingContext2D, kind: number, [x, y]: Point, r: number): void {
  const shapes: Point[][] = [
    [],
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]],
    [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    [[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]],
    [[0, 1.2], [-1.1, -0.9], [1.1, -0.9]],
  ];
  const corners = shapes[kind] ?? [];
  context.beginPath();
  if (!corners.length) context.arc(x, y, r, 0, 2 * Math.PI);
  corners.forEach(([cx, cy], i) => {
    if (i) context.lineTo(x + cx * r, y + cy * r);
    else context.moveTo(x + cx * r, y + cy * r);
  });
  context.fill();
}

function drawOutline(context: CanvasRenderingContext2D, outline: readonly Point[], colour: string): void {
  if (outline.length < 2) return;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.setLineDash([5, 3]);
  context.beginPath();
  outline.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
  context.stroke();
  context.setLineDash([]);
}
