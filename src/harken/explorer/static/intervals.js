// Draw intervals: a point, its range, and a reference line at zero.

const PLOT = { width: 116, height: 22, pad: 6 };

/** A scale over all intervals of a column; it always contains `anchor`. */
function scaleOf(intervals, anchor) {
  const ends = intervals.filter(Boolean).flatMap(({ low, value, high }) => [low ?? value, high ?? value]);
  const low = Math.min(anchor, ...ends);
  const high = Math.max(anchor, ...ends);
  const span = high - low || 1;
  const inner = PLOT.width - 2 * PLOT.pad;
  return { low, high, anchor, at: (value) => PLOT.pad + ((value - low) / span) * inner };
}

/** The class of a difference: filled when its interval excludes zero, hollow otherwise. */
const effect = (interval) => (interval && interval.low !== null && (interval.low > 0 || interval.high < 0) ? "effect" : "effect none");

function plot(interval, scale, kind, label) {
  const middle = PLOT.height / 2;
  const line = (name, x1, x2, y1, y2) => svg("line", { class: name, x1, x2, y1, y2 });
  return svg(
    "svg",
    {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
      width: PLOT.width,
      height: PLOT.height,
      role: "img",
      "aria-label": label,
      class: kind,
    },
    line("axis", PLOT.pad, PLOT.width - PLOT.pad, middle, middle),
    line("zero", scale.at(scale.anchor), scale.at(scale.anchor), 2, PLOT.height - 2),
    interval.low === null ? null : line("range", scale.at(interval.low), scale.at(interval.high), middle, middle),
    svg("circle", { class: "point", cx: scale.at(interval.value), cy: middle, r: 4 }),
  );
}

const rangeText = ({ low, high }, show) => (low === null ? "no interval" : `${show(low)} to ${show(high)}`);

/** A cell with the drawing, the value and its interval as text. */
function intervalCell(interval, scale, kind, show) {
  if (!interval) return el("td", {}, "–");
  const range = rangeText(interval, show);
  return el(
    "td",
    {},
    plot(interval, scale, kind, `${show(interval.value)}, ${interval.low === null ? range : `95 % interval ${range}`}`),
    el("b", {}, show(interval.value)),
    el("span", { class: "small" }, range),
  );
}

/** Wins, ties and losses of the right policy as one bar and as numbers. */
function countsCell(pair, left, right) {
  const at = (count) => (count / Math.max(pair.n, 1)) * PLOT.width;
  const piece = (name, from, count) =>
    svg("rect", { class: `part ${name}`, x: at(from), y: 6, width: at(count), height: 10 });
  const words = `${pair.wins} wins, ${pair.ties} ties, ${pair.losses} losses`;
  return el(
    "td",
    {},
    svg(
      "svg",
      {
        viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
        width: PLOT.width,
        height: PLOT.height,
        role: "img",
        "aria-label": words,
      },
      piece(right, 0, pair.wins),
      piece("tie", pair.wins, pair.ties),
      piece(left, pair.wins + pair.ties, pair.losses),
    ),
    el("b", {}, `${pair.wins} / ${pair.ties} / ${pair.losses}`),
  );
}
