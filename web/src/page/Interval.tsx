// Draw intervals: a point, its range, and a reference line.
import type { ComponentChildren } from "preact";
import { endTexts, PLOT, rangeText, type IntervalLike, type Scale } from "./intervals";
import { typeset } from "./numbers";
import { type Column, Ends } from "./Table";

interface DrawingProps {
  interval: IntervalLike;
  scale: Scale;
  /** Class that sets the colour: of a policy (tint) or of an effect. */
  kind: string;
  label: string;
}

export function IntervalDrawing({ interval, scale, kind, label }: DrawingProps) {
  const middle = PLOT.height / 2;
  return (
    <svg viewBox={`0 0 ${PLOT.width} ${PLOT.height}`} width={PLOT.width} height={PLOT.height} role="img" aria-label={label} class={kind}>
      <line class="axis" x1={PLOT.pad} x2={PLOT.width - PLOT.pad} y1={middle} y2={middle} />
      <line class="zero" x1={scale.at(scale.anchor)} x2={scale.at(scale.anchor)} y1={2} y2={PLOT.height - 2} />
      {interval.low !== null && interval.high !== null ? (
        <line class="range" x1={scale.at(interval.low)} x2={scale.at(interval.high)} y1={middle} y2={middle} />
      ) : null}
      <circle class="point" cx={scale.at(interval.value)} cy={middle} r={4} />
    </svg>
  );
}

interface IntervalProps {
  interval: IntervalLike | null | undefined;
  scale: Scale;
  kind: string;
  show: (value: number) => string;
  /** Shows the rows behind the number. */
  rows?: () => void;
  /** What stands below the interval: counts, a p-value. */
  note?: string;
}

/** The drawing, the value and its interval as text. */
export function Interval({ interval, scale, kind, show, rows, note }: IntervalProps) {
  if (!interval) return <>–</>;
  const range = rangeText(interval, show);
  const words = `${show(interval.value)}, ${interval.low === null ? range : `95 % interval ${range}`}`;
  return (
    <div class="interval">
      <IntervalDrawing interval={interval} scale={scale} kind={kind} label={words} />
      <Ends axis={endTexts(scale, show)} />
      <Value rows={rows}>{show(interval.value)}</Value>
      <span class="small">{range}</span>
      {note ? <span class="small wrapping">{typeset(note)}</span> : null}
    </div>
  );
}

interface ColumnProps<Item> {
  name: string;
  scale: Scale;
  show: (value: number) => string;
  pick: (item: Item) => IntervalLike | null | undefined;
  kind: (item: Item) => string;
  rows?: (item: Item) => (() => void) | undefined;
}

/** A column of intervals on one axis, whose ends stand below its name. */
export function intervalColumn<Item>({ name, scale, show, pick, kind, rows }: ColumnProps<Item>): Column<Item> {
  return {
    name,
    axis: endTexts(scale, show),
    cell: (item) => <Interval interval={pick(item)} scale={scale} kind={kind(item)} show={show} rows={rows?.(item)} />,
  };
}

/** A value and its interval, without a drawing. */
export function Figure({ interval, show, rows }: Omit<IntervalProps, "scale" | "kind">) {
  if (!interval) return <>–</>;
  return (
    <>
      <Value rows={rows}>{show(interval.value)}</Value>
      <span class="small">{rangeText(interval, show)}</span>
    </>
  );
}

/** A number, as a button where it can show the rows behind it. */
export function Value({ rows, children }: { rows?: () => void; children: ComponentChildren }) {
  if (!rows) return <b>{children}</b>;
  return (
    <button type="button" class="rows" title="Show the responses behind this number" onClick={rows}>
      {children}
    </button>
  );
}

interface CountsProps {
  found: { n: number; wins: number; ties: number; losses: number };
  left: string;
  right: string;
  /** Shows the rows that the right policy wins, that tie, and that it loses. */
  rows?: { wins?: () => void; ties?: () => void; losses?: () => void };
}

/** Wins, ties and losses of the right policy as one bar and as numbers. */
export function Counts({ found, left, right, rows }: CountsProps) {
  const at = (count: number) => (count / Math.max(found.n, 1)) * PLOT.width;
  const piece = (kind: string, from: number, count: number) => (
    <rect class={`part ${kind}`} x={at(from)} y={6} width={at(count)} height={10} />
  );
  return (
    <>
      <svg
        viewBox={`0 0 ${PLOT.width} ${PLOT.height}`}
        width={PLOT.width}
        height={PLOT.height}
        role="img"
        aria-label={`${found.wins} wins, ${found.ties} ties, ${found.losses} losses`}
      >
        {piece(right, 0, found.wins)}
        {piece("tie", found.wins, found.ties)}
        {piece(left, found.wins + found.ties, found.losses)}
      </svg>
      <span class="counts">
        <Value rows={found.wins ? rows?.wins : undefined}>{found.wins}</Value>
        {" / "}
        <Value rows={found.ties ? rows?.ties : undefined}>{found.ties}</Value>
        {" / "}
        <Value rows={found.losses ? rows?.losses : undefined}>{found.losses}</Value>
      </span>
    </>
  );
}
