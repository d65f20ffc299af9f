// The variance of a difference: of prompts, of samples, and what more samples would give.
import { asDecimal, PairTable, type TableProps } from "./PairTables";

export function VarianceTable({ summary }: TableProps) {
  const rows = summary.pairs.filter((pair) => pair.variance);
  if (!rows.length) return null;
  return (
    <PairTable
      summary={summary}
      caption="Variance of the difference"
      items={rows}
      pairOf={(pair) => pair}
      columns={[
        { name: "Var(prompt)", numeric: true, cell: (pair) => asDecimal(pair.variance?.prompt) },
        { name: "Var(sample)", numeric: true, cell: (pair) => asDecimal(pair.variance?.sample) },
        {
          name: `standard error, ${summary.samples} samples`,
          numeric: true,
          cell: (pair) => asDecimal(pair.standard_error),
        },
        { name: "16 samples", numeric: true, cell: (pair) => asDecimal(pair.variance?.standard_errors["16"]) },
        { name: "any number", numeric: true, cell: (pair) => asDecimal(pair.variance?.limit) },
      ]}
    />
  );
}
