// The verdict and the table of all policies.

const SIGNS = {
  Better: ["good", "▲"],
  Worse: ["bad", "▼"],
  Unclear: ["unclear", "●"],
  Warning: ["warning", "⚠"],
  Higher: ["level", "△"],
  Lower: ["level", "▽"],
  Note: ["", "·"],
};
const signed = (value) => number(value, 3, true);
const minus = (text) => text.replace(/(^|[\s(])-(?=\d)/g, "$1−");
const plain = (value) => number(value, 3);
const points = (value) => `${number(100 * value, 1, true)} pt`;

function tag(word) {
  const [kind, shape] = SIGNS[word];
  return el("span", { class: `tag ${kind}` }, el("span", { "aria-hidden": "true" }, `${shape} `), word);
}

function verdictSection(data) {
  const [first, ...facts] = data.verdict;
  if (!first) return null;
  return section(
    "verdict",
    "Verdict",
    el(
      "div",
      { class: `card verdict ${SIGNS[first.word][0]}` },
      tag(first.word),
      el("p", {}, visible(minus(first.text))),
      el(
        "ul",
        {},
        facts.map((fact) => el("li", {}, tag(fact.word), el("span", {}, visible(minus(fact.text))))),
      ),
    ),
  );
}

/** What to call the first scorer's score: its name, or "learned reward" for a reward model. */
function rewardName(summary) {
  return !summary.scorer || summary.scorer === "reward_model" ? "learned reward" : summary.scorer;
}

function policyTable(data) {
  const { table, ties, judges } = data.summary;
  const measure = (name, show, pick, anchor) => {
    const scale = scaleOf(table.map(pick), anchor);
    return { name, cell: (row) => intervalCell(pick(row), scale, tint(table.indexOf(row)), show) };
  };
  const columns = [
    measure("best response", percent, (row) => row.win_rate, 0),
    measure(rewardName(data.summary), plain, (row) => row.reward, 0),
    ...judges.map((judge) => measure(judge, plain, (row) => row.judges[judge], 0)),
    {
      name: `median ${data.summary.length_unit ?? "tokens"}`,
      numeric: true,
      cell: (row) =>
        el("td", { class: "number" }, number(row.median_response_tokens, row.median_response_tokens % 1 ? 1 : 0)),
    },
    measure("truncated", percent, (row) => row.cap_hit, 0),
    measure("empty", percent, (row) => row.empty, 0),
    measure("repetitive", percent, (row) => row.repetition, 0),
  ];
  const body = table.map((row) =>
    el(
      "tr",
      {},
      rowHead(policyName(data, row.policy)),
      columns.map((c) => c.cell(row)),
    ),
  );
  const none =
    `No single best response: ${ties.count} of ${data.summary.n} (${percent(ties.value)}). ` +
    `Repetitive: more than ${percent(data.summary.repetitive_above, 0)} of the word 4-grams occur earlier in the response.`;
  return [
    tableCard(
      "Every policy on the same prompts, with 95 % intervals",
      [column("policy"), ...columns.map((c) => column(c.name, c.numeric))],
      body,
    ),
    el("p", { class: "small" }, none),
  ];
}

function comparisonSection(data) {
  return section(
    "comparison",
    "Comparison",
    el("h3", {}, "All policies"),
    policyTable(data),
    el("h3", {}, "Pairs"),
    pairTables(data),
  );
}
