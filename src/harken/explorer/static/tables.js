// The verdict, the N-way table and the pairwise tables.

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

/** Columns that the tables of pairs and of domains share. Each row holds a pair and its comparison. */
function comparisonColumns(data, rows) {
  const { judges, policies } = data.summary;
  const scale = scaleOf(
    rows.map((row) => row.comparison.reward),
    0,
  );
  const scales = judges.map((judge) =>
    scaleOf(
      rows.map((row) => row.comparison.judges[judge]),
      0,
    ),
  );
  const colour = (name) => tint(policies.indexOf(name));
  return {
    heads: [column("wins / ties / losses"), column(rewardName(data.summary)), ...judges.map((judge) => column(judge))],
    cells: ({ pair, comparison }) => [
      comparisonCell(comparison, colour(pair.left), colour(pair.right)),
      intervalCell(comparison.reward, scale, effect(comparison.reward), signed),
      ...judges.map((judge, i) =>
        intervalCell(comparison.judges[judge], scales[i], effect(comparison.judges[judge]), signed),
      ),
    ],
  };
}

const pairHead = (data, pair) => rowHead(policyName(data, pair.left), " → ", policyName(data, pair.right));

function pairTables(data) {
  const { pairs } = data.summary;
  if (!pairs.length) return [];
  const rows = pairs.map((pair) => ({ pair, comparison: pair }));
  const columns = comparisonColumns(data, rows);
  const change = (name) => {
    const scale = scaleOf(
      pairs.map((pair) => pair[name]),
      0,
    );
    return (pair) => intervalCell(pair[name], scale, effect(pair[name]), points);
  };
  const cap = change("cap_hit");
  const repetition = change("repetition");
  const heads = [
    column("left → right"),
    ...columns.heads,
    column("truncated"),
    column("repetitive"),
    column("p", true),
  ];
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      pairHead(data, row.pair),
      columns.cells(row),
      cap(row.pair),
      repetition(row.pair),
      significance(row.pair),
    ),
  );
  const legend =
    "Differences are right minus left, with 95 % intervals. Wins and losses are the right policy's, by " +
    `${rewardName(data.summary)}; ` +
    "win rate = wins ÷ (wins + ties + losses): ties count in the denominator only. A hollow point means that the interval contains zero: no clear difference. " +
    "p: exact sign test, Holm-adjusted for the number of pairs.";
  return [
    tableCard("Every pair of policies: right compared with left", heads, body),
    el("p", { class: "small" }, legend),
    domainTables(data),
  ];
}

function significance(pair) {
  const size = pair.cohen_dz === null ? null : el("span", { class: "small" }, `d = ${number(pair.cohen_dz, 2)}`);
  return el("td", { class: "number" }, probability(pair.holm_p), size);
}

function domainTables(data) {
  const names = Object.keys(data.summary.domains);
  if (names.length < 2) return null;
  const rows = data.summary.pairs.flatMap((pair) =>
    names.map((name) => ({ pair, name, comparison: pair.domains[name] })),
  );
  const columns = comparisonColumns(data, rows);
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      pairHead(data, row.pair),
      el("td", {}, row.name || "(none)"),
      el("td", { class: "number" }, String(row.comparison.n)),
      columns.cells(row),
    ),
  );
  const heads = [column("left → right"), column("domain"), column("responses", true), ...columns.heads];
  return el(
    "details",
    {},
    el("summary", {}, `By domain (${names.length})`),
    tableCard("Every pair of policies by domain. Exploratory: not corrected for multiple comparisons", heads, body),
  );
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
