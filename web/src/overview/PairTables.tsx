// The tables of every two policies: the figures of the summary under the names that the terminal prints.
import type { Pair, Summary } from "../contract";
import { Counts, Figure, intervalColumn } from "../page/Interval";
import { effect, rangeText, scaleOf, shareScale, type IntervalLike } from "../page/intervals";
import { number, percent, points, probability, signed } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { digits, ItemTable, type Column } from "../page/Table";
import { PairNotes } from "./PairNotes";
import { rewardName } from "./PolicyTable";
import { pairRows } from "./rows";
import { SliceTables } from "./SliceTables";
import { StrengthTable } from "./StrengthTable";
import { VarianceTable } from "./VarianceTable";

type Maybe<T> = T | null | undefined;

export const asDecimal = (value: Maybe<number>, digits = 3, sign = false) => number(value, digits, sign);
export const asProbability = (p: Maybe<number>) => (p === null || p === undefined ? "–" : probability(p));

export interface WinFigures {
  n: number;
  wins: number;
  ties: number;
  losses: number;
  win_rate: IntervalLike | null;
  win_rate_decided: IntervalLike | null;
  win_share: IntervalLike | null;
}

export interface TableProps {
  summary: Summary;
}

/** The pair that a row is about: left → right. */
export function PairName({ summary, pair }: { summary: Summary; pair: { left: string; right: string } }) {
  return (
    <>
      <PolicyName name={pair.left} policies={summary.policies} />
      {" → "}
      <PolicyName name={pair.right} policies={summary.policies} />
    </>
  );
}

export function PairTable<Item>(props: {
  summary: Summary;
  caption: string;
  items: readonly Item[];
  pairOf: (item: Item) => Pair;
  columns: readonly Column<Item>[];
}) {
  const { summary, caption, items, pairOf, columns } = props;
  return (
    <ItemTable
      caption={caption}
      items={items}
      columns={columns}
      rowName="left → right"
      rowHead={(item) => <PairName summary={summary} pair={pairOf(item)} />}
    />
  );
}

export const colourOf = (summary: Summary, name: string) => tint(summary.policies.indexOf(name));

/** A column of win rates of the right policy, 0 to 100 % around half. */
function winRateColumn<Item>(
  summary: Summary,
  name: string,
  pick: (item: Item) => Maybe<IntervalLike>,
  pairOf: (item: Item) => Pair,
): Column<Item> {
  const kind = (item: Item) => colourOf(summary, pairOf(item).right);
  return intervalColumn({ name, scale: shareScale(0.5), show: percent, pick, kind });
}

/** Columns of win rates that several tables share: W / T / L, then rates in which ties count as losses, not, and half. */
export function winColumns<Item>(
  summary: Summary,
  of: (item: Item) => WinFigures,
  pairOf: (item: Item) => Pair,
  rows?: (item: Item) => ReturnType<typeof pairRows>,
): Column<Item>[] {
  return [
    {
      name: "W / T / L",
      cell: (item) => (
        <Counts
          found={of(item)}
          left={colourOf(summary, pairOf(item).left)}
          right={colourOf(summary, pairOf(item).right)}
          rows={rows?.(item)}
        />
      ),
    },
    winRateColumn(summary, "win rate", (item) => of(item).win_rate, pairOf),
    winRateColumn(summary, "without ties", (item) => of(item).win_rate_decided, pairOf),
    winRateColumn(summary, "ties as half", (item) => of(item).win_share, pairOf),
  ];
}

/** A column of differences around 0. Columns beside each other share the axis of all `beside`. */
export function differenceColumn<Item>(
  name: string,
  items: readonly Item[],
  pick: (item: Item) => Maybe<IntervalLike>,
  show: (value: number) => string = signed,
  beside: readonly Maybe<IntervalLike>[] = items.map(pick),
): Column<Item> {
  return intervalColumn({ name, scale: scaleOf(beside, 0), show, pick, kind: (item) => effect(pick(item)) });
}

/** A column of a value and its interval in digits. */
const figureColumn = <Item,>(
  name: string,
  pick: (item: Item) => Maybe<IntervalLike>,
  show: (value: number) => string,
): Column<Item> => ({ name, cell: (item) => <Figure interval={pick(item)} show={show} /> });

/** A column of p values. */
const pColumn = <Item,>(name: string, pick: (item: Item) => Maybe<number>): Column<Item> =>
  digits(name, (item) => asProbability(pick(item)));

/** Two means as a difference: right − left. */
const meansColumn = (name: string, of: (pair: Pair) => readonly [Maybe<number>, Maybe<number>], places: number): Column<Pair> =>
  digits(name, (pair) => {
    const [left, right] = of(pair);
    return `${number(right, places)} − ${number(left, places)}`;
  });

const itself = (pair: Pair) => pair;

/** A table of all pairs, or of those with the figures it is about. */
function Pairs({ summary, caption, columns, items = summary.pairs }: TableProps & {
  caption: string;
  columns: readonly Column<Pair>[];
  items?: readonly Pair[];
}) {
  return <PairTable summary={summary} caption={caption} items={items} pairOf={itself} columns={columns} />;
}

function WinTable({ summary }: TableProps) {
  const columns = [
    ...winColumns(summary, itself, itself, (pair) => pairRows(pair)),
    pColumn("sign test p", (pair: Pair) => pair.sign_test_p),
    pColumn("p (Holm)", (pair: Pair) => pair.holm_p),
    digits("detectable without ties", ({ detectable_win_rate: rate }: Pair) =>
      `≥ ${number(100 * rate, 1)} or ≤ ${number(100 * (1 - rate), 1)} %`,
    ),
  ];
  return <Pairs summary={summary} caption="Wins: right compared with left" columns={columns} />;
}

function DifferenceTable({ summary }: TableProps) {
  const columns = [
    differenceColumn(rewardName(summary), summary.pairs, (pair) => pair.reward),
    digits("BCa interval", ({ reward }: Pair) => rangeText({ ...reward, low: reward.bca_low, high: reward.bca_high }, signed)),
    figureColumn("Hodges–Lehmann", (pair: Pair) => pair.hodges_lehmann, signed),
    digits("d_z", (pair: Pair) => asDecimal(pair.cohen_dz, 3, true), "Mean difference over its standard deviation"),
    pColumn("Wilcoxon p", (pair: Pair) => pair.wilcoxon_p),
    digits("detectable", (pair: Pair) => asDecimal(pair.detectable_difference)),
  ];
  return <Pairs summary={summary} caption="Differences, right minus left" columns={columns} />;
}

const RATES = [
  ["cap_hit", "truncated"],
  ["empty", "empty"],
  ["repetition", "repetitive"],
] as const;

function ChangeTable({ summary }: TableProps) {
  const rates = RATES.filter(([name]) => summary.pairs.some((pair) => pair[name]));
  if (!rates.length) return null;
  const beside = rates.flatMap(([name]) => summary.pairs.map((pair) => pair[name]));
  const columns = rates.flatMap(([name, title]) => [
    differenceColumn(title, summary.pairs, (pair: Pair) => pair[name], points, beside),
    pColumn(`p (${title})`, (pair: Pair) => pair[name]?.mcnemar_p),
  ]);
  return <Pairs summary={summary} caption="Changes of rates, right minus left" columns={columns} />;
}

function LengthTable({ summary }: TableProps) {
  const columns = [
    meansColumn(`mean ${summary.pairs[0].length.unit}`, ({ length }) => [length.mean_left, length.mean_right], 0),
    winRateColumn(summary, "length-controlled", (pair: Pair) => pair.length.controlled, itself),
    digits("length effect φ", (pair: Pair) => asDecimal(pair.length.phi, 2, true)),
    digits("same length, W / T / L", ({ length: { matched } }: Pair) => `${matched.wins} / ${matched.ties} / ${matched.losses}`),
    figureColumn("same length, ties as half", (pair: Pair) => pair.length.matched.win_share, percent),
  ];
  return <Pairs summary={summary} caption="Effects of length" columns={columns} />;
}

function StyleTable({ summary }: TableProps) {
  const items = summary.pairs.filter((pair) => pair.style);
  if (!items.length) return null;
  const styleOf = (pair: Pair) => pair.style!;
  const styles = Object.keys(styleOf(items[0]).effects);
  const means = styles
    .filter((name) => name !== "length")
    .map((name) => meansColumn(`mean ${name}`, (pair) => [styleOf(pair).mean_left[name], styleOf(pair).mean_right[name]], 1));
  const columns = [
    ...means,
    winRateColumn(summary, "style-controlled", (pair: Pair) => styleOf(pair).controlled, itself),
    ...styles.map((name) => digits(`effect of ${name}`, (pair: Pair) => asDecimal(styleOf(pair).effects[name], 2, true))),
  ];
  return <Pairs summary={summary} caption="Effects of style" items={items} columns={columns} />;
}

function ScorerTables({ summary }: TableProps) {
  const rows = summary.pairs.flatMap((pair) =>
    Object.entries(pair.scorers).map(([judge, found]) => ({ pair, judge, found })),
  );
  if (!rows.length) return null;
  type Row = (typeof rows)[number];
  const agreements = summary.pairs.flatMap((pair) => pair.disagreement.map((found) => ({ pair, found })));
  type Agreement = (typeof agreements)[number];
  return (
    <>
      <PairTable
        summary={summary}
        caption="Further scorers: right compared with left"
        items={rows}
        pairOf={(row) => row.pair}
        columns={[
          { name: "scorer", cell: (row) => row.judge },
          figureColumn("mean difference", (row: Row) => row.pair.judges[row.judge], signed),
          ...winColumns(summary, (row: Row) => row.found, (row) => row.pair).slice(0, 2),
          pColumn("p (Holm)", (row: Row) => row.found.holm_p),
        ]}
      />
      <PairTable
        summary={summary}
        caption="Where two scorers prefer different policies"
        items={agreements}
        pairOf={(row) => row.pair}
        columns={[
          { name: "scorers", cell: (row) => row.found.scorers.join(" and ") },
          digits("both decide", (row: Agreement) => String(row.found.rate?.n ?? 0)),
          figureColumn("disagree", (row: Agreement) => row.found.rate, percent),
        ]}
      />
    </>
  );
}

export function PairTables({ summary }: TableProps) {
  return (
    <>
      <WinTable summary={summary} />
      <DifferenceTable summary={summary} />
      <ChangeTable summary={summary} />
      <LengthTable summary={summary} />
      <StyleTable summary={summary} />
      <ScorerTables summary={summary} />
      <VarianceTable summary={summary} />
      <StrengthTable summary={summary} />
      <PairNotes summary={summary} />
      <SliceTables summary={summary} />
    </>
  );
}
