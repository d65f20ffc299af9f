// A chart with its title, the values under the pointer, its axes' names, a caption and its values as a table.
import { useSignal } from "@preact/signals";
import { tint } from "../page/Policy";
import { percent, short } from "../page/numbers";
import type { Finding } from "../contract";
import type { Band } from "./health";
import { firstValue, nearest, type ChartLines, type Line } from "./lines";
import { allPositive, Plot, type View } from "./Plot";

/** Rows of the table of values; a longer run is thinned. */
const MAX_ROWS = 200;

interface FigureProps {
  data: ChartLines;
  /** What a step of the stage is called. */
  noun: string;
  view: View;
  bands: readonly Band[];
  findings: readonly Finding[];
}

export const shower = ({ chart }: ChartLines) => (chart.format === "share" ? (value: number) => percent(value) : short);

/** The text instead of a chart whose lines never change. */
export function ConstantMetric({ data }: { data: ChartLines }) {
  const show = shower(data);
  return (
    <li>
      <b>{data.chart.title}</b>
      {data.chart.unit ? <span class="small">, {data.chart.unit}</span> : null}:{" "}
      {data.lines.map((line) => `${line.label} ${show(firstValue(line))}`).join(", ")} ({data.constant})
    </li>
  );
}

export function ChartFigure({ data, noun, view, bands, findings }: FigureProps) {
  const { chart, steps } = data;
  const root = chart.scale === "root";
  const name = root ? "KL" : noun;
  const show = shower(data);
  const move = (event: KeyboardEvent) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -steps.length, End: steps.length }[event.key];
    if (event.key === "Escape") view.hover.value = null;
    if (event.key === "0") view.zoom.value = null;
    if (event.key === "+" || event.key === "-") zoomBy(event.key === "+" ? 0.5 : 2, data, view);
    if (!by) return;
    event.preventDefault();
    const now = view.hover.value;
    // The first arrow shows the last point; the next ones move from there.
    const from = now === null ? steps.length - 1 - (Math.abs(by) === 1 ? by : 0) : nearest(steps, now);
    view.hover.value = steps[Math.max(0, Math.min(steps.length - 1, from + by))];
  };
  return (
    <figure class="card">
      <h4>{chart.title}</h4>
      <Readout data={data} name={name} view={view} show={show} />
      {chart.unit ? <div class="axis-unit">{chart.unit}</div> : null}
      <div
        class="plot"
        role="img"
        tabIndex={0}
        aria-label={describe(data, show, name)}
        onKeyDown={move}
        onBlur={() => {
          view.hover.value = null;
        }}
      >
        <Plot data={data} view={view} bands={bands} findings={findings} />
      </div>
      <div class="axis-name">{root ? "KL (square-root scale)" : name}</div>
      {view.log.value && !allPositive(data) ? <p class="small">Linear: some values are not above 0.</p> : null}
      <FarMarks data={data} />
      <figcaption>{chart.caption}</figcaption>
      <Values data={data} name={name} show={show} />
    </figure>
  );
}

function zoomBy(factor: number, { steps }: ChartLines, view: View): void {
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const [low, high] = view.zoom.value ?? [first, last];
  const middle = view.hover.value ?? (low + high) / 2;
  const half = ((high - low) / 2) * factor;
  const range: [number, number] = [Math.max(first, middle - half), Math.min(last, middle + half)];
  view.zoom.value = range[1] - range[0] >= last - first || range[1] <= range[0] ? null : range;
}

function Readout({ data, name, view, show }: { data: ChartLines; name: string; view: View; show: (value: number) => string }) {
  const step = view.hover.value;
  const value = (line: Line) =>
    step === null ? [...line.values.values()].at(-1) : line.values.get(step);
  return (
    <output class="readout">
      <span>{step === null ? "last" : `${name} ${data.chart.scale === "root" ? short(step) : step}`}</span>
      {data.lines.map((line) => {
        const found = value(line);
        if (found === undefined) return null;
        return (
          <span>
            <span class={`key ${tint(line.colour)} d${line.dash % 4}`} aria-hidden="true" />
            {`${line.label} `}
            <b>{show(found)}</b>
          </span>
        );
      })}
    </output>
  );
}

/** Thresholds outside the drawing, said in words. */
function FarMarks({ data }: { data: ChartLines }) {
  const values = data.lines.flatMap((line) => [...line.values.values()]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const reach = 0.6 * (high - low);
  const far = data.chart.marks.filter(({ value }) => value < low - reach || value > high + reach);
  if (!far.length) return null;
  const show = shower(data);
  return (
    <p class="small">
      Outside the chart: {far.map(({ label, value }) => `${label} at ${show(value)}`).join(", ")}.
    </p>
  );
}

/** The values as a table, for readers who cannot use the drawing. */
function Values({ data, name, show }: { data: ChartLines; name: string; show: (value: number) => string }) {
  const open = useSignal(false);
  const every = Math.ceil(data.steps.length / MAX_ROWS);
  const steps = data.steps.filter((_, i) => i % every === 0 || i === data.steps.length - 1);
  return (
    <details
      class="values"
      onToggle={(event) => {
        open.value = event.currentTarget.open;
      }}
    >
      <summary>Values as a table</summary>
      {open.value ? (
        <div class="scroll" role="region" tabIndex={0} aria-label={`Values of ${data.chart.title}`}>
          <table>
            <caption>
              {data.chart.title}
              {every > 1 ? `: every ${every}th of ${data.steps.length} points` : ""}
            </caption>
            <thead>
              <tr>
                <th scope="col" class="number">
                  {name}
                </th>
                {data.lines.map((line) => (
                  <th scope="col" class="number">
                    {line.label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {steps.map((step) => (
                <tr>
                  <th scope="row" class="number">
                    {data.chart.scale === "root" ? short(step) : step}
                  </th>
                  {data.lines.map((line) => {
                    const value = line.values.get(step);
                    return <td class="number">{value === undefined ? "–" : show(value)}</td>;
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
    </details>
  );
}

/** Describe a chart for screen readers. */
function describe({ chart, lines }: ChartLines, show: (value: number) => string, noun: string): string {
  const parts = lines.map((line) => {
    const points = [...line.values];
    const [start, end] = [points[0], points[points.length - 1]];
    return `${line.label}: ${show(start[1])} at ${noun} ${start[0]}, ${show(end[1])} at ${noun} ${end[0]}`;
  });
  return `${chart.title}. ${parts.join(". ")}. Arrow keys move along the ${noun}s, + and − zoom, 0 shows all.`;
}

