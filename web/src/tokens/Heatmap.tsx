// The tokens of one response, each coloured by its number; the arrow keys and the pointer choose a token.

import type { Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { minus } from "../page/numbers";
import { VisibleText } from "../page/VisibleText";
import { intensity, limitOf, linePath, type Series, traceNumber, type Values, zeroLine } from "./series";

/** Width and height of the line above the tokens. */
const [WIDTH, HEIGHT] = [1000, 64];
/** Share of the full colour that the largest value gets: the text stays readable on it. */
const STRONGEST = 62;

interface Props {
  pieces: string[];
  series: Series;
  values: Values;
  clipped: Values | null;
  at: Signal<number>;
}

export function Heatmap({ pieces, series, values, clipped, at }: Props) {
  const limit = limitOf(values);
  const host = useRef<HTMLDivElement>(null);
  // The tokens do not depend on the one chosen: moving over them draws only the marker.
  const tokens = useMemo(
    () =>
      pieces.map((piece, i) => (
        <Token key={i} piece={piece} place={i} value={values[i] ?? null} limit={limit} isClipped={clipped?.[i] === 1} />
      )),
    [pieces, values, limit, clipped],
  );
  const choose = (event: Event) => {
    const place = (event.target as Element).closest<HTMLElement>("[data-place]")?.dataset.place;
    if (place !== undefined) at.value = Number(place);
  };
  useEffect(() => {
    host.current?.querySelector("[data-chosen]")?.removeAttribute("data-chosen");
    host.current?.querySelector(`[data-place="${at.value}"]`)?.setAttribute("data-chosen", "");
  }, [at.value, tokens]);
  return (
    <div class="heatmap">
      <Legend series={series} limit={limit} />
      <Sparkline values={values} at={at} title={series.title} />
      <div
        class="tokens"
        ref={host}
        tabIndex={0}
        role="group"
        aria-label={`Tokens coloured by ${series.title}. Arrow keys move from token to token.`}
        onPointerOver={choose}
        onClick={choose}
        onKeyDown={(event) => move(event, at, pieces.length)}
      >
        {tokens}
      </div>
    </div>
  );
}

function move(event: KeyboardEvent, at: Signal<number>, count: number): void {
  const to: Record<string, number> = {
    ArrowLeft: at.peek() - 1,
    ArrowRight: at.peek() + 1,
    Home: 0,
    End: count - 1,
  };
  const place = to[event.key];
  if (place === undefined) return;
  event.preventDefault();
  at.value = Math.max(0, Math.min(count - 1, place));
}

interface TokenProps {
  piece: string;
  place: number;
  value: number | null;
  limit: number;
  isClipped: boolean;
}

/** One token. Sign is a colour and a line: solid above 0, dotted below; a clipped ratio has a frame. */
function Token({ piece, place, value, limit, isClipped }: TokenProps) {
  const strength = value === null ? 0 : intensity(value, limit);
  const share = `${Math.round(Math.abs(strength) * STRONGEST)}%`;
  const sign = value === null ? "none" : strength > 0 ? "more" : strength < 0 ? "less" : "zero";
  return (
    <span
      class={`token ${sign}${isClipped ? " clipped" : ""}`}
      data-place={place}
      data-number={traceNumber(value)}
      style={{ "--share": share }}
    >
      <VisibleText text={piece === "" ? "∅" : piece} />
    </span>
  );
}

function Legend({ series, limit }: { series: Series; limit: number }) {
  return (
    <div class="legend small" aria-hidden="true">
      {series.isDiverging ? <span>{minus(traceNumber(-limit))}</span> : null}
      <span class={series.isDiverging ? "scale both" : "scale"} />
      {series.isDiverging ? <span class="centre">0</span> : null}
      <span>{traceNumber(limit)}</span>
      <span class="samples">
        <span class="token more">above 0</span>
        {series.isDiverging ? <span class="token less">below 0</span> : null}
        <span class="token clipped">ratio clipped</span>
      </span>
    </div>
  );
}

/** The same numbers as a line; a click or a drag chooses the token below it. */
function Sparkline({ values, at, title }: { values: Values; at: Signal<number>; title: string }) {
  const last = Math.max(1, values.length - 1);
  const x = (Math.min(at.value, last) / last) * WIDTH;
  const choose = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const place = Math.round(((event.clientX - box.left) / box.width) * last);
    at.value = Math.max(0, Math.min(values.length - 1, place));
  };
  return (
    <svg
      class="spark"
      viewBox={`0 -3 ${WIDTH} ${HEIGHT + 6}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${title} by token`}
      onPointerMove={choose}
    >
      <line class="zero" x1={0} x2={WIDTH} y1={zeroLine(values, HEIGHT)} y2={zeroLine(values, HEIGHT)} />
      <path class="curve" d={linePath(values, WIDTH, HEIGHT)} />
      <line class="cursor" x1={x} x2={x} y1={-3} y2={HEIGHT + 3} />
    </svg>
  );
}
