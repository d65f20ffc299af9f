// The tables of every two policies: the figures of the summary under the names that the terminal prints.

const asDecimal = (value, digits = 3, sign = false) => el("td", { class: "number" }, number(value, digits, sign));
const asProbability = (p) => el("td", { class: "number" }, p === null || p === undefined ? "–" : probability(p));
const asText = (text) => el("td", { class: "number" }, text);
const pairHead = (data, pair) => rowHead(policyName(data, pair.left), " → ", policyName(data, pair.right));
const pairColour = (data, name) => tint(data.summary.policies.indexOf(name));
const countsOf = (found) => `${found.wins} / ${found.ties} / ${found.losses}`;

/** A cell with a value and its interval, without a drawing. */
function figureCell(interval, show) {
  if (!interval) return el("td", {}, "–");
  return el("td", {}, el("b", {}, show(interval.value)), el("span", { class: "small" }, rangeText(interval, show)));
}

/** A table with one row per item: `columns` are [name, numeric, cell of an item]; columns without a cell are left out. */
function itemTable(caption, items, head, columns, kind = "") {
  const body = items.map((item) => el("tr", {}, head(item), ...columns.map(([, , cell]) => cell(item))));
  return tableCard(caption, [column("left → right"), ...columns.map(([name, numeric]) => column(name, numeric))], body, kind);
}

/** Columns of win rates that several tables share. `of` returns the figures of an item, `pairOf` its pair. */
function winColumns(data, items, of, pairOf) {
  const rates = ["win_rate", "win_rate_decided", "win_share"];
  const scale = scaleOf(
    items.flatMap((item) => rates.map((rate) => of(item)[rate])),
    0.5,
  );
  const rate = (name) => (item) =>
    intervalCell(of(item)[name], scale, pairColour(data, pairOf(item).right), percent);
  return [
    ["W / T / L", false, (item) => countsCell(of(item), pairColour(data, pairOf(item).left), pairColour(data, pairOf(item).right))],
    ["win rate", false, rate("win_rate")],
    ["without ties", false, rate("win_rate_decided")],
    ["ties as half", false, rate("win_share")],
  ];
}

function differenceColumn(name, items, pick, show = signed) {
  const scale = scaleOf(items.map(pick), 0);
  return [name, false, (item) => intervalCell(pick(item), scale, effect(pick(item)), show)];
}

function winTable(data) {
  const { pairs } = data.summary;
  const detectable = (pair) =>
    `≥ ${number(100 * pair.detectable_win_rate, 1)} or ≤ ${number(100 * (1 - pair.detectable_win_rate), 1)} %`;
  return itemTable("Wins: right compared with left", pairs, (pair) => pairHead(data, pair), [
    ...winColumns(data, pairs, (pair) => pair, (pair) => pair),
    ["sign test p", true, (pair) => asProbability(pair.sign_test_p)],
    ["p (Holm)", true, (pair) => asProbability(pair.holm_p)],
    ["detectable without ties", true, (pair) => asText(detectable(pair))],
  ]);
}

function differenceTable(data) {
  const { pairs } = data.summary;
  const bca = ({ reward }) =>
    el("td", { class: "number" }, rangeText({ low: reward.bca_low, high: reward.bca_high }, signed));
  return itemTable("Differences, right minus left", pairs, (pair) => pairHead(data, pair), [
    differenceColumn(rewardName(data.summary), pairs, (pair) => pair.reward),
    ["BCa interval", true, bca],
    ["Hodges–Lehmann", false, (pair) => figureCell(pair.hodges_lehmann, signed)],
    ["d_z", true, (pair) => asDecimal(pair.cohen_dz, 3, true)],
    ["Wilcoxon p", true, (pair) => asProbability(pair.wilcoxon_p)],
    ["detectable", true, (pair) => asDecimal(pair.detectable_difference)],
  ]);
}

function changeTable(data) {
  const { pairs } = data.summary;
  const rates = [
    ["cap_hit", "truncated"],
    ["empty", "empty"],
    ["repetition", "repetitive"],
  ].filter(([name]) => pairs.some((pair) => pair[name]));
  if (!rates.length) return null;
  const columns = rates.flatMap(([name, title]) => [
    differenceColumn(title, pairs, (pair) => pair[name], points),
    [`p (${title})`, true, (pair) => asProbability(pair[name]?.mcnemar_p)],
  ]);
  return itemTable("Changes of rates, right minus left", pairs, (pair) => pairHead(data, pair), columns);
}

function lengthTable(data) {
  const { pairs } = data.summary;
  const scale = scaleOf(
    pairs.map((pair) => pair.length.controlled),
    0.5,
  );
  const unit = pairs[0].length.unit;
  return itemTable("Effects of length", pairs, (pair) => pairHead(data, pair), [
    [`mean ${unit}`, true, ({ length }) => asText(`${number(length.mean_right, 0)} − ${number(length.mean_left, 0)}`)],
    [
      "length-controlled",
      false,
      (pair) => intervalCell(pair.length.controlled, scale, pairColour(data, pair.right), percent),
    ],
    ["length effect φ", true, (pair) => asDecimal(pair.length.phi, 2, true)],
    ["same length, W / T / L", true, (pair) => asText(countsOf(pair.length.matched))],
    ["same length, ties as half", false, (pair) => figureCell(pair.length.matched.win_share, percent)],
  ]);
}

function styleTable(data) {
  const rows = data.summary.pairs.filter((pair) => pair.style);
  if (!rows.length) return null;
  const styles = Object.keys(rows[0].style.effects);
  const scale = scaleOf(
    rows.map((pair) => pair.style.controlled),
    0.5,
  );
  const means = (name) => (pair) =>
    asText(`${number(pair.style.mean_right[name], 1)} − ${number(pair.style.mean_left[name], 1)}`);
  return itemTable("Effects of style", rows, (pair) => pairHead(data, pair), [
    ...styles.filter((name) => name !== "length").map((name) => [`mean ${name}`, true, means(name)]),
    [
      "style-controlled",
      false,
      (pair) => intervalCell(pair.style.controlled, scale, pairColour(data, pair.right), percent),
    ],
    ...styles.map((name) => [`effect of ${name}`, true, (pair) => asDecimal(pair.style.effects[name], 2, true)]),
  ]);
}

function scorerTables(data) {
  const { pairs } = data.summary;
  const rows = pairs.flatMap((pair) => Object.entries(pair.scorers).map(([judge, found]) => ({ pair, judge, found })));
  if (!rows.length) return [];
  const agreements = pairs.flatMap((pair) => pair.disagreement.map((found) => ({ pair, found })));
  const head = (row) => pairHead(data, row.pair);
  return [
    itemTable("Further scorers: right compared with left", rows, head, [
      ["scorer", false, (row) => el("td", {}, row.judge)],
      ["mean difference", false, (row) => figureCell(row.pair.judges[row.judge], signed)],
      ...winColumns(data, rows, (row) => row.found, (row) => row.pair).slice(0, 2),
      ["p (Holm)", true, (row) => asProbability(row.found.holm_p)],
    ]),
    itemTable("Where two scorers prefer different policies", agreements, head, [
      ["scorers", false, (row) => el("td", {}, row.found.scorers.join(" and "))],
      ["both decide", true, (row) => asText(String(row.found.rate?.n ?? 0))],
      ["disagree", false, (row) => figureCell(row.found.rate, percent)],
    ]),
  ];
}

function varianceTable(data) {
  const rows = data.summary.pairs.filter((pair) => pair.variance);
  if (!rows.length) return null;
  return itemTable("Variance of the difference", rows, (pair) => pairHead(data, pair), [
    ["Var(prompt)", true, (pair) => asDecimal(pair.variance.prompt)],
    ["Var(sample)", true, (pair) => asDecimal(pair.variance.sample)],
    [`standard error, ${data.summary.samples} samples`, true, (pair) => asDecimal(pair.standard_error)],
    ["16 samples", true, (pair) => asDecimal(pair.variance.standard_errors["16"])],
    ["any number", true, (pair) => asDecimal(pair.variance.limit)],
  ]);
}

function strengthTable(data) {
  const { strengths, baseline } = data.summary;
  if (!strengths) return null;
  const rows = strengths.policies;
  const scale = scaleOf(rows, 0);
  const body = rows.map((row) =>
    el(
      "tr",
      {},
      rowHead(policyName(data, row.policy)),
      row.policy === baseline
        ? el("td", {}, "0")
        : intervalCell(row, scale, pairColour(data, row.policy), signed),
      asText(number((400 / Math.LN10) * row.value, 0, true)),
    ),
  );
  const heads = [column("policy"), column(`strength over ${baseline}, nats`), column("400-point scale", true)];
  return tableCard("Strengths: Bradley–Terry with Rao–Kupper ties", heads, body);
}

function sliceTables(data) {
  const { pairs } = data.summary;
  const names = [...new Set(pairs.flatMap((pair) => pair.slices.map((part) => part.column)))];
  return names.map((name) => {
    const rows = pairs.flatMap((pair) =>
      pair.slices.filter((part) => part.column === name).map((part) => ({ pair, part })),
    );
    const values = new Set(rows.map(({ part }) => part.value));
    const title = name.replaceAll("_", " ");
    return el(
      "details",
      { class: "slices" },
      el("summary", {}, `By ${title} (${values.size})`),
      itemTable(`Every pair of policies by ${title}`, rows, (row) => pairHead(data, row.pair), [
        [title, false, ({ part }) => el("td", {}, visible(part.value || "(none)"))],
        ["prompts", true, ({ part }) => asText(String(part.prompts))],
        ...winColumns(data, rows, (row) => row.part, (row) => row.pair).slice(0, 2),
        differenceColumn(rewardName(data.summary), rows, (row) => row.part.reward),
        ["q", true, ({ part }) => asProbability(part.q)],
      ]),
    );
  });
}

/** What the columns mean: the notes that the terminal prints below the same tables. */
function pairNotes(data) {
  const { summary } = data;
  return el(
    "ul",
    { class: "small notes" },
    [
      "Win rate = W / (W + T + L) of the right policy: ties count in the denominator only. " +
        "Without ties = W / (W + L); ties as half = (W + T / 2) / (W + T + L).",
      `Tie: the rewards differ by at most ${summary.tie_epsilon}.`,
      `Intervals of means: ${counted(summary.draws, "bootstrap draw")} of prompts, percentile unless BCa. ` +
        "A hollow point means that the interval contains zero: no clear difference.",
      "Length-controlled, style-controlled: win rate at equal length (and markup), ties as half, fitted again in " +
        `${counted(summary.refit_draws, "draw")}.`,
      "p: exact sign test (Holm over the pairs), for rates exact McNemar. q: Benjamini–Hochberg over the slices of a pair.",
      "Detectable: the smallest true difference that is found with 80 % power.",
    ].map((text) => el("li", {}, text)),
  );
}

function pairTables(data) {
  if (!data.summary.pairs.length) return [];
  return [
    winTable(data),
    differenceTable(data),
    changeTable(data),
    lengthTable(data),
    styleTable(data),
    scorerTables(data),
    varianceTable(data),
    strengthTable(data),
    pairNotes(data),
    sliceTables(data),
  ];
}
