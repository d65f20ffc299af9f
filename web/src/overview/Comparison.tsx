// The comparison of the policies: all of them in one table, then every pair.
import type { PageData, Summary } from "../contract";
import { Section } from "../page/Section";
import { PairTables } from "./PairTables";
import { PolicyTable } from "./PolicyTable";

export function Comparison({ data, summary }: { data: PageData; summary: Summary }) {
  return (
    <Section id="comparison" title="Comparison">
      <h3>All policies</h3>
      <PolicyTable summary={summary} examples={data.examples} />
      {summary.pairs.length ? (
        <>
          <h3>Pairs</h3>
          <PairTables summary={summary} />
        </>
      ) : null}
    </Section>
  );
}
