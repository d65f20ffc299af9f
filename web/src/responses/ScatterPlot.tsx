// A plot of two measures: draw a region to filter by it, click a point to show its example.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { shownTheme } from "../page/theme";
import type { Explorer } from "./explorer";
import { type PlotPoint, plotPoints, type Point, rectangle, simplify } from "./lasso";
import { VisibleText } from "../page/VisibleText";
import { INTEREST } from "./measures";
import { type Frame, frameOf, drawPlot, nearest, PLOT_HEIGHT, toData, toPixel } from "./plot_drawing";
import { grouped } from "./RangeFilters";
import { asked } from "./rows";
import { plainNumber, titleOf } from "./words";

/** Axes that a page offers by name, as far as it has them. */
function presets(explorer: Explorer): [string, string, string][] {
  const { pairs, judges } = explorer.corpus;
  const pair = pairs[pairs.length - 1];
  const all: [string, string, string][] = [
    ...(pair ? [[`reward: ${pair.left} against ${pair.right}`, `reward@${pair.left}`, `reward@${pair.right}`] as [string, string, string]] : []),
    ["reward against length", "length", "reward"],
    ["reward against KL", "kl", "reward"],
    ...judges.map((judge): [string, string, string] => [`reward against ${judge}`, `score.${judge}`, "reward"]),
  ];
  const keys = new Set(explorer.index.measures.flatMap((measure) => [measure.key, measure.family]));
  return all.filter(([, x, y]) => keys.has(x) && keys.has(y));
}

export function ScatterPlot({ explorer }: { explorer: Explorer }) {
  const offered = useMemo(() => presets(explorer), [explorer]);
  const isOpen = useSignal(explorer.state.peek().plot !== null || explorer.state.peek().filter.lasso !== null);
  if (!offered.length) return null;
  return (
    <details
      class="scatter"
      open={isOpen.value}
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary>Plot</summary>
      {isOpen.value ? <Plot explorer={explorer} offered={offered} /> : null}
    </details>
  );
}

function Plot({ explorer, offered }: { explorer: Explorer; offered: [string, string, string][] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useSignal(600);
  const outline = useRef<Point[]>([]);
  const focus = useSignal<number | null>(null);
  const { index, corpus } = explorer;
  const [x = "", y = ""] = explorer.state.value.plot ?? [offered[0]?.[1], offered[0]?.[2]];
  const points = useMemo(() => plotPoints(index.measures, corpus, x, y), [index, corpus, x, y]);
  const frame = useMemo(() => frameOf(points, width.value), [points, width.value]);
  const found = useMemo(() => new Set(explorer.rows.value), [explorer.rows.value]);
  const { lasso } = explorer.state.value.filter;
  const isShown = lasso && lasso.x === x && lasso.y === y;
  const names = { x: titleOf(index, x), y: titleOf(index, y) };
  const draw = () => {
    if (!canvas.current) return;
    drawPlot(canvas.current, frame, points, {
      names,
      found,
      current: explorer.current.value,
      focus: focus.value,
      outline: outline.current,
      region: isShown ? lasso.points : [],
      blind: explorer.modes.value.blind,
    });
  };
  useEffect(() => {
    const host = canvas.current?.parentElement;
    if (!host) return;
    const observer = new ResizeObserver(() => {
      width.value = Math.max(240, Math.floor(host.clientWidth));
    });
    observer.observe(host);
    return () => observer.disconnect();
  }, []);
  void shownTheme.value;
  useEffect(draw);
  const at = (event: PointerEvent): Point => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const finish = () => {
    const drawn = outline.current;
    outline.current = [];
    const isClick = Math.max(...drawn.map(([px, py]) => Math.hypot(px - (drawn[0]?.[0] ?? 0), py - (drawn[0]?.[1] ?? 0)))) < 5;
    if (drawn.length < 3 || isClick) {
      const hit = drawn[0] ? nearest(frame, points, drawn[0], 14) : null;
      if (hit !== null) explorer.show(points[hit]?.row);
      draw();
      return;
    }
    explorer.changeFilter({ lasso: { x, y, points: simplify(drawn.map((point) => toData(frame, point))) } });
  };
  return (
    <div class="card scatter-body">
      <Axes explorer={explorer} offered={offered} x={x} y={y} />
      <div class="scatter-canvas">
        <canvas
          ref={canvas}
          width={width.value}
          height={PLOT_HEIGHT}
          tabIndex={0}
          role="img"
          aria-label={`${names.y} against ${names.x}, ${points.length} points. Arrow keys move between points, Enter shows the example.`}
          aria-describedby="plot-readout"
          onPointerDown={(event) => {
            if (event.button !== 0) return;
            event.currentTarget.setPointerCapture(event.pointerId);
            outline.current = [at(event)];
          }}
          onPointerMove={(event) => {
            if (outline.current.length) {
              outline.current.push(at(event));
              draw();
            } else focus.value = nearest(frame, points, at(event), 14);
          }}
          onPointerUp={finish}
          onPointerCancel={() => {
            outline.current = [];
            draw();
          }}
          onKeyDown={(event) => moveFocus(event, frame, points, focus, (row) => explorer.show(row))}
        />
      </div>
      <Readout explorer={explorer} point={focus.value === null ? undefined : points[focus.value]} names={names} />
      <Rectangle explorer={explorer} x={x} y={y} names={names} />
    </div>
  );
}

function Axes({ explorer, offered, x, y }: { explorer: Explorer; offered: [string, string, string][]; x: string; y: string }) {
  const known = offered.findIndex(([, a, b]) => a === x && b === y);
  const { measures } = explorer.index;
  const axis = (label: string, value: string, set: (key: string) => void) => (
    <label>
      {label}
      <select value={value} onChange={(event) => set(event.currentTarget.value)}>
        <optgroup label="Every policy's response">
          {[...new Set(measures.filter((one) => one.policy !== null).map((one) => one.family))].map((family) => (
            <option value={family}>{titleOf(explorer.index, family)}</option>
          ))}
        </optgroup>
        {grouped(measures.filter((one) => one.key !== INTEREST)).map(([title, members]) => (
          <optgroup label={title}>
            {members.map((one) => (
              <option value={one.key}>{one.title}</option>
            ))}
          </optgroup>
        ))}
      </select>
    </label>
  );
  return (
    <div class="bar">
      <label>
        Show
        <select
          value={String(known)}
          onChange={(event) => {
            const [, a, b] = offered[Number(event.currentTarget.value)] ?? [];
            if (a && b) explorer.change({ plot: [a, b] });
          }}
        >
          {offered.map(([title], i) => (
            <option value={String(i)}>{title}</option>
          ))}
          <option value="-1">other axes</option>
        </select>
      </label>
      {axis("Across", x, (key) => explorer.change({ plot: [key, y] }))}
      {axis("Up", y, (key) => explorer.change({ plot: [x, key] }))}
    </div>
  );
}

interface Focus {
  value: number | null;
}

/** Move to the nearest point in the direction of an arrow key; Enter shows the example. */
function moveFocus(event: KeyboardEvent, frame: Frame, points: PlotPoint[], focus: Focus, show: (row: number | undefined) => void) {
  const ways: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Enter") {
    if (focus.value !== null) show(points[focus.value]?.row);
    return;
  }
  const way = ways[event.key];
  if (!way) return;
  event.preventDefault();
  const from = focus.value === null ? null : points[focus.value];
  if (!from) {
    focus.value = points.length ? 0 : null;
    return;
  }
  const [fx, fy] = toPixel(frame, from);
  let best: [number, number] = [Infinity, -1];
  points.forEach((point, i) => {
    const [px, py] = toPixel(frame, point);
    const along = (px - fx) * way[0] + (py - fy) * way[1];
    const across = Math.abs((px - fx) * way[1]) + Math.abs((py - fy) * way[0]);
    const cost = along + 2 * across;
    if (along > 0.5 && cost < best[0]) best = [cost, i];
  });
  if (best[1] >= 0) focus.value = best[1];
}

function Readout({ explorer, point, names }: { explorer: Explorer; point: PlotPoint | undefined; names: { x: string; y: string } }) {
  const example = point ? explorer.corpus.examples[point.row] : undefined;
  const policy = point?.policy === null || point?.policy === undefined ? "" : explorer.corpus.policies[point.policy];
  const isBlind = explorer.modes.value.blind;
  return (
    <p class="small readout" id="plot-readout" role="status">
      {example && point ? (
        <>
          {policy && !isBlind ? `${policy}: ` : ""}
          {names.x} <b>{plainNumber(point.x)}</b>, {names.y} <b>{plainNumber(point.y)}</b> ·{" "}
          <VisibleText text={asked(example).slice(0, 120)} />
        </>
      ) : (
        "Draw around points to filter by them. Click a point to show its example."
      )}
    </p>
  );
}

/** The region in numbers, for readers who do not draw. */
function Rectangle({ explorer, x, y, names }: { explorer: Explorer; x: string; y: string; names: { x: string; y: string } }) {
  const limits = useSignal<[string, string, string, string]>(["", "", "", ""]);
  const field = (at: 0 | 1 | 2 | 3, label: string) => (
    <input
      type="number"
      step="any"
      aria-label={label}
      value={limits.value[at]}
      onInput={(event) => {
        limits.value = limits.value.map((old, i) => (i === at ? event.currentTarget.value : old)) as typeof limits.value;
      }}
    />
  );
  const choose = () => {
    const number = (at: number, open: number) => (limits.value[at]?.trim() ? Number(limits.value[at]) : open);
    const points = rectangle([number(0, -Infinity), number(1, Infinity)], [number(2, -Infinity), number(3, Infinity)]);
    explorer.changeFilter({ lasso: { x, y, points } });
  };
  return (
    <details class="by-numbers">
      <summary class="small">Choose a region by numbers</summary>
      <div class="bar">
        <span class="small">{names.x}</span> {field(0, `${names.x}, at least`)} to {field(1, `${names.x}, at most`)}
        <span class="small">{names.y}</span> {field(2, `${names.y}, at least`)} to {field(3, `${names.y}, at most`)}
        <button type="button" onClick={choose}>
          Filter by this region
        </button>
      </div>
    </details>
  );
}
