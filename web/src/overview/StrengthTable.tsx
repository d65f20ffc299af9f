// Strengths of all policies on one scale.
import { Interval } from "../page/Interval";
import { endTexts, scaleOf } from "../page/intervals";
import { number, signed } from "../page/numbers";
import { PolicyName } from "../page/Policy";
import { ItemTable } from "../page/Table";
import { colourOf, type TableProps } from "./PairTables";

export function StrengthTable({ summary }: TableProps) {
  const { strengths, baseline } = summary;
  if (!strengths) return null;
  const scale = scaleOf(strengths.policies, 0);
  return (
    <ItemTable
      caption="Strengths: Bradley–Terry with Rao–Kupper ties"
      items={strengths.policies}
      rowName="policy"
      rowHead={(row) => <PolicyName name={row.policy} policies={summary.policies} />}
      columns={[
        {
          name: `strength over ${baseline}, nats`,
          axis: endTexts(scale, signed),
          cell: (row) =>
            row.policy === baseline ? (
              "0"
            ) : (
              <Interval interval={row} scale={scale} kind={colourOf(summary, row.policy)} show={signed} />
            ),
        },
        { name: "400-point scale", numeric: true, cell: (row) => number((400 / Math.LN10) * row.value, 0, true) },
      ]}
    />
  );
}
