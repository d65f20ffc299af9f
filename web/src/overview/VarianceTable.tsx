// The variance of a difference: of prompts, of samples, and what more samples would give.
import type { Pair } from "../contract";
import { digits } from "../page/Table";
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
        digits("Var(prompt)", (pair: Pair) => asDecimal(pair.variance?.prompt)),
        digits("Var(sample)", (pair: Pair) => asDecimal(pair.variance?.sample)),
        digits(`standard error, ${summary.samples} samples`, (pair: Pair) => asDecimal(pair.standard_error)),
        digits("16 samples", (pair: Pair) => asDecimal(pair.variance?.standard_errors["16"])),
        digits("any number", (pair: Pair) => asDecimal(pair.variance?.limit)),
      ]}
    />
  );
}
