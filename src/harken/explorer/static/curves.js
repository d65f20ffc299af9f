// Training curves: a line chart with axes, and a readout that follows the pointer or the arrow keys.

const FRAME = { width: 346, height: 180, left: 50, right: 10, top: 10, bottom: 26 };

/** Round ticks within low … high, and the distance between them. */
function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return { found, step };
}

function extent(values, room) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * room;
  return [low - margin, high + margin];
}

/** Labels for ticks `step` apart, with enough digits to distinguish neighbours. */
function tickLabels(values, step, share) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + (share ? 2 : 0) + 1e-9));
  const largest = Math.max(...values.map(Math.abs));
  if (share) return values.map((value) => `${number(100 * value, digits)} %`);
  if (largest >= 0.01 && largest < 1e6) return values.map((value) => (value === 0 ? "0" : number(value, digits)));
  return values.map((value) => {
    if (value === 0) return "0";
    const more = Math.floor(Math.log10(Math.abs(value)) + 1e-9) - Math.floor(Math.log10(step) + 1e-9);
    return value.toExponential(Math.max(0, Math.min(more, 20))).replaceAll("-", "−");
  });
}

/** Round ticks of an axis from 0 with a square-root scale, far enough apart to be read. */
function rootTicks(high) {
  const found = [0];
  for (let power = 0.01; power <= high; power *= 10) {
    for (const value of [power, 2 * power, 5 * power]) {
      const last = found[found.length - 1];
      if (value <= high && Math.sqrt(value / high) - Math.sqrt(last / high) >= 0.14) found.push(value);
    }
  }
  return found;
}

function curve(chart, noun) {
  const all = chart.series.flatMap((series) => series.points);
  const steps = [...new Set(all.map(([step]) => step))].sort((a, b) => a - b);
  const [low, high] = extent(
    all.map(([, value]) => value),
    0.08,
  );
  const root = chart.scale === "root";
  const [first, last] = [root ? 0 : steps[0], steps[steps.length - 1]];
  const along = (step) => (root ? Math.sqrt(Math.max(step, 0) / last) : (step - first) / (last - first));
  const x = (step) =>
    FRAME.left + (last === first ? 0.5 : along(step)) * (FRAME.width - FRAME.left - FRAME.right);
  const y = (value) =>
    FRAME.height - FRAME.bottom - ((value - low) / (high - low)) * (FRAME.height - FRAME.top - FRAME.bottom);
  const share = chart.format === "share";
  const show = share ? (value) => percent(value) : short;
  const vertical = ticks(low, high, 5);
  const labels = tickLabels(vertical.found, vertical.step, share);
  const horizontal = root ? rootTicks(last) : ticks(first, last, 5).found.filter(Number.isInteger);
  const drawing = svg("svg", {
    viewBox: `0 0 ${FRAME.width} ${FRAME.height}`,
    role: "img",
    tabindex: "0",
    "aria-label": describe(chart, show, noun),
  });
  vertical.found.forEach((value, i) => {
    drawing.append(
      svg("line", { class: "grid", x1: FRAME.left, x2: FRAME.width - FRAME.right, y1: y(value), y2: y(value) }),
      svg("text", { x: FRAME.left - 6, y: y(value) + 4, "text-anchor": "end" }, labels[i]),
    );
  });
  drawing.append(svg("text", { class: "axis-name", x: 0, y: FRAME.height - 8 }, noun));
  for (const step of horizontal.length ? horizontal : [first]) {
    drawing.append(svg("text", { x: x(step), y: FRAME.height - 8, "text-anchor": "middle" }, String(step)));
  }
  for (const mark of chart.marks.filter((m) => m.value > low && m.value < high)) {
    drawing.append(
      svg("line", {
        class: "mark",
        x1: FRAME.left,
        x2: FRAME.width - FRAME.right,
        y1: y(mark.value),
        y2: y(mark.value),
      }),
      svg(
        "text",
        { class: "marked", x: FRAME.width - FRAME.right, y: y(mark.value) - 4, "text-anchor": "end" },
        mark.label,
      ),
    );
  }
  chart.series.forEach((series, i) => {
    const path = series.points
      .map(([step, value], k) => `${k ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`)
      .join("");
    drawing.append(svg("path", { class: `curve ${tint(i + 1)} s${i}`, d: path }));
    if (series.points.length <= 40) {
      for (const [step, value] of series.points)
        drawing.append(svg("circle", { class: `point ${tint(i + 1)}`, cx: x(step), cy: y(value), r: 2 }));
    }
  });
  return { drawing, steps, x, show };
}

/** Describe a chart for screen readers. */
function describe(chart, show, noun) {
  const parts = chart.series.map(({ label, points: line }) => {
    const [start, end] = [line[0], line[line.length - 1]];
    return `${label}: ${show(start[1])} at ${noun} ${start[0]}, ${show(end[1])} at ${noun} ${end[0]}`;
  });
  return `${chart.title}. ${parts.join(". ")}. Arrow keys move along the ${noun}s.`;
}

function figure(chart, stageNoun) {
  const noun = chart.scale === "root" ? "KL" : stageNoun;
  const { drawing, steps, x, show } = curve(chart, noun);
  const readout = el("output", { class: "readout" });
  const cursor = svg("line", {
    class: "cursor",
    y1: FRAME.top,
    y2: FRAME.height - FRAME.bottom,
    visibility: "hidden",
  });
  drawing.append(cursor);
  const lines = chart.series.map((series) => new Map(series.points));
  let place = steps.length - 1;
  const tell = (index, pointing) => {
    place = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[place];
    cursor.setAttribute("visibility", pointing ? "visible" : "hidden");
    cursor.setAttribute("x1", x(step));
    cursor.setAttribute("x2", x(step));
    const values = chart.series.map((series, i) => {
      if (!lines[i].has(step) && pointing) return null;
      const value = lines[i].has(step) ? lines[i].get(step) : series.points[series.points.length - 1][1];
      return el(
        "span",
        {},
        el("span", { class: `dot ${tint(i + 1)}` }),
        `${series.label} `,
        el("b", {}, show(value)),
      );
    });
    const value = chart.scale === "root" ? short(step) : step;
    readout.replaceChildren(el("span", {}, pointing ? `${noun} ${value}` : "last"), ...values.filter(Boolean));
  };
  const nearest = (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * FRAME.width;
    let best = 0;
    steps.forEach((step, i) => {
      if (Math.abs(x(step) - at) < Math.abs(x(steps[best]) - at)) best = i;
    });
    tell(best, true);
  };
  drawing.addEventListener("pointermove", nearest);
  drawing.addEventListener("pointerdown", nearest);
  drawing.addEventListener("pointerleave", () => tell(steps.length - 1, false));
  drawing.addEventListener("blur", () => tell(steps.length - 1, false));
  drawing.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    tell(cursor.getAttribute("visibility") === "visible" ? place + move : place, true);
  });
  tell(steps.length - 1, false);
  const unit = chart.unit && chart.unit !== "share" ? el("span", { class: "small" }, ` ${chart.unit}`) : null;
  return el(
    "figure",
    { class: "card" },
    el("h4", {}, chart.title, unit),
    readout,
    drawing,
    el("figcaption", {}, chart.caption),
  );
}

function trainingSection(data) {
  const stages = data.stages.filter((stage) => stage.charts.length);
  if (!stages.length) return null;
  return section(
    "training",
    "Training",
    stages.map((stage) => {
      const noun = stage.name.startsWith("ppo") ? "update" : "step";
      return [
        el("h3", {}, stage.title, " ", el("span", { class: "small" }, counted(stage.steps, noun))),
        el(
          "div",
          { class: "charts" },
          stage.charts.map((chart) => figure(chart, noun)),
        ),
      ];
    }),
  );
}
