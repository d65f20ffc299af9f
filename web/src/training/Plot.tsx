// One drawing with uPlot: lines, thresholds, healthy bands and findings; the pointer and the zoom are shared signals.
import { effect, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { TINTS } from "../page/Policy";
import { colourOf, printing, shownTheme } from "../page/theme";
import type { Finding } from "../contract";
import { BAND_COLOURS, LIGHTS, type Band } from "./health";
import { at, nearest, smooth, type ChartLines } from "./lines";
import { extent, logLabels, logTicks, rootTicks, tickLabels, ticks } from "./ticks";

export const HEIGHT = 190;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
/** A threshold belongs to the chart if it is no further from the values than this share of their range. */
const REACH = 0.6;

/** What the charts of a stage share. */
export interface View {
  /** The step under the pointer or chosen by key; null for none. */
  hover: Signal<number | null>;
  zoom: Signal<[number, number] | null>;
  smoothing: Signal<number>;
  log: Signal<boolean>;
}

interface PlotProps {
  data: ChartLines;
  view: View;
  bands: readonly Band[];
  findings: readonly Finding[];
}

export function Plot({ data, view, bands, findings }: PlotProps) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const node = host.current!;
    let plot: uPlot | null = null;
    let near = false;
    const draw = () => {
      plot?.destroy();
      plot = near || printing.value ? createPlot(node, data, view, bands, findings) : null;
    };
    // Drawn when it comes near the screen, and again when what it depends on changes.
    const observer = new IntersectionObserver(
      (changes) => {
        if (near || !changes.some((change) => change.isIntersecting)) return;
        near = true;
        draw();
      },
      { rootMargin: "600px" },
    );
    observer.observe(node);
    const stop = effect(() => {
      void [shownTheme.value, view.smoothing.value, view.log.value, printing.value];
      draw();
    });
    const follow = effect(() => {
      const x = view.hover.value;
      if (!plot) return;
      if (x === null) plot.setCursor({ left: -10, top: -10 }, false);
      else plot.setCursor({ left: plot.valToPos(x, "x"), top: -10 }, false);
    });
    const zoomed = effect(() => {
      const range = view.zoom.value;
      if (!plot) return;
      const [min, max] = range ?? fullRange(data);
      plot.setScale("x", { min, max });
    });
    let width = node.clientWidth;
    const resized = new ResizeObserver(() => {
      if (node.clientWidth === width || !plot) return;
      width = node.clientWidth;
      plot.setSize({ width, height: HEIGHT });
    });
    resized.observe(node);
    return () => {
      for (const one of [stop, follow, zoomed]) one();
      observer.disconnect();
      resized.disconnect();
      plot?.destroy();
    };
  }, [data]);
  return <div class="canvas" ref={host} />;
}

const isRoot = (data: ChartLines) => data.chart.scale === "root";

/** All steps; an axis from 0 for a root scale; never of no width. */
function fullRange({ chart, steps }: ChartLines): [number, number] {
  const [first, last] = [chart.scale === "root" ? 0 : steps[0], steps[steps.length - 1]];
  return first === last ? [first - 1, last + 1] : [first, last];
}

/** Whether a chart can have a logarithmic axis: all its values are above 0. */
export function allPositive({ lines }: ChartLines): boolean {
  return lines.every((line) => [...line.values.values()].every((value) => value > 0));
}

function createPlot(
  node: HTMLElement,
  data: ChartLines,
  view: View,
  bands: readonly Band[],
  findings: readonly Finding[],
): uPlot {
  const { chart, lines, steps } = data;
  const share = chart.format === "share";
  const log = view.log.value && allPositive(data);
  const ink = colourOf("--muted");
  const grid = { stroke: colourOf("--line"), width: 1 };
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const tints = Array.from({ length: TINTS }, (_, i) => colourOf(`--p${i}`));
  const weight = view.smoothing.value;
  const columns: (number | null)[][] = [];
  const series: uPlot.Series[] = [{}];
  for (const line of lines) {
    const values = at(line, steps);
    const stroke = tints[line.colour % TINTS];
    const softened = weight > 0 && line.values.size > 4;
    const points = { show: line.values.size <= 40 && !softened, size: 4, fill: stroke };
    columns.push(values);
    series.push({ stroke, width: 1.8, dash: DASHES[line.dash % DASHES.length], spanGaps: true, points, alpha: softened ? 0.28 : 1 });
    if (!softened) continue;
    columns.push(smooth(values, weight));
    series.push({ stroke, width: 2.2, dash: DASHES[line.dash % DASHES.length], spanGaps: true, points: { show: false } });
  }
  const [min, max] = view.zoom.value ?? fullRange(data);
  const levels = chart.marks.map((mark) => mark.value);
  const options: uPlot.Options = {
    width: node.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    series,
    scales: {
      x: isRoot(data)
        ? { time: false, distr: 100, fwd: (v) => Math.sqrt(Math.max(v, 0)), bwd: (v) => v * v, range: (_, a, b) => [a, b], min, max }
        : { time: false, range: (_, a, b) => [a, b], min, max },
      y: { distr: log ? 3 : 1, range: (_, low, high) => yRange(low, high, levels, log) },
    },
    axes: [
      {
        stroke: ink,
        font,
        grid: { show: false },
        ticks: { ...grid, size: 4 },
        size: 24,
        splits: (_, __, a, b) => xTicks(data, a, b),
        // A scale of its own kind would leave out labels.
        filter: (_, found) => found,
        values: (_, found) => found.map((value) => String(value)),
      },
      {
        stroke: ink,
        font,
        grid,
        ticks: { show: false },
        size: 54,
        gap: 4,
        splits: (_, __, a, b) => (log ? logTicks(a, b) : ticks(a, b, 5).found),
        filter: (_, found) => found,
        values: (u, found) => yLabels(u, found, log, share),
      },
    ],
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: 7 },
      bind: {
        dblclick: () => () => {
          view.zoom.value = null;
          return null;
        },
      },
    },
    hooks: {
      drawClear: [(u) => drawBands(u, bands)],
      draw: [
        (u) => drawMarks(u, chart.marks, font),
        (u) => drawFindings(u, findings, font),
        (u) => describeAxes(u, node, log, share),
      ],
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 6) return;
          view.zoom.value = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    },
  };
  const plot = new uPlot(options, [steps, ...columns] as uPlot.AlignedData, node);
  plot.over.addEventListener("pointermove", (event) => {
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    view.hover.value = steps[nearest(steps, plot.posToVal(left, "x"))];
  });
  plot.over.addEventListener("pointerleave", () => {
    view.hover.value = null;
  });
  return plot;
}

/** The values with room around them, and the thresholds that are near. */
function yRange(low: number, high: number, levels: readonly number[], log: boolean): [number, number] {
  if (log) return [low / 1.15, high * 1.15];
  const reach = REACH * (high - low);
  const near = levels.filter((level) => level >= low - reach && level <= high + reach);
  return extent(Math.min(low, ...near), Math.max(high, ...near), 0.08);
}

function xTicks(data: ChartLines, low: number, high: number): number[] {
  const found = isRoot(data)
    ? rootTicks(high).filter((value) => value >= low)
    : ticks(low, high, 5).found.filter(Number.isInteger);
  return found.length ? found : [data.steps[0]];
}

function yLabels(u: uPlot, found: readonly number[], log: boolean, share: boolean): string[] {
  if (log) return logLabels(found, share);
  return tickLabels(found, ticks(u.scales.y.min!, u.scales.y.max!, 5).step, share);
}

function drawBands(u: uPlot, bands: readonly Band[]): void {
  const { ctx, bbox } = u;
  const [low, high] = [u.scales.y.min!, u.scales.y.max!];
  ctx.save();
  for (const band of bands) {
    ctx.fillStyle = colourOf(BAND_COLOURS[band.label]);
    const top = Math.min(band.high ?? high, high);
    const bottom = Math.max(band.low ?? low, low);
    if (top <= bottom) continue;
    const y = u.valToPos(top, "y", true);
    ctx.fillRect(bbox.left, y, bbox.width, u.valToPos(bottom, "y", true) - y);
  }
  ctx.restore();
}

function drawMarks(u: uPlot, marks: ChartLines["chart"]["marks"], font: string): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colourOf("--unclear");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.font = font.replace("11px", `${11 * devicePixelRatio}px`);
  ctx.textAlign = "right";
  ctx.textBaseline = "bottom";
  for (const { value, label } of marks) {
    if (value < u.scales.y.min! || value > u.scales.y.max!) continue;
    const y = Math.round(u.valToPos(value, "y", true));
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.fillText(label, bbox.left + bbox.width, y - 2 * devicePixelRatio);
  }
  ctx.restore();
}

const INKS: Record<Finding["status"], string> = { note: "--accent", warning: "--unclear", unhealthy: "--bad" };

function drawFindings(u: uPlot, findings: readonly Finding[], font: string): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.font = font.replace("11px", `${11 * devicePixelRatio}px`);
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  ctx.lineWidth = devicePixelRatio;
  for (const finding of findings) {
    const { step } = finding;
    if (step < u.scales.x.min! || step > u.scales.x.max!) continue;
    ctx.strokeStyle = ctx.fillStyle = colourOf(INKS[finding.status]);
    const x = Math.round(u.valToPos(step, "x", true));
    ctx.setLineDash([2 * devicePixelRatio, 2 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillText(LIGHTS[finding.status].sign, x, bbox.top - 9 * devicePixelRatio);
  }
  ctx.restore();
}

/** Keep the positions and labels of the ticks that were drawn, and the points, where a test can read them. */
function describeAxes(u: uPlot, node: HTMLElement, log: boolean, share: boolean): void {
  const { min: a, max: b } = u.scales.y;
  const vertical = log ? logTicks(a!, b!) : ticks(a!, b!, 5).found;
  const labels = yLabels(u, vertical, log, share);
  node.dataset.yTicks = JSON.stringify(vertical.map((value, i) => [labels[i], u.valToPos(value, "y")]));
  node.dataset.xPositions = JSON.stringify([...u.data[0]].slice(0, 50).map((x) => [x, u.valToPos(x, "x")]));
  node.dataset.xZero = String(u.valToPos(0, "x"));
}
