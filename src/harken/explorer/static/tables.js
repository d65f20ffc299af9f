// The verdict, the N-way table and the pairwise tables.

const SIGNS = {
  Better: ["good", "▲"], Worse: ["bad", "▼"], Unclear: ["unclear", "●"], Warning: ["warning", "⚠"],
  Higher: ["level", "△"], Lower: ["level", "▽"], Note: ["", "·"],
};
const signed = (value) => number(value, 3, true);
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
      el("p", {}, first.text),
      el("ul", {}, facts.map((fact) => el("li", {}, tag(fact.word), el("span", {}, fact.text)))),
    ),
  );
}

function policyTable(data) {
  const { table, ties, judges } = data.summary;
  const measure = (name, show, pick, anchor) => {
    const scale = scaleOf(table.map(pick), anchor);
    return { name, cell: (row) => intervalCell(pick(row), scale, tint(table.indexOf(row)), show) };
  };
  const columns = [
    measure("best answer", percent, (row) => row.win_rate, 0),
    measure("learned reward", plain, (row) => row.reward, 0),
    ...judges.map((judge) => measure(judge, plain, (row) => row.judges[judge], 0)),
    { name: "median tokens", numeric: true, cell: (row) => el("td", { class: "number" }, number(row.median_response_tokens, row.median_response_tokens % 1 ? 1 : 0)) },
    measure("cut at limit", percent, (row) => row.cap_hit, 0),
    measure("empty", percent, (row) => row.empty, 0),
    measure("repetitive", percent, (row) => row.repetition, 0),
  ];
  const body = table.map((row) => el("tr", {}, rowHead(policyName(data, row.policy)), columns.map((c) => c.cell(row))));
  const none = `No single best answer: ${ties.count} of ${data.summary.n} (${percent(ties.value)}). Repetitive: more than ${percent(data.summary.repetitive_above, 0)} of word 4-grams occurred before.`;
  return [
    tableCard("Every policy on the same prompts, with 95 % intervals", [column("policy"), ...columns.map((c) => column(c.name, c.numeric))], body),
    el("p", { class: "small" }, none),
  ];
}

/** Columns of a contest that pairs and domains share. */
function contestColumns(contests, judges) {
  const scale = scaleOf(contests.map((contest) => contest.reward), 0);
  const scales = judges.map((judge) => scaleOf(contests.map((contest) => contest.judges[judge]), 0));
  return {
    heads: [column("won / tied / lost"), column("win rate", true), column("reward, right − left"), ...judges.map((judge) => column(`${judge}, right − left`))],
    cells: (contest) => [
      contestCell(contest),
      el("td", { class: "number" }, percent(contest.win_rate.value), el("span", { class: "small" }, `${percent(contest.win_rate.low)} to ${percent(contest.win_rate.high)}`)),
      intervalCell(contest.reward, scale, effect(contest.reward), signed),
      ...judges.map((judge, i) => {
        const interval = contest.judges[judge];
        return intervalCell(interval, scales[i], interval ? effect(interval) : "", signed);
      }),
    ],
  };
}

const pairHead = (data, pair) => rowHead(policyName(data, pair.left), " → ", policyName(data, pair.right));

function pairTables(data) {
  const { pairs, judges } = data.summary;
  if (!pairs.length) return [];
  const columns = contestColumns(pairs, judges);
  const change = (name) => {
    const scale = scaleOf(pairs.map((pair) => pair[name]), 0);
    return (pair) => intervalCell(pair[name], scale, effect(pair[name]), points);
  };
  const cap = change("cap_hit");
  const repetition = change("repetition");
  const heads = [column("left → right"), ...columns.heads, column("Holm p", true), column("effect d", true), column("cut at limit"), column("repetitive")];
  const body = pairs.map((pair) =>
    el(
      "tr",
      {},
      pairHead(data, pair),
      columns.cells(pair),
      el("td", { class: "number" }, probability(pair.holm_p), el("span", { class: "small" }, `sign test ${probability(pair.sign_test_p)}`)),
      el("td", { class: "number" }, number(pair.cohen_dz, 2, true)),
      cap(pair),
      repetition(pair),
    ),
  );
  const legend = "Wins and losses are the right policy's, by learned reward; ties count in every rate. Blue ranges lie above zero, orange below, black hold it: no clear difference.";
  return [tableCard("Each two policies, right against left", heads, body), el("p", { class: "small" }, legend), domainTables(data)];
}

function domainTables(data) {
  const names = Object.keys(data.summary.domains);
  if (names.length < 2) return null;
  const rows = data.summary.pairs.flatMap((pair) => names.map((name) => ({ pair, name, contest: pair.domains[name] })));
  const columns = contestColumns(rows.map((row) => row.contest), data.summary.judges);
  const body = rows.map((row) =>
    el("tr", {}, pairHead(data, row.pair), el("td", {}, row.name || "(none)"), el("td", { class: "number" }, String(row.contest.n)), columns.cells(row.contest)),
  );
  const heads = [column("left → right"), column("domain"), column("answers", true), ...columns.heads];
  return el(
    "details",
    {},
    el("summary", {}, `By domain (${names.length})`),
    tableCard("Each two policies by domain: to explore, not corrected for looking often", heads, body),
  );
}

function comparisonSection(data) {
  return section("comparison", "Comparison", el("h3", {}, "All policies"), policyTable(data), el("h3", {}, "Pairs"), pairTables(data));
}
