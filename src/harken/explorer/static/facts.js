// Data reports, models, fingerprints, seeds and configuration of each run.

const reasons = (counts) =>
  Object.entries(counts || {})
    .map(([reason, count]) => `${reason.replaceAll("_", " ")} ${count.toLocaleString("en")}`)
    .join(", ") || "none";

function dataSection(data) {
  const rows = data.stages.flatMap((stage) => stage.data.map((report) => ({ stage, report })));
  if (!rows.length) return null;
  const count = (value) => el("td", { class: "number" }, value.toLocaleString("en"));
  const body = rows.map(({ stage, report }) =>
    el(
      "tr",
      {},
      rowHead(stage.title),
      el("td", {}, visible(report.path || "")),
      count(report.raw),
      count(report.kept),
      count(report.raw - report.kept),
      el("td", {}, reasons(report.dropped)),
      el("td", {}, reasons(report.shortened)),
    ),
  );
  const heads = [
    column("stage"),
    column("source"),
    column("read", true),
    column("used", true),
    column("dropped", true),
    column("why dropped"),
    column("shortened"),
  ];
  return section(
    "data-reports",
    "Data",
    el(
      "p",
      { class: "muted" },
      "Every row that was read is either used or counted under the reason for dropping it.",
    ),
    tableCard("Rows read, used, dropped and shortened, by source", heads, body, "wrap"),
  );
}

/** Flatten a nested value into [dotted name, value] pairs. */
function flat(value, name = "") {
  if (value === null || typeof value !== "object") return [[name, value === null ? "none" : String(value)]];
  const inner = Object.entries(value);
  if (!inner.length) return [[name, "none"]];
  return inner.flatMap(([key, item]) => flat(item, name ? `${name}.${key}` : key));
}

const isTable = (value) =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((row) => row && typeof row === "object" && !Array.isArray(row));

function factTable(name, value) {
  const title = name.replaceAll("_", " ");
  if (isTable(value)) {
    const keys = [...new Set(value.flatMap(Object.keys))];
    const cell = (item) =>
      typeof item === "number"
        ? item.toLocaleString("en")
        : item === null || item === undefined
          ? "none"
          : String(item);
    return tableCard(
      title,
      keys.map((key) => column(key, typeof value[0][key] === "number")),
      value.map((row) =>
        el(
          "tr",
          {},
          keys.map((key) =>
            el("td", { class: typeof row[key] === "number" ? "number" : null }, visible(cell(row[key]))),
          ),
        ),
      ),
      "wrap",
    );
  }
  const body = flat(value).map(([key, text]) => el("tr", {}, rowHead(key || title), el("td", {}, visible(text))));
  return tableCard(title, null, body, "facts wrap");
}

function factsSection(data) {
  const stages = data.stages.filter((stage) => Object.keys(stage.facts).length);
  if (!stages.length) return null;
  const order = (facts) => Object.entries(facts).sort(([a], [b]) => (a === "config") - (b === "config"));
  const plainFacts = (facts) =>
    Object.fromEntries(order(facts).filter(([, value]) => value === null || typeof value !== "object"));
  return section(
    "run",
    "Run",
    stages.map((stage) => {
      const plain = plainFacts(stage.facts);
      return el(
        "details",
        {},
        el("summary", {}, stage.title),
        Object.keys(plain).length ? factTable("facts", plain) : null,
        order(stage.facts)
          .filter(([, value]) => value !== null && typeof value === "object")
          .map(([name, value]) => factTable(name, value)),
      );
    }),
  );
}
