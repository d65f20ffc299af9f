// The charts of a stage, with the controls that they share.
import { useSignal, type Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { counted } from "../page/numbers";
import { Dot } from "../page/Policy";
import { ChartFigure, ConstantMetric } from "./ChartFigure";
import { chartLines, type ChartLines } from "./lines";
import type { View } from "./Plot";
import type { Group } from "./Training";

export function StageCharts({ group }: { group: Group }) {
  const { noun, findings } = group;
  const view: View = {
    hover: useSignal<number | null>(null),
    zoom: useSignal<[number, number] | null>(null),
    smoothing: useSignal(0),
    log: useSignal(false),
  };
  const hidden = useSignal<ReadonlySet<string>>(new Set());
  const charts = useMemo(
    () => group.charts.map((chart) => chartLines(chart, group.runs, hidden.value)).filter(({ lines }) => lines.length),
    [group, hidden.value],
  );
  const drawn = charts.filter((chart) => chart.constant === null);
  const constant = charts.filter((chart) => chart.constant !== null);
  return (
    <div class="stage" id={group.id}>
      <h3>
        {group.title} <span class="small">{counted(group.steps, noun)}</span>
      </h3>
      {group.runs.length ? <Runs runs={group.runs} hidden={hidden} /> : null}
      {drawn.length ? <Controls view={view} charts={drawn} noun={noun} title={group.title} /> : null}
      <div class="charts">
        {drawn.map((data) => (
          <Linked
            key={data.chart.title}
            data={data}
            noun={noun}
            view={view}
            bands={data.chart.bands}
            findings={findings.filter((one) => data.lines.some((line) => line.metric === one.metric))}
          />
        ))}
      </div>
      {constant.length ? (
        <ul class="constants">
          {constant.map((data) => (
            <ConstantMetric data={data} />
          ))}
        </ul>
      ) : null}
    </div>
  );
}

/** A chart by steps shares pointer and zoom with the others; a chart by KL has its own. */
function Linked(props: Parameters<typeof ChartFigure>[0]) {
  const hover = useSignal<number | null>(null);
  const zoom = useSignal<[number, number] | null>(null);
  const own = props.data.chart.scale === "root";
  return <ChartFigure {...props} view={own ? { ...props.view, hover, zoom } : props.view} />;
}

function Controls({ view, charts, noun, title }: { view: View; charts: readonly ChartLines[]; noun: string; title: string }) {
  const steps = charts.filter(({ chart }) => chart.scale !== "root").flatMap((one) => one.steps);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const range = view.zoom.value;
  const bound = (index: 0 | 1) => (event: Event) => {
    const value = Number((event.currentTarget as HTMLInputElement).value);
    const next: [number, number] = [...(range ?? [first, last])];
    next[index] = value;
    if (Number.isFinite(value) && next[0] < next[1]) view.zoom.value = next;
  };
  return (
    <div class="controls" role="group" aria-label={`Charts of ${title}`}>
      <label>
        Smoothing{" "}
        <input
          type="range"
          min="0"
          max="0.98"
          step="0.02"
          value={view.smoothing.value}
          aria-valuetext={view.smoothing.value ? `weight ${view.smoothing.value}` : "none"}
          onInput={(event) => {
            view.smoothing.value = Number(event.currentTarget.value);
          }}
        />{" "}
        <span class="value">{view.smoothing.value ? view.smoothing.value.toFixed(2) : "none"}</span>
      </label>
      <label>
        <input
          type="checkbox"
          checked={view.log.value}
          onChange={(event) => {
            view.log.value = event.currentTarget.checked;
          }}
        />{" "}
        Logarithmic
      </label>
      {steps.length && first < last ? (
        <>
          <label>
            From {noun}{" "}
            <input type="number" min={first} max={last} value={Math.round(range?.[0] ?? first)} onChange={bound(0)} />
          </label>
          <label>
            to <input type="number" min={first} max={last} value={Math.round(range?.[1] ?? last)} onChange={bound(1)} />
          </label>
        </>
      ) : null}
      <button
        type="button"
        disabled={range === null}
        onClick={() => {
          view.zoom.value = null;
        }}
      >
        Show all
      </button>
    </div>
  );
}

/** The runs that are overlaid, each of which can be hidden. */
function Runs({ runs, hidden }: { runs: readonly string[]; hidden: Signal<ReadonlySet<string>> }) {
  const toggle = (run: string) => {
    const next = new Set(hidden.value);
    if (!next.delete(run)) next.add(run);
    hidden.value = next;
  };
  return (
    <div class="runs" role="group" aria-label="Runs shown">
      {runs.map((run, i) => (
        <label>
          <input type="checkbox" checked={!hidden.value.has(run)} onChange={() => toggle(run)} />
          <Dot index={i + 1} />
          {run}
        </label>
      ))}
    </div>
  );
}
