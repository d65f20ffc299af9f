// The tables of every two policies: the figures of the summary under the names that the terminal prints.
import type { Pair, Summary } from "../contract";
import { Counts, Figure, Interval } from "../page/Interval";
import { effect, rangeText, scaleOf, type IntervalLike } from "../page/intervals";
import { number, percent, points, probability, signed } from "../page/numbers";
import { PolicyName, tint } from "../page/Policy";
import { ItemTable, type Column } from "../page/Table";
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

/** Columns of win rates that several tables share: W / T / L, then rates in which ties count as losses, not, and half. */
export function winColumns<Item>(
  summary: Summary,
  items: readonly Item[],
  of: (item: Item) => WinFigures,
  pairOf: (item: Item) => Pair,
  rows?: (item: Item) => ReturnType<typeof pairRows>,
): Column<Item>[] {
  const scale = scaleOf(
    items.flatMap((item) => [of(item).win_rate, of(item).win_rate_decided, of(item).win_share]),
    0.5,
  );
  const rate = (name: string, pick: (found: WinFigures) => IntervalLike | null): Column<Item> => ({
    name,
    cell: (item) => (
      <Interval interval={pick(of(item))} scale={scale} kind={colourOf(summary, pairOf(item).right)} show={percent} />
    ),
  });
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
    rate("win rate", (found) => found.win_rate),
    rate("without ties", (found) => found.win_rate_decided),
    rate("ties as half", (found) => found.win_share),
  ];
}

export function differenceColumn<Item>(
  name: string,
  items: readonly Item[],
  pick: (item: Item) => Maybe<IntervalLike>,
  show: (value: number) => string = signed,
): Column<Item> {
  const scale = scaleOf(items.map(pick), 0);
  return { name, cell: (item) => <Interval interval={pick(item)} scale={scale} kind={effect(pick(item))} show={show} /> };
}

const itself = (pair: Pair) => pair;

function WinTable({ summary }: TableProps) {
  const detectable = (pair: Pair) =>
    `≥ ${number(100 * pair.detectable_win_rate, 1)} or ≤ ${number(100 * (1 - pair.detectable_win_rate), 1)} %`;
  return (
    <PairTable
      summary={summary}
      caption="Wins: right compared with left"
      items={summary.pairs}
      pairOf={itself}
      columns={[
        ...winColumns(summary, summary.pairs, itself, itself, (pair) => pairRows(pair)),
        { name: "sign test p", numeric: true, cell: (pair) => asProbability(pair.sign_test_p) },
        { name: "p (Holm)", numeric: true, cell: (pair) => asProbability(pair.holm_p) },
        { name: "detectable without ties", numeric: true, cell: detectable },
      ]}
    />
  );
}

function DifferenceTable({ summary }: TableProps) {
  return (
    <PairTable
      summary={summary}
      caption="Differences, right minus left"
      items={summary.pairs}
      pairOf={itself}
      columns={[
        differenceColumn(rewardName(summary), summary.pairs, (pair) => pair.reward),
        {
          name: "BCa interval",
          numeric: true,
          cell: ({ reward }) => rangeText({ low: reward.bca_low, high: reward.bca_high }, signed),
        },
        { name: "Hodges–Lehmann", cell: (pair) => <Figure interval={pair.hodges_lehmann} show={signed} /> },
        { name: "d_z", numeric: true, help: "Mean difference over its standard deviation", cell: (pair) => asDecimal(pair.cohen_dz, 3, true) },
        { name: "Wilcoxon p", numeric: true, cell: (pair) => asProbability(pair.wilcoxon_p) },
        { name: "detectable", numeric: true, cell: (pair) => asDecimal(pair.detectable_difference) },
      ]}
    />
  );
}

const RATES = [
  ["cap_hit", "truncated"],
  ["empty", "empty"],
  ["repetition", "repetitive"],
] as const;

function ChangeTable({ summary }: TableProps) {
  const rates = RATES.filter(([name]) => summary.pairs.some((pair) => pair[name]));
  if (!rates.length) return null;
  return (
    <PairTable
      summary={summary}
      caption="Changes of rates, right minus left"
      items={summary.pairs}
      pairOf={itself}
      columns={rates.flatMap(([name, title]) => [
        differenceColumn(title, summary.pairs, (pair: Pair) => pair[name], points),
        { name: `p (${title})`, numeric: true, cell: (pair: Pair) => asProbability(pair[name]?.mcnemar_p) },
      ])}
    />
  );
}

function LengthTable({ summary }: TableProps) {
  const scale = scaleOf(
    summary.pairs.map((pair) => pair.length.controlled),
    0.5,
  );
  return (
    <PairTable
      summary={summary}
      caption="Effects of length"
      items={summary.pairs}
      pairOf={itself}
      columns={[
        {
          name: `mean ${summary.pairs[0].length.unit}`,
          numeric: true,
          cell: ({ length }) => `${number(length.mean_right, 0)} − ${number(length.mean_left, 0)}`,
        },
        {
          name: "length-controlled",
          cell: (pair) => (
            <Interval interval={pair.length.controlled} scale={scale} kind={colourOf(summary, pair.right)} show={percent} />
          ),
        },
        { name: "length effect φ", numeric: true, cell: (pair) => asDecimal(pair.length.phi, 2, true) },
        {
          name: "same length, W / T / L",
          numeric: true,
          cell: ({ length: { matched } }) => `${matched.wins} / ${matched.ties} / ${matched.losses}`,
        },
        { name: "same length, ties as half", cell: (pair) => <Figure interval={pair.length.matched.win_share} show={percent} /> },
      ]}
    />
  );
}

function StyleTable({ summary }: TableProps) {
  const rows = summary.pairs.filter((pair) => pair.style);
  if (!rows.length) return null;
  const styleOf = (pair: Pair) => pair.style!;
  const styles = Object.keys(styleOf(rows[0]).effects);
  const scale = scaleOf(
    rows.map((pair) => styleOf(pair).controlled),
    0.5,
  );
  return (
    <PairTable
      summary={summary}
      caption="Effects of style"
      items={rows}
      pairOf={itself}
      columns={[
        ...styles
          .filter((name) => name !== "length")
          .map((name) => ({
            name: `mean ${name}`,
            numeric: true,
            cell: (pair: Pair) =>
              `${number(styleOf(pair).mean_right[name], 1)} − ${number(styleOf(pair).mean_left[name], 1)}`,
          })),
        {
          name: "style-controlled",
          cell: (pair) => (
            <Interval interval={styleOf(pair).controlled} scale={scale} kind={colourOf(summary, pair.right)} show={percent} />
          ),
        },
        ...styles.map((name) => ({
          name: `effect of ${name}`,
          numeric: true,
          cell: (pair: Pair) => asDecimal(styleOf(pair).effects[name], 2, true),
        })),
      ]}
    />
  );
}

function ScorerTables({ summary }: TableProps) {
  const rows = summary.pairs.flatMap((pair) =>
    Object.entries(pair.scorers).map(([judge, found]) => ({ pair, judge, found })),
  );
  if (!rows.length) return null;
  const agreements = summary.pairs.flatMap((pair) => pair.disagreement.map((found) => ({ pair, found })));
  return (
    <>
      <PairTable
        summary={summary}
        caption="Further scorers: right compared with left"
        items={rows}
        pairOf={(row) => row.pair}
        columns={[
          { name: "scorer", cell: (row) => row.judge },
          { name: "mean difference", cell: (row) => <Figure interval={row.pair.judges[row.judge]} show={signed} /> },
          ...winColumns(summary, rows, (row) => row.found, (row) => row.pair).slice(0, 2),
          { name: "p (Holm)", numeric: true, cell: (row) => asProbability(row.found.holm_p) },
        ]}
      />
      <PairTable
        summary={summary}
        caption="Where two scorers prefer different policies"
        items={agreements}
        pairOf={(row) => row.pair}
        columns={[
          { name: "scorers", cell: (row) => row.found.scorers.join(" and ") },
          { name: "both decide", numeric: true, cell: (row) => String(row.found.rate?.n ?? 0) },
          { name: "disagree", cell: (row) => <Figure interval={row.found.rate} show={percent} /> },
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
